//! `cargo xtask test`: everything that must hold before a change lands.

use std::{
    io::{self, Write as _},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    ebpf,
    lab::AccelChoice,
    process, setup, smoke,
    smoke_scripts::{self, Checks},
    workspace,
};

/// Sets up, then runs every check, also after one has failed. The last line counts them.
pub(crate) fn run() -> Result<ExitCode> {
    let mut checks = Checks::default();
    checks.enter("set-up");
    let ready =
        setup::run().and_then(|ready| if ready == ExitCode::SUCCESS { Ok(()) } else { bail!("see above what is missing") });
    checks.check("all that the build and the lab need is there", ready.is_ok(), &outcome(&ready));
    if ready.is_err() {
        return Ok(verdict(&checks));
    }
    checks.enter("formatting and lints");
    step(&mut checks, "rustfmt", cargo(&["fmt", "--all", "--", "--check"]));
    step(&mut checks, "clippy, all targets", cargo(&["clippy", "--all-targets", "--quiet", "--", "--deny", "warnings"]));
    let bpf_lints = ebpf::find().and_then(|tool_chain| ebpf::lint(&tool_chain));
    checks.check("clippy, kernel-side programs", bpf_lints.is_ok(), &outcome(&bpf_lints));
    checks.enter("unit and CLI tests");
    tests(&mut checks);
    lab(&mut checks, &smoke::Selection::default());
    Ok(verdict(&checks))
}

/// `cargo xtask smoke`
pub(crate) fn smoke(selection: &smoke::Selection) -> Result<ExitCode> {
    let mut checks = Checks::default();
    lab(&mut checks, selection);
    Ok(verdict(&checks))
}

fn lab(checks: &mut Checks, selection: &smoke::Selection) {
    match smoke::run(selection) {
        Ok(counted) => {
            checks.passed += counted.passed as u64;
            checks.failed += counted.failed as u64;
        }
        Err(error) => checks.check("the tests in the lab run", false, &format!("{error:#}")),
    }
    if selection.accel == AccelChoice::Kvm {
        println!("left out: the scenarios of xtask/src/smoke_scripts, which run on emulated hosts only");
        return;
    }
    smoke_scripts::run(checks, selection);
}

/// Prints the last line, and says with which status to exit.
fn verdict(checks: &Checks) -> ExitCode {
    println!("\n{} passed, {} failed", checks.passed, checks.failed);
    // A run without a single check proves nothing.
    if checks.failed == 0 && checks.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = process::cargo();
    command.current_dir(workspace::root()).args(arguments);
    command
}

fn step(checks: &mut Checks, what: &str, mut command: Command) {
    let result = process::run(&mut command);
    checks.check(what, result.is_ok(), &outcome(&result));
}

fn outcome(result: &Result<()>) -> String {
    result.as_ref().map_or_else(|error| format!("{error:#}"), |()| "clean".to_owned())
}

/// Runs `cargo test` and counts each test it ran.
fn tests(checks: &mut Checks) {
    match run_tests() {
        Ok((output, success)) => {
            let (passed, failed) = count(&output);
            checks.passed += passed;
            checks.failed += failed;
            println!("  {passed} tests passed, {failed} failed");
            // A program that does not compile, or aborts, has no line with its results.
            if passed == 0 || (!success && failed == 0) {
                checks.check("cargo test runs", false, "it did not end well, see above");
            }
        }
        Err(error) => checks.check("cargo test runs", false, &format!("{error:#}")),
    }
}

fn run_tests() -> Result<(String, bool)> {
    let mut command = cargo(&["test", "--quiet", "--no-fail-fast"]);
    let output = command.stderr(Stdio::inherit()).output().context("cannot run cargo test")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        io::stdout().write_all(text.as_bytes())?;
    }
    Ok((text, output.status.success()))
}

/// Sums the lines "test result: ok. 12 passed; 0 failed; ...".
fn count(output: &str) -> (u64, u64) {
    let results = output.lines().filter_map(|line| line.strip_prefix("test result: "));
    results.fold((0, 0), |(passed, failed), line| (passed + before(line, " passed"), failed + before(line, " failed")))
}

/// The number right before `word`.
fn before(line: &str, word: &str) -> u64 {
    line.split(word).next().and_then(|start| start.rsplit(' ').next()).and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn the_results_of_all_test_programs_are_summed() {
        let output = "running 2 tests\n..\ntest result: ok. 12 passed; 0 failed; 0 ignored; 0 measured\n\
                      test result: FAILED. 3 passed; 2 failed; 1 ignored\n";
        assert_eq!(count(output), (15, 2));
        assert_eq!(count(""), (0, 0));
    }
}
