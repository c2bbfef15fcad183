//! Starts hosts, two at once, and runs their tests.

use std::{
    collections::BTreeSet,
    num::NonZero,
    process::Command,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    events::{Events, Outcome},
    plan::Boot,
};
use crate::{
    lab::{self, KernelChoice, LabFile, LabOptions},
    product::LabBuild,
};

/// How long one host may take for all its tests.
const PATIENCE: Duration = Duration::from_secs(1800);
/// Each emulator keeps one CPU of this machine busy.
const HOSTS_AT_ONCE: usize = 2;

/// A host and those tests that run there.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) boot: Boot,
    pub(super) tests: Vec<String>,
}

/// What a host's tests came to.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) job: Job,
    /// Of each of the tests, whatever happened.
    pub(super) outcomes: Vec<Outcome>,
    /// From start to end.
    pub(super) took: Duration,
}

/// The names of all tests that there are.
pub(super) fn list(build: &LabBuild) -> Result<Vec<String>> {
    let output = Command::new(&build.tests).arg("--list").output().context("cannot run the tests' program")?;
    if !output.status.success() {
        bail!("the tests' program does not list its tests: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout).context("names of tests are text")?;
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}

/// Runs the jobs and says of each outcome as it comes.
pub(super) fn run(build: &LabBuild, jobs: Vec<Job>, tell: impl Fn(&Boot, &Outcome) + Sync) -> Vec<Done> {
    let waiting = Mutex::new(jobs.into_iter());
    let done = Mutex::new(Vec::new());
    let next = || waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
    let at_once = thread::available_parallelism().map_or(1, NonZero::get).min(HOSTS_AT_ONCE);
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(job) = next() {
                    let one = host(build, job, &tell);
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(one);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Starts one host and runs its tests. Those of which nothing is heard have failed.
fn host(build: &LabBuild, job: Job, tell: &(impl Fn(&Boot, &Outcome) + Sync)) -> Done {
    let start = Instant::now();
    let mut outcomes = Vec::new();
    let result = boot(build, &job, |outcome| {
        tell(&job.boot, &outcome);
        outcomes.push(outcome);
    });
    let why = match result {
        Ok(()) => "the tests' program did not run it".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    let heard: BTreeSet<String> = outcomes.iter().map(|outcome| outcome.test.clone()).collect();
    for test in job.tests.iter().filter(|test| !heard.contains(*test)) {
        let outcome = Outcome { test: test.clone(), passed: false, output: why.clone(), took: Duration::ZERO };
        tell(&job.boot, &outcome);
        outcomes.push(outcome);
    }
    Done { outcomes, took: start.elapsed(), job }
}

fn boot(build: &LabBuild, job: &Job, tell: impl FnMut(Outcome)) -> Result<()> {
    let boot = &job.boot;
    let variables = [
        // The JSON of libtest is not stable: this says that we know.
        "RUSTC_BOOTSTRAP=1".to_owned(),
        format!("LAB_HOST={}", boot.host.name()),
        format!("LAB_KERNEL={}", boot.kernel),
        format!("LAB_CPU_MODEL={}", boot.cpu_model.unwrap_or_default()),
    ];
    let program = ["lab-tests", "-Zunstable-options", "--format=json", "--show-output", "--test-threads=1", "--exact"];
    let command = std::iter::once("env".to_owned()).chain(variables).chain(program.map(str::to_owned));
    let file = |source: &std::path::Path, name: &str| LabFile { source: source.to_owned(), destination: format!("/bin/{name}") };
    let examples = build.examples.iter().map(|(name, path)| file(path, name));
    let options = LabOptions {
        host: boot.host,
        accel: boot.accel,
        cpu_model: boot.cpu_model.map(str::parse).transpose().map_err(anyhow::Error::msg)?,
        kernel: KernelChoice::Series(boot.kernel.to_owned()),
        smp: boot.smp,
        timeout: PATIENCE,
        shared_msr: Some(build.shared_msr.clone()),
        load_modules: boot.load_modules,
        icount: boot.icount,
        vmm: boot.vmm,
        kernel_arguments: boot.kernel_arguments.to_owned(),
        files: std::iter::once(file(&build.tests, "lab-tests")).chain(examples).collect(),
        ..LabOptions::new(command.chain(job.tests.iter().cloned()))
    };
    let (mut events, mut errors) = (Events::new(tell), Vec::new());
    let run = lab::run(&options, &mut events, &mut errors)?;
    let said = format!("{} {}", events.words.trim(), String::from_utf8_lossy(&errors).trim());
    match run.problem {
        Some(problem) => bail!("{problem} {said}"),
        // 101 is libtest's when a test failed.
        None if ![0, 101].contains(&run.status) => bail!("the tests' program ended with status {}: {said}", run.status),
        None => Ok(()),
    }
}
