//! `cargo xtask test`: everything that must hold before a change lands.

use std::{
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Result, bail};

use crate::{
    ebpf, process, setup,
    smoke::{self, Counted},
    workspace,
};

/// Sets up, then takes every step, also after one has failed. The last line counts steps and tests in the lab.
pub(crate) fn run() -> Result<ExitCode> {
    let start = Instant::now();
    let mut counted = Counted::default();
    step(&mut counted, "set-up", || match setup::run()? {
        ExitCode::SUCCESS => Ok(()),
        _ => bail!("see above what is missing"),
    });
    if counted.failed > 0 {
        return Ok(verdict(counted, start));
    }
    step(&mut counted, "rustfmt", || cargo(&["fmt", "--all", "--", "--check"]));
    let clippy = ["clippy", "--all-targets", "--features", "shared-msr-cli/lab", "--quiet", "--", "--deny", "warnings"];
    step(&mut counted, "clippy, all targets", || cargo(&clippy));
    step(&mut counted, "clippy, kernel-side programs", || ebpf::find().and_then(|tool_chain| ebpf::lint(&tool_chain)));
    step(&mut counted, "unit and CLI tests", || cargo(&["test", "--quiet", "--no-fail-fast"]));
    // Each starts an emulator, which keeps one CPU busy.
    step(&mut counted, "tests of the lab itself", || {
        // Of all packages as above, not of `--package xtask`: that has other features of its dependencies, and builds them anew.
        cargo(&["test", "--quiet", "--bin", "xtask", "--", "--ignored", "--test-threads", "2"])
    });
    lab(&mut counted, &smoke::Selection::default());
    Ok(verdict(counted, start))
}

/// `cargo xtask smoke`
pub(crate) fn smoke(selection: &smoke::Selection) -> ExitCode {
    let start = Instant::now();
    let mut counted = Counted::default();
    lab(&mut counted, selection);
    verdict(counted, start)
}

fn lab(counted: &mut Counted, selection: &smoke::Selection) {
    match smoke::run(selection) {
        Ok(of_lab) => counted.add(of_lab),
        Err(error) => {
            println!("FAIL  the tests in the lab: {error:#}");
            counted.add(Counted { passed: 0, failed: 1 });
        }
    }
}

/// Prints the last line, and says with which status to exit.
fn verdict(counted: Counted, start: Instant) -> ExitCode {
    let Counted { passed, failed } = counted;
    println!("\n{passed} passed, {failed} failed in {} s", start.elapsed().as_secs());
    // A run in which nothing was tested proves nothing.
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn cargo(arguments: &[&str]) -> Result<()> {
    let mut command: Command = process::cargo();
    process::run(command.current_dir(workspace::root()).args(arguments))
}

fn step(counted: &mut Counted, what: &str, take: impl FnOnce() -> Result<()>) {
    let start = Instant::now();
    let result = take();
    let seconds = start.elapsed().as_secs();
    match result {
        Ok(()) => {
            println!("ok    {what}, {seconds} s");
            counted.passed += 1;
        }
        Err(error) => {
            println!("FAIL  {what}, {seconds} s: {error:#}");
            counted.failed += 1;
        }
    }
}
