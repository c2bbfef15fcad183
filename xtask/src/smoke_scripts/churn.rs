//! Guests that come and go: no sum is wrong, no owner stays behind, and what finds no place is told.

use std::collections::HashSet;

use anyhow::{Context as _, Result};

use super::{
    Checks,
    sections::{Json, Sections},
    sound::{self, rows},
};

/// How many the first run must have seen at least, to have shown anything.
const MANY: usize = 20;

pub(super) fn check(checks: &mut Checks, sections: &Sections) -> Result<()> {
    let long = sound::verified(checks, sections, "long")?;
    ended(checks, sections, &long, "long")?;
    map(checks, &long)?;
    checks.check(
        "long: the program has compared owners with CPUs",
        long.is_true("/owners_compared")?,
        &long.at("/owners_compared")?.to_string(),
    );

    let tiny = sound::reconciled(checks, sections, "tiny")?;
    sound::as_the_kernel_counts(checks, sections, &tiny, "tiny")?;
    ended(checks, sections, &tiny, "tiny")?;
    overflow(checks, &tiny)?;
    table(checks, sections)
}

/// No killed guest is taken for a running one.
fn ended(checks: &mut Checks, sections: &Sections, report: &Json, name: &str) -> Result<()> {
    let killed: HashSet<u64> = sections.text(&format!("{name}.killed"))?.lines().filter_map(|line| line.parse().ok()).collect();
    let mut seen = 0;
    let mut alive = Vec::new();
    for row in rows(report, "vcpus")? {
        let vm = row["vm"].as_u64().context("vm is no number")?;
        if killed.contains(&vm) {
            seen += 1;
            if row["ended"] != true {
                alive.push(vm.to_string());
            }
        }
    }
    let numbers = format!("{} killed, {seen} of them seen, still alive: {}", killed.len(), alive.join(" "));
    checks.check(&format!("{name}: each guest that was killed has ended"), seen > 0 && alive.is_empty(), &numbers);
    Ok(())
}

fn map(checks: &mut Checks, report: &Json) -> Result<()> {
    let number = |key: &str| report.number(&format!("/vcpu_map/{key}"));
    let (used, given_back, merged) = (number("used")?, number("given_back")?, number("merged")?);
    let vcpus = rows(report, "vcpus")?;
    let seen = format!("{} vCPUs, {}", vcpus.len(), report.at("/vcpu_map")?);
    checks.check(&format!("long: at least {MANY} vCPUs"), vcpus.len() >= MANY, &seen);
    checks.check("long: space in the map was given back", given_back > 0, &seen);
    checks.equal("long: who is not in the map any more still has a row", used + given_back, vcpus.len() as u64 + merged);
    let running = vcpus.iter().filter(|row| row["ended"] == false).count() as u64;
    let few = (running..vcpus.len() as u64).contains(&used);
    checks.check("long: the map does not hold all that ever were", few, &format!("{seen}, {running} still run"));
    Ok(())
}

fn overflow(checks: &mut Checks, report: &Json) -> Result<()> {
    let lost = report.at("/lost")?;
    checks.check("tiny: vCPUs without a place are told", report.number("/lost/refused_vcpus")? > 0, &lost.to_string());
    let others = lost.as_object().context("lost is no object")?.iter().filter(|(key, _)| *key != "refused_vcpus");
    let nothing_else = others.into_iter().all(|(_, number)| number == 0);
    checks.check("tiny: nothing else was lost", nothing_else, &lost.to_string());
    let nobody = report.at("/unattributed")?;
    let owned: u64 = sound::sum(report.at("/vcpus")?, "exits")?;
    checks.check("tiny: their exits are unattributed", report.number("/unattributed/exits")? > 0, &nobody.to_string());
    checks.check("tiny: the others' are not", owned > 0, &owned.to_string());
    checks.equal("tiny: the map holds no more than it was told", report.number("/vcpu_map/most")?, 4);
    let used = report.number("/vcpu_map/used")?;
    checks.check("tiny: at most 4 at once", used <= 4, &used.to_string());
    Ok(())
}

fn table(checks: &mut Checks, sections: &Sections) -> Result<()> {
    checks.equal("table: exit status", sections.number("table.status")?, 0);
    let table = sections.text("table.out")?;
    let second = table.lines().nth(1).unwrap_or_default();
    let told = second.starts_with("LOST: ") && second.contains("--max-vcpus") && second.contains("unattributed");
    checks.check("table: its first lines say that something is lost, and what helps", told, second);
    Ok(())
}
