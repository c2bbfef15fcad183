//! One name for each process, and whose names they are in a PID namespace of its own.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    Checks,
    sections::{Json, Sections},
};

pub(super) fn check(checks: &mut Checks, sections: &Sections) -> Result<()> {
    let guests: Vec<u64> = sections.text("guests")?.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    for (name, namespace, names) in [("host", "host", true), ("own", "own", false), ("shown", "own", true)] {
        let report = sections.json(&format!("{name}.out"))?;
        checks.equal(&format!("{name}: exit status"), sections.number(&format!("{name}.status"))?, 0);
        checks.check(&format!("{name}: verified"), report.is_true("/verified")?, &report.at("/violations")?.to_string());
        let host = report.at("/host")?;
        let said = host["pid_namespace"] == namespace && host["names"] == names;
        checks.check(&format!("{name}: the JSON says whose processes they are"), said, &said_by(host));
        one_name(checks, &report, name, &guests, names)?;
        text(checks, sections, name, &guests, (namespace, names))?;
    }
    let rows = sections.text("host-vcpus.out")?;
    let of_guest = |guest: &u64| rows.lines().any(|line| line.starts_with(&format!("{guest} shared-msr: 0 (thread ")));
    checks.check("host: rows of vCPUs have it, too", guests.iter().all(of_guest), rows.lines().nth(3).unwrap_or_default());
    trace(checks, sections, &guests)
}

fn said_by(host: &Value) -> String {
    format!("pid_namespace {}, names {}", host["pid_namespace"], host["names"])
}

/// Whatever stands under a process' number is one name, its own where that can be read.
fn one_name(checks: &mut Checks, report: &Json, name: &str, guests: &[u64], names: bool) -> Result<()> {
    let mut found: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    let mut add = |tgid: &Value, command: &Value| {
        if let Some(tgid) = tgid.as_u64() {
            let all = found.entry(tgid).or_default();
            let command = command.as_str().unwrap_or_default().to_owned();
            if !all.contains(&command) {
                all.push(command);
            }
        }
    };
    let array = |path: &str| report.at(path)?.as_array().with_context(|| format!("{path} is not an array"));
    array("/vms")?.iter().for_each(|vm| add(&vm["vm"], &vm["command"]));
    let payers: Vec<&Value> = array("/causes")?.iter().chain(array("/rows")?).map(|row| &row["payer"]).collect();
    payers.iter().for_each(|payer| add(&payer["tgid"], &payer["command"]));
    let foreign = array("/causes")?.iter().filter(|cause| cause["cause"] == "foreign");
    let paid = foreign.filter(|cause| cause["payer"]["tgid"].as_u64().is_some_and(|tgid| guests.contains(&tgid))).count();
    checks.equal(&format!("{name}: each guest paid for the other, in one row each"), paid, 2);
    checks.check(&format!("{name}: each process has one name"), found.values().all(|all| all.len() == 1), &format!("{found:?}"));
    let expected = if names { "shared-msr" } else { "guest-vcpu" };
    let right = guests.iter().all(|guest| found.get(guest).is_some_and(|all| all == &[expected]));
    checks.check(&format!("{name}: the guests are called {expected}"), right, &format!("{guests:?}"));
    Ok(())
}

/// The report for people, and doctor.
fn text(checks: &mut Checks, sections: &Sections, name: &str, guests: &[u64], (namespace, names): (&str, bool)) -> Result<()> {
    let report = sections.text(&format!("{name}-text.out"))?;
    let expected = if names { "shared-msr" } else { "guest-vcpu" };
    let rows = guests.iter().all(|guest| report.lines().filter(|line| line.starts_with(&format!("{guest} "))).count() == 1);
    let called = guests.iter().all(|guest| report.contains(&format!("\n{guest} {expected} ")));
    checks.check(
        &format!("{name}: one row for each payer, by that name"),
        rows && called,
        report.lines().nth(3).unwrap_or_default(),
    );
    let said: Vec<&str> = report.lines().filter(|line| line.contains("PID namespace")).collect();
    checks.equal(&format!("{name}: lines about the PID namespace"), said.len(), usize::from(namespace == "own"));
    if let Some(line) = said.first() {
        let whose = if names { "but /proc is the host's" } else { "and /proc is not the host's" };
        checks.check(&format!("{name}: it says whose /proc it is"), line.contains(whose), line);
    }
    let doctor = sections.text(&format!("{name}-doctor.out"))?;
    checks.equal(&format!("{name}: doctor's exit status"), sections.number(&format!("{name}-doctor.status"))?, 0);
    let line = doctor.lines().find(|line| line.contains(" processes ")).unwrap_or_default();
    let verdict = if names { "ok " } else { "no " };
    let right = line.starts_with(verdict) && line.contains(if namespace == "own" { "of its own" } else { "the host's PID" });
    checks.check(&format!("{name}: doctor says so"), right, line);
    Ok(())
}

/// Events name payers as rows do.
fn trace(checks: &mut Checks, sections: &Sections, guests: &[u64]) -> Result<()> {
    let mut names = Vec::new();
    for line in sections.text("host-trace.out")?.lines() {
        let event: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
        if event["event"] == "close" && event["payer"]["tgid"].as_u64().is_some_and(|tgid| guests.contains(&tgid)) {
            names.push(event["payer"]["command"].clone());
        }
    }
    names.dedup();
    checks.check("trace: payers have the same name", names == ["shared-msr"], &format!("{names:?}"));
    Ok(())
}
