//! `shared-msr doctor`

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use aya::programs::loaded_programs;

use crate::probe::{
    probes::{PROGRAM_PREFIX, Probes},
    survey::{Finding, Survey},
};
use crate::report::number::counted;

/// Prints every finding; succeeds when `report` would work.
pub(super) fn run() -> anyhow::Result<ExitCode> {
    // Before our own programs are loaded: the kernel frees them some time after we let go of them.
    let asides = asides();
    let survey = Survey::make();
    let mut findings = survey.findings;
    if survey.hooks_can_be_tried {
        findings.extend(Probes::try_each(survey.setter));
    }
    let obstacles = findings.iter().filter(|finding| finding.outcome.is_err()).count();
    let mut text = String::new();
    for finding in findings.iter().chain(&asides) {
        text += &match &finding.outcome {
            Ok(found) => format!("ok    {:15} {found}\n", finding.topic),
            Err(obstacle) => {
                format!("FAIL  {:15} {}\n      {:15} cure: {}\n", finding.topic, obstacle.problem, "", obstacle.cure)
            }
        };
    }
    if !survey.hooks_can_be_tried {
        text += &format!("-     {:15} not tried, because of what is missing above\n", "hooks");
    }
    text += &match obstacles {
        0 => "\n`shared-msr report` works on this host.\n".to_owned(),
        1 => "\n`shared-msr report` does not work on this host: see the line with FAIL.\n".to_owned(),
        _ => format!("\n`shared-msr report` does not work on this host: see the {obstacles} lines with FAIL.\n"),
    };
    io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")?;
    Ok(if obstacles == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What does not stand in the way of a measurement, but is good to know.
fn asides() -> Vec<Finding> {
    let kvm_device = OpenOptions::new().read(true).write(true).open("/dev/kvm");
    let guest = match kvm_device {
        Ok(_) => "/dev/kvm can be used: `shared-msr guest` works".to_owned(),
        Err(error) => format!("/dev/kvm cannot be used ({error}): `shared-msr guest` does not work, all else does"),
    };
    let lockdown = match fs::read_to_string("/sys/kernel/security/lockdown") {
        Ok(modes) => format!("lockdown: {}", modes.trim()),
        Err(_) => "no lockdown".to_owned(),
    };
    [("guest", guest), ("security", lockdown), ("others", others()), ("built with", env!("SHARED_MSR_BPF_COMPILER").to_owned())]
        .into_iter()
        .map(|(topic, text)| Finding { topic, outcome: Ok(text) })
        .collect()
}

/// Programs of shared-msr that are in the kernel now.
fn others() -> String {
    let mut names = Vec::new();
    for program in loaded_programs() {
        match program {
            Ok(program) => names.extend(program.name_as_str().filter(|name| name.starts_with(PROGRAM_PREFIX)).map(str::to_owned)),
            Err(_) => return "the kernel does not list its BPF programs to this process".to_owned(),
        }
    }
    if names.is_empty() {
        return "no program of shared-msr is in the kernel".to_owned();
    }
    names.sort();
    format!(
        "the kernel holds {} of another shared-msr, or of one that has just ended ({})",
        counted(names.len() as u64, "program"),
        names.join(", ")
    )
}
