//! Smoke tests: runs `shared-msr-cli/tests/lab` on emulated hosts.

mod accel;
mod compatibility;
mod events;
mod plan;
mod results;
mod run;
mod summary;

use anyhow::{Result, bail};

use crate::{
    lab::{AccelChoice, Machine},
    product,
};
use events::Outcome;
use plan::Boot;
use results::Results;
use run::Job;

/// Which tests to run.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Selection {
    /// On every kernel and host of docs/compatibility.md, not only on the few that `cargo xtask test` takes. Downloads them
    /// once
    #[arg(long)]
    pub(crate) all: bool,
    /// Only tests whose "HOST KERNEL SCENARIO::TEST" contains this, such as "intel 6.1" or "errors". A number is meant whole: 6.1 is
    /// not 6.12
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Option<String>,
    /// Write the table of docs/compatibility.md from what is known of this build: this run, and those before it
    #[arg(long)]
    pub(crate) table: bool,
    /// What the hosts run on. What the tests expect was found on emulated ones; under KVM a host has this machine's CPU, and
    /// hosts of the other vendor, or with a CPU of their own, are left out
    #[arg(long, value_enum, default_value_t)]
    pub(crate) accel: AccelChoice,
}

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

impl Counted {
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Runs the tests. Each is told as it ends, and a table of all scenarios comes last.
pub(crate) fn run(selection: &Selection) -> Result<Counted> {
    let build = product::build_for_tests()?;
    let jobs = jobs(&run::list(&build)?, selection)?;
    let jobs = accel::choose(jobs, selection.accel, &Machine::this())?;
    println!("\nlab");
    let done = run::run(&build, jobs, tell);
    summary::print(&done);
    let mut results = Results::load(&build)?;
    results.keep(&done)?;
    if selection.table {
        compatibility::write(&results)?;
    }
    let outcomes = || done.iter().flat_map(|one| &one.outcomes);
    let passed = outcomes().filter(|outcome| outcome.passed).count();
    Ok(Counted { passed, failed: outcomes().count() - passed })
}

/// Gives each boot its tests. A test that no boot takes would never run.
fn jobs(tests: &[String], selection: &Selection) -> Result<Vec<Job>> {
    let boots = plan::boots();
    if let Some(test) = tests.iter().find(|test| !boots.iter().any(|boot| boot.takes(test))) {
        bail!("no host of xtask/src/smoke/plan.rs runs the test {test}");
    }
    if let Some(path) = boots.iter().flat_map(|boot| boot.tests).find(|path| !tests.iter().any(|test| plan::leads_to(path, test)))
    {
        bail!("xtask/src/smoke/plan.rs names {path}, but there is no such test");
    }
    // Who names a test wants it also where it is not usual.
    let wanted = |boot: &Boot| boot.usual || selection.all || selection.only.is_some();
    let named = |boot: &Boot, test: &str| {
        let name = format!("{} {test}", boot.place());
        selection.only.as_ref().is_none_or(|only| has_in_it(&name, only))
    };
    let jobs = boots.into_iter().filter(wanted).map(|boot| {
        let tests = tests.iter().filter(|test| boot.takes(test) && named(&boot, test)).cloned().collect();
        Job { boot, tests }
    });
    Ok(jobs.filter(|job| !job.tests.is_empty()).collect())
}

/// Whether a text is part of another one and does not end, or begin, in the middle of a number.
fn has_in_it(whole: &str, part: &str) -> bool {
    let digit = |character: Option<char>| character.is_some_and(|character| character.is_ascii_digit());
    let is_cut = |left: &str, right: &str| digit(left.chars().next_back()) && digit(right.chars().next());
    whole.match_indices(part).any(|(at, _)| !is_cut(&whole[..at], part) && !is_cut(part, &whole[at + part.len()..]))
}

fn tell(boot: &Boot, outcome: &Outcome) {
    let verdict = if outcome.passed { "ok  " } else { "FAIL" };
    println!("  {verdict}  {} {}  {:.1} s", boot.place(), outcome.test, outcome.took.as_secs_f64());
    if !outcome.passed {
        for line in outcome.output.lines() {
            println!("        {line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_meant_whole_and_words_need_not_be() {
        let test = "amd 6.12 stalled::times::an_interval_too_long_for_the_clock_is_no_panic";
        for part in ["amd 6.12", "6.12 stalled", "md 6", "6.12", "times", "stall", "", test] {
            assert!(has_in_it(test, part), "{part}");
        }
        for part in ["amd 6.1", "6.1", "2 stalled", "6.12 times", "7.2"] {
            assert!(!has_in_it(test, part), "{part}");
        }
        assert!(has_in_it("amd 6.12 a::from_6.1_on", "6.1"), "somewhere else it is whole");
    }
}
