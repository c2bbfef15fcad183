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
///
/// apt's lists are brought up to date first: a list that is months old names packages that are gone from the server, or,
/// worse, installs a version too old to be of use.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    println!("setup: updating apt's list of packages");
    if let Err(error) = process::run(Command::new("apt-get").args(["-qq", "update"])) {
        // One source of many may be out of reach. If it is the one that matters, installing says so.
        println!("setup: going on with the lists there are, because they could not all be updated: {error:#}");
    }
    let (known, unknown): (Vec<&str>, Vec<&str>) = packages.iter().partition(|package| is_known(package));
    for package in unknown {
        println!("setup: apt has no package {package} here");
    }
    if known.is_empty() {
        return Ok(());
    }
    process::run(&mut install_command(&known)).context("the packages could not be installed")
}

/// Whether apt's list of packages has it.
pub(super) fn is_known(package: &str) -> bool {
    process::succeeds(Command::new("apt-cache").args(["show", package]))
}

fn install_command(packages: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(["-q", "-y", "--no-install-recommends", "install"]).args(packages);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}
