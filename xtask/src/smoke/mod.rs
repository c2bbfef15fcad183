//! Smoke tests: what the built `shared-msr` says in the lab, held against what the kernel and the guest say themselves.
//!
//! A scenario is a shell script that runs in the lab and prints sections, and a function here that checks them.

mod checks;
mod errors;
mod exact;
mod inside;
mod killed;
mod lab_itself;
mod sections;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};

pub(crate) use checks::Checks;
use sections::Sections;

use crate::{
    lab::{self, KernelChoice, LabFile, LabOptions},
    workspace,
};

/// The kernels that the exact scenario runs on; the others take the newer.
const KERNELS: [&str; 2] = ["6.1", "6.12"];
const NEWEST: &str = KERNELS[1];

/// Runs all scenarios and counts their checks.
pub(crate) fn run(checks: &mut Checks) {
    for kernel in KERNELS {
        scenario(checks, &Scenario { name: "exact", kernel, smp: 1, load_modules: true }, exact::check);
    }
    scenario(checks, &Scenario { name: "inside", kernel: NEWEST, smp: 2, load_modules: true }, inside::check);
    scenario(checks, &Scenario { name: "errors", kernel: NEWEST, smp: 1, load_modules: false }, errors::check);
    scenario(checks, &Scenario { name: "killed", kernel: NEWEST, smp: 1, load_modules: true }, killed::check);
    lab_itself::check(checks, NEWEST);
}

struct Scenario {
    /// Also the name of its script.
    name: &'static str,
    kernel: &'static str,
    smp: u32,
    load_modules: bool,
}

fn scenario(checks: &mut Checks, scenario: &Scenario, check: fn(&mut Checks, &Sections) -> Result<()>) {
    checks.enter(&format!("lab amd {} {}", scenario.kernel, scenario.name));
    let result = boot(scenario).and_then(|sections| check(checks, &sections));
    if let Err(error) = result {
        checks.check("the scenario runs to its end", false, &format!("{error:#}"));
    }
}

fn boot(scenario: &Scenario) -> Result<Sections> {
    let script = |file: String| LabFile { source: folder().join(&file), destination: format!("/smoke/{file}") };
    let options = LabOptions {
        kernel: KernelChoice::Series(scenario.kernel.to_owned()),
        smp: scenario.smp,
        timeout: Duration::from_secs(300),
        load_modules: scenario.load_modules,
        files: vec![script("lib.sh".to_owned()), script(format!("{}.sh", scenario.name))],
        ..LabOptions::new(["sh".to_owned(), format!("/smoke/{}.sh", scenario.name)])
    };
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
    workspace::root().join("xtask/src/smoke")
}
