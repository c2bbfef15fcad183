//! `shared-msr doctor`

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use aya::programs::loaded_programs;

use crate::{
    cli::DoctorArguments,
    kernel::lockdown,
    obstacle::Obstacle,
    probe::{
        probes::{Options, PROGRAM_PREFIX, Probes, Sight},
        survey::{Finding, Survey, Weight},
        target::Target,
    },
    report::number::counted,
};

/// Prints every finding; succeeds when `report` would work.
pub(super) fn run(arguments: &DoctorArguments) -> anyhow::Result<ExitCode> {
    // Before our own programs are loaded: the kernel frees them some time after we let go of them.
    let asides = asides();
    let survey = Survey::make();
    let mut findings = survey.findings;
    let hooks = survey.target.map(|target| try_hooks(&target, arguments));
    let (tried, sight) = hooks.unwrap_or_default();
    let not_tried = tried.is_empty();
    findings.extend(tried);
    let mut text: String = findings.iter().chain(&asides).map(line).collect();
    if not_tried {
        text += &format!("-     {:15} not tried, because of what is missing above\n", "hooks");
    }
    let fatal = |finding: &&Finding| finding.weight == Weight::Fatal && finding.outcome.is_err();
    let obstacles = findings.iter().filter(fatal).count();
    text += &match (obstacles, sight) {
        (0, Some(Sight::Split(_))) => "\n`shared-msr report` works on this host.\n".to_owned(),
        (0, _) => "\n`shared-msr report` counts WRMSRs on this host, but cannot tell loads from restores.\n".to_owned(),
        (1, _) => "\n`shared-msr report` does not work on this host: see the line with FAIL.\n".to_owned(),
        _ => format!("\n`shared-msr report` does not work on this host: see the {obstacles} lines with FAIL.\n"),
    };
    io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")?;
    Ok(if obstacles == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn line(finding: &Finding) -> String {
    let Finding { topic, outcome, weight } = finding;
    match (outcome, weight) {
        (Ok(found), _) => format!("ok    {topic:15} {found}\n"),
        (Err(obstacle), weight) => {
            let verdict = if *weight == Weight::Fatal { "FAIL" } else { "no" };
            format!("{verdict:5} {topic:15} {}\n      {:15} cure: {}\n", obstacle.problem, "", obstacle.cure)
        }
    }
}

/// Attaches everything as `report` would, and lets go of it again.
fn try_hooks(target: &Target, arguments: &DoctorArguments) -> (Vec<Finding>, Option<Sight>) {
    // With the check, so that it is tried as well.
    let options = Options { choice: arguments.probe, verify: true, ..Options::default() };
    let probes = match Probes::attach(target, options) {
        Ok(probes) => probes,
        Err(obstacle) => return (vec![Finding { topic: "hooks", outcome: Err(obstacle), weight: Weight::Fatal }], None),
    };
    let mut findings: Vec<Finding> = probes
        .refused
        .iter()
        .map(|refused| {
            let mut why = refused.why.clone();
            why.problem = format!("not by {}: {}", refused.hook, why.problem);
            Finding { topic: refused.event.name(), outcome: Err(why), weight: Weight::Limit }
        })
        .collect();
    for (topic, hook) in probes.hooks.named() {
        match (topic, hook) {
            (_, Some(hook)) => findings.push(Finding { topic, outcome: Ok(format!("by {hook}")), weight: Weight::Limit }),
            ("set" | "close" | "check", None) => {
                findings.push(Finding { topic, outcome: Err(not_seen(target)), weight: Weight::Limit });
            }
            // What refused it is said above; what was not asked for is no news.
            (_, None) => {}
        }
    }
    let sight = probes.sight;
    drop(probes);
    let by_reason = Options { choice: arguments.probe, by_reason: true, ..Options::default() };
    let outcome = Probes::attach(target, by_reason).map(|probes| format!("by {}", probes.hooks.exit));
    findings.push(Finding { topic: "exit reason", outcome, weight: Weight::Limit });
    (findings, Some(sight))
}

/// Why sets and closes cannot be told at all.
fn not_seen(target: &Target) -> Obstacle {
    let why = target.tables.as_ref().err().map_or("", |obstacle| obstacle.problem.as_str());
    Obstacle::new(
        format!("no function of KVM can be observed, and WRMSRs cannot be told apart: {why}"),
        "see what is missing above",
    )
}

/// What does not stand in the way of a measurement, but is good to know.
fn asides() -> Vec<Finding> {
    let kvm_device = OpenOptions::new().read(true).write(true).open("/dev/kvm");
    let guest = match kvm_device {
        Ok(_) => "/dev/kvm can be used: `shared-msr guest` works".to_owned(),
        Err(error) => format!("/dev/kvm cannot be used ({error}): `shared-msr guest` does not work, all else does"),
    };
    let lockdown = lockdown::modes().map_or_else(|| "no lockdown".to_owned(), |modes| format!("lockdown: {modes}"));
    [("guest", guest), ("security", lockdown), ("others", others()), ("built with", env!("SHARED_MSR_BPF_COMPILER").to_owned())]
        .into_iter()
        .map(|(topic, text)| Finding { topic, outcome: Ok(text), weight: Weight::Limit })
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
