//! Debian's packages.

use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

/// Whether this is a Debian-like system.
pub(super) fn is_there() -> bool {
    process::on_path("apt-get") && process::on_path("dpkg")
}

/// Whether we may install packages.
pub(crate) fn is_root() -> bool {
    // SAFETY: this call has no arguments and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Installs packages, but for those that apt does not know.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    let mut updated = false;
    if !packages.iter().all(|package| is_known(package)) {
        update()?;
        updated = true;
    }
    let (known, unknown): (Vec<&str>, Vec<&str>) = packages.iter().partition(|package| is_known(package));
    for package in unknown {
        println!("setup: apt has no package {package} here");
    }
    if known.is_empty() {
        return Ok(());
    }
    let mut result = process::run(&mut install_command(&known));
    if result.is_err() && !updated {
        // The list of packages may be so old that they are gone from the server.
        update()?;
        result = process::run(&mut install_command(&known));
    }
    result.context("the packages could not be installed")
}

/// Whether apt's list of packages has it.
pub(super) fn is_known(package: &str) -> bool {
    process::succeeds(Command::new("apt-cache").args(["show", package]))
}

fn update() -> Result<()> {
    println!("setup: updating apt's list of packages");
    process::run(Command::new("apt-get").args(["-qq", "update"]))
}

fn install_command(packages: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(["-q", "-y", "--no-install-recommends", "install"]).args(packages);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}
