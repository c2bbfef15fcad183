//! Smoke tests: what the built `shared-msr` says in the lab, held against what the kernel and the guest say themselves.
//!
//! A scenario is a shell script that runs in the lab and prints sections, and a function here that checks them.

mod checks;
mod churn;
mod contention;
mod crowd;
mod formats;
mod kvm_exits;
mod lab_itself;
mod matrix;
mod migrate;
mod sections;
mod shapes;
mod sound;
mod summary;
mod switched_off;
mod top;
mod two_guests;
mod unplug;
mod unreadable;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};

pub(crate) use checks::Checks;
use matrix::Expected;
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
    crowd(
        checks,
        &mut lines,
        Scenario { smp: 2, ..Scenario::new("crowd", USUAL) },
        3,
        &["yes", "0xa01", "0xa02", "0xa03", "host"],
    );
    // 6.1 is like 6.12 in what the next one is about.
    let different = if all { &AMD[..] } else { &[USUAL] };
    for kernel in [UNUSED].iter().chain(different).copied() {
        let of = Scenario::new("unreadable", kernel);
        scenario(checks, &mut lines, &of, |checks, sections| unreadable::check(checks, sections, kernel == UNUSED));
    }
    scenario(checks, &mut lines, &Scenario::new("contention", USUAL), contention::check);
    scenario(checks, &mut lines, &Scenario::new("two_guests", USUAL), two_guests::check);
    scenario(checks, &mut lines, &Scenario { example: Some("drive_top"), ..Scenario::new("top", USUAL) }, top::check);
    scenario(checks, &mut lines, &Scenario { smp: 2, ..Scenario::new("churn", USUAL) }, churn::check);
    scenario(checks, &mut lines, &Scenario { smp: 2, ..Scenario::new("migrate", USUAL) }, migrate::check);
    scenario(checks, &mut lines, &Scenario { smp: 2, ..Scenario::new("unplug", USUAL) }, unplug::check);
    scenario(checks, &mut lines, &Scenario::new("formats", USUAL), formats::check);
    scenario(checks, &mut lines, &Scenario::new("switched_off", USUAL), switched_off::check);
    for kernel in AMD {
        let of = Scenario { smp: 2, ..Scenario::new("shapes", kernel) };
        shapes(checks, &mut lines, of, &shapes::runs(all, kernel == USUAL));
    }
    let exits = Scenario { arguments: kvm_exits::guest(), ..Scenario::new("kvm_exits", USUAL) };
    scenario(checks, &mut lines, &exits, kvm_exits::check);
    for kernel in amd {
        ladder(checks, &mut lines, Scenario::new("matrix", kernel), AMD_HOST);
    }
    for kernel in intel {
        let expected = Expected { module_btf: *kernel != WITHOUT_MODULE_BTF, ..INTEL_HOST };
        ladder(checks, &mut lines, Scenario { host: Host::Intel, ..Scenario::new("matrix", kernel) }, expected);
    }
    let exits = Scenario { host: Host::Intel, kernel: INTEL[0], ..exits };
    scenario(checks, &mut lines, &exits, kvm_exits::check);
    if all || selection.only.is_some() {
        shapes(checks, &mut lines, Scenario { host: Host::Intel, ..Scenario::new("shapes", "6.1") }, &shapes::two_runs());
    }
    if all {
        // One guest, one report each: Bochs is slow, and busy guests make it slower.
        crowd(checks, &mut lines, Scenario { host: Host::Intel, ..Scenario::new("crowd", "6.1") }, 1, &["no", "0xa01"]);
        let scenario_of_old = Scenario { arguments: AMD_HOST.guest(), ..Scenario::new("matrix", UNUSED) };
        scenario(checks, &mut lines, &scenario_of_old, |checks, sections| matrix::check_unused(checks, sections, UNUSED));
        let penryn = Scenario { host: Host::Intel, cpu_model: Some(WITHOUT_EFER_CONTROL), ..Scenario::new("matrix", "6.1") };
        ladder(checks, &mut lines, penryn, PENRYN_HOST);
    }
    if selection.only.is_none() {
        lab_itself::check(checks, USUAL);
    }
    summary::print(&lines.lines);
}

/// QEMU's AMD CPU: the mechanism has one MSR.
const AMD_HOST: Expected = Expected {
    outs: 200,
    cpuids: 10,
    hlts: 50,
    tsc_aux: true,
    loaded: &["TSC_AUX"],
    skipped: &[],
    never_loaded: &[],
    module_btf: true,
};
/// Bochs' Haswell: four of six are loaded for a 64-bit guest.
const INTEL_HOST: Expected = Expected {
    outs: 100,
    cpuids: 10,
    hlts: 1,
    tsc_aux: true,
    skipped: &[],
    loaded: &["STAR", "LSTAR", "SYSCALL_MASK", "TSC_AUX"],
    never_loaded: &["CSTAR", "EFER"],
    module_btf: true,
};
/// A CPU whose VMCS cannot switch EFER, so that KVM's list is what switches it: our guest's is the host's but for bits that KVM
/// ignores, so it is skipped. It has no RDTSCP.
const WITHOUT_EFER_CONTROL: &str = "core2_penryn_t9600";
const PENRYN_HOST: Expected = Expected {
    tsc_aux: false,
    loaded: &["STAR", "LSTAR", "SYSCALL_MASK"],
    skipped: &["EFER"],
    never_loaded: &["CSTAR"],
    ..INTEL_HOST
};

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

fn ladder(checks: &mut Checks, lines: &mut Lines, of: Scenario, expected: Expected) {
    let of = Scenario { arguments: expected.guest(), ..of };
    scenario(checks, lines, &of, |checks, sections| matrix::check(checks, sections, &expected, of.kernel));
}

fn crowd(checks: &mut Checks, lines: &mut Lines, of: Scenario, reports: u32, guests: &[&str]) {
    let guests = guests.iter().map(|argument| (*argument).to_owned());
    let of = Scenario { arguments: std::iter::once(reports.to_string()).chain(guests).collect(), ..of };
    scenario(checks, lines, &of, |checks, sections| crowd::check(checks, sections, reports));
}

fn shapes(checks: &mut Checks, lines: &mut Lines, of: Scenario, runs: &[shapes::Run]) {
    let of = Scenario { example: Some("shapes"), arguments: shapes::arguments(runs), ..of };
    scenario(checks, lines, &of, |checks, sections| shapes::check(checks, sections, runs));
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
