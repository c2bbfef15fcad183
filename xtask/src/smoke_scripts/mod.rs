//! Smoke tests: what the built `shared-msr` says in the lab, held against what the kernel and the guest say themselves.
//!
//! A scenario is a shell script that runs in the lab and prints sections, and a function here that checks them.

mod checks;
mod churn;
mod contention;
mod errors;
mod killed;
mod migrate;
mod names;
mod reloaded;
mod sections;
mod sound;
mod stalled;
mod summary;
mod two_guests;
mod unplug;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};

pub(crate) use checks::Checks;
use sections::Sections;
use summary::{Line, Summary};

use crate::{
    lab::{self, Host, KernelChoice, LabFile, LabOptions},
    product,
    smoke::Selection,
    workspace,
};

/// AMD hosts that every test runs on, and all of them.
const AMD: [&str; 2] = ["6.1", "6.12"];
const ALL_AMD: [&str; 6] = ["6.1", "6.12", "6.16", "6.18", "7.2", "7.3"];
/// Intel hosts, the same.
const INTEL: [&str; 1] = ["6.1"];
const ALL_INTEL: [&str; 4] = ["5.10", "6.1", "6.12", "7.2"];
/// The kernel of the scenarios that are not about kernels.
const USUAL: &str = "6.12";
/// kvm_amd uses the mechanism from 5.13 on.
const UNUSED: &str = "5.10";
/// The first series with BTF of modules (5.11).
const WITHOUT_MODULE_BTF: &str = "5.10";

/// Runs the scenarios and counts their checks.
pub(crate) fn run(checks: &mut Checks, selection: &Selection) {
    let mut lines = Lines { selection: selection.clone(), lines: Vec::new() };
    let all = selection.all;
    let (amd, intel) = if all { (&ALL_AMD[..], &ALL_INTEL[..]) } else { (&AMD[..], &INTEL[..]) };
    scenario(checks, &mut lines, &Scenario { load_modules: false, ..Scenario::new("errors", USUAL) }, errors::check);
    // 6.1 is like 6.12 in what `reloaded` is about.
    let different = if all { &AMD[..] } else { &[USUAL] };
    scenario(checks, &mut lines, &Scenario::new("killed", USUAL), killed::check);
    scenario(checks, &mut lines, &Scenario::new("stalled", USUAL), stalled::check);
    scenario(checks, &mut lines, &Scenario::new("contention", USUAL), contention::check);
    scenario(checks, &mut lines, &Scenario::new("two_guests", USUAL), two_guests::check);
    scenario(checks, &mut lines, &Scenario::new("names", USUAL), names::check);
    scenario(checks, &mut lines, &Scenario { smp: 2, ..Scenario::new("churn", USUAL) }, churn::check);
    scenario(checks, &mut lines, &Scenario { smp: 2, ..Scenario::new("migrate", USUAL) }, migrate::check);
    scenario(checks, &mut lines, &Scenario { smp: 2, ..Scenario::new("unplug", USUAL) }, unplug::check);
    for kernel in different.iter().copied() {
        let of = Scenario { arguments: vec!["kvm_amd".to_owned()], ..Scenario::new("reloaded", kernel) };
        scenario(checks, &mut lines, &of, reloaded::check);
    }
    summary::print(&lines.lines);
}

#[derive(Clone, Debug)]
struct Scenario {
    /// Also the name of its script.
    name: &'static str,
    host: Host,
    cpu_model: Option<&'static str>,
    kernel: &'static str,
    smp: u32,
    load_modules: bool,
    /// Of the script.
    arguments: Vec<String>,
    /// An example of `shared-msr-cli` that the script runs.
    example: Option<&'static str>,
}

impl Scenario {
    fn new(name: &'static str, kernel: &'static str) -> Self {
        Self { name, host: Host::Amd, cpu_model: None, kernel, smp: 1, load_modules: true, arguments: Vec::new(), example: None }
    }

    /// For people.
    fn host(&self) -> String {
        let host = format!("{:?}", self.host).to_lowercase();
        self.cpu_model.map_or_else(|| host.clone(), |model| format!("{host} {model}"))
    }
}

fn scenario<R: Into<Summaries>>(
    checks: &mut Checks,
    lines: &mut Lines,
    scenario: &Scenario,
    check: impl FnOnce(&mut Checks, &Sections) -> Result<R>,
) {
    let place = format!("{} {} {}", scenario.host(), scenario.kernel, scenario.name);
    if lines.selection.only.as_ref().is_some_and(|only| !place.contains(only.as_str())) {
        return;
    }
    checks.enter(&format!("lab {place}"));
    let (passed, failed) = (checks.passed, checks.failed);
    let result = boot(scenario).and_then(|sections| check(checks, &sections));
    let Summaries(mut summaries) = match result {
        Ok(summaries) => summaries.into(),
        Err(error) => {
            checks.check("the scenario runs to its end", false, &format!("{error:#}"));
            Summaries(Vec::new())
        }
    };
    if summaries.is_empty() {
        let numbers = format!("{} checks passed, {} failed", checks.passed - passed, checks.failed - failed);
        summaries.push(Summary { what: scenario.name.to_owned(), hooks: "-".to_owned(), numbers });
    }
    let verdict = if checks.failed == failed { "ok" } else { "FAIL" };
    lines.lines.extend(summaries.into_iter().map(|summary| Line {
        host: scenario.host(),
        kernel: scenario.kernel.to_owned(),
        summary,
        verdict,
    }));
}

/// The table as far as it is filled.
struct Lines {
    selection: Selection,
    lines: Vec<Line>,
}

/// What a scenario's check hands on: nothing, or several lines.
struct Summaries(Vec<Summary>);

impl From<()> for Summaries {
    fn from((): ()) -> Self {
        Self(Vec::new())
    }
}

impl From<Vec<Summary>> for Summaries {
    fn from(summaries: Vec<Summary>) -> Self {
        Self(summaries)
    }
}

fn boot(scenario: &Scenario) -> Result<Sections> {
    let script = |file: String| LabFile { source: folder().join(&file), destination: format!("/smoke/{file}") };
    let command = ["sh".to_owned(), format!("/smoke/{}.sh", scenario.name)].into_iter().chain(scenario.arguments.clone());
    let mut options = LabOptions {
        host: scenario.host,
        cpu_model: scenario.cpu_model.map(str::parse).transpose().map_err(anyhow::Error::msg)?,
        kernel: KernelChoice::Series(scenario.kernel.to_owned()),
        smp: scenario.smp,
        timeout: Duration::from_secs(600),
        load_modules: scenario.load_modules,
        files: vec![script("lib.sh".to_owned()), script(format!("{}.sh", scenario.name))],
        ..LabOptions::new(command)
    };
    if let Some(name) = scenario.example {
        options.files.push(LabFile { source: product::build_for_tests()?.example(name)?, destination: format!("/bin/{name}") });
    }
    let captured = lab::capture(&options)?;
    let errors = String::from_utf8_lossy(&captured.stderr).into_owned();
    if let Some(problem) = captured.run.problem {
        bail!("{problem} {errors}");
    }
    if captured.run.status != 0 {
        bail!("the script ends with status {}: {errors}", captured.run.status);
    }
    if !errors.trim().is_empty() {
        bail!("the script complains: {errors}");
    }
    let text = String::from_utf8(captured.stdout).context("the script printed something that is not text")?;
    Ok(Sections::parse(&text))
}

fn folder() -> PathBuf {
    workspace::root().join("xtask/src/smoke_scripts")
}
