//! `cargo xtask setup`: installs what the build and the lab need, and only what is missing.
//!
//! Nothing but apt-get and cargo is used to install. Where these cannot (no root, not Debian), the commands to run are
//! printed instead. rustup is asked what it has, never to download.

use std::process::ExitCode;

use anyhow::Result;

mod apt;
mod bpf_linker;
mod needs;

use crate::{ebpf, process};
use needs::{NEEDS, Need};

pub(crate) use apt::is_root;
pub(crate) use needs::static_busybox;

/// Installs what is missing. Fails with the commands to run if it may not or cannot.
pub(crate) fn run() -> Result<ExitCode> {
    hint_at_checkers();
    let missing = missing();
    if missing.is_empty() && bpf_linker::found() {
        println!("setup: nothing to do, all that the build and the lab need is there");
        name_tool_chain();
        return Ok(ExitCode::SUCCESS);
    }
    for need in &missing {
        println!("setup: missing: {}", need.what);
    }
    let packages: Vec<_> = missing.iter().flat_map(|need| need.packages).copied().collect();
    if !packages.is_empty() && is_root() && apt::is_there() {
        println!("setup: installing {} with apt-get", packages.join(" "));
        apt::install(&packages)?;
    }
    let missing = self::missing();
    // Needs a C compiler, perhaps one that has just been installed; but no root.
    if !bpf_linker::found() && needs::c_compiler() {
        println!("setup: building bpf-linker with cargo, which takes a few minutes");
        bpf_linker::install()?;
    }
    if missing.is_empty() && bpf_linker::found() {
        println!("setup: done");
        name_tool_chain();
        return Ok(ExitCode::SUCCESS);
    }
    println!("setup: still to do, then run `cargo xtask setup` again:");
    for line in commands(&missing, |need| apt::is_there() && need.packages.iter().all(|package| apt::is_known(package))) {
        println!("    {line}");
    }
    Ok(ExitCode::FAILURE)
}

/// Says which tool chain the kernel-side programs are built with.
fn name_tool_chain() {
    if let Ok(tool_chain) = ebpf::find() {
        println!("setup: the kernel-side programs are built with {tool_chain}");
    }
}

/// The needs that are not met.
fn missing() -> Vec<&'static Need> {
    NEEDS.iter().filter(|need| !(need.present)()).collect()
}

/// What to type where we cannot install: one command for what apt has, a line for each need that it has not.
fn commands(missing: &[&Need], in_apt: impl Fn(&Need) -> bool) -> Vec<String> {
    let (packaged, others): (Vec<&Need>, Vec<&Need>) = missing.iter().partition(|need| in_apt(need));
    let packages: Vec<_> = packaged.iter().flat_map(|need| need.packages).copied().collect();
    let mut lines: Vec<String> = others.iter().map(|need| need.elsewhere.to_owned()).collect();
    if !packages.is_empty() {
        lines.insert(0, format!("sudo apt-get install --no-install-recommends {}", packages.join(" ")));
    }
    lines
}

/// One sentence if rustfmt or clippy is missing; the build and the lab do without them.
fn hint_at_checkers() {
    for (tool, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if !process::succeeds(process::cargo().args([tool, "--version"])) {
            println!("setup: {component} is missing, which only contributors need: `rustup component add {component}`");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_debian_one_command_installs_all_that_is_missing() {
        let missing: Vec<_> = NEEDS.iter().filter(|need| need.what.contains("QEMU") || need.what.contains("C ")).collect();
        assert_eq!(commands(&missing, |_| true), ["sudo apt-get install --no-install-recommends gcc libc6-dev qemu-system-x86"]);
        assert!(commands(&[], |_| true).is_empty());
    }

    #[test]
    fn elsewhere_every_need_has_its_own_advice() {
        let missing: Vec<_> = NEEDS.iter().collect();
        let lines = commands(&missing, |_| false);
        assert_eq!(lines.len(), NEEDS.len());
        assert!(lines.iter().any(|line| line.contains("rustup component add rust-src")));
    }
}
