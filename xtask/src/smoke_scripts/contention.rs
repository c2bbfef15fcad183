//! One guest among busy tasks: who pays is mostly somebody else, whose it is is always the guest's vCPU.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    Checks,
    sections::{Json, Sections},
    sound::{self, rows, sum},
};

/// What the guest is told to do, besides.
const OUTS: u64 = 20;

pub(super) fn check(checks: &mut Checks, sections: &Sections) -> Result<()> {
    for (name, cpuids) in [("json", 1500), ("rows", 300)] {
        let report = sound::verified(checks, sections, name)?;
        sound::as_the_kernel_counts(checks, sections, &report, name)?;
        sound::all_attributed(checks, &report, name)?;
        exits(checks, sections, &report, (name, cpuids))?;
        payers(checks, sections, &report, name)?;
        owner(checks, sections, &report, name)?;
    }
    by_vcpu_and_cause(checks, sections)
}

fn exits(checks: &mut Checks, sections: &Sections, report: &Json, (name, cpuids): (&str, u64)) -> Result<()> {
    let runs = sections.json(&format!("{name}.out"))?.number("/kvm_runs")?;
    checks.equal(&format!("{name}: userspace_exits = KVM_RUN calls"), report.number("/totals/userspace_exits")?, runs);
    let (exits, least) = (report.number("/totals/exits")?, OUTS * (cpuids + 1));
    checks.check(&format!("{name}: at least {least} exits"), exits >= least, &exits.to_string());
    Ok(())
}

/// Foreign closes by who paid.
fn payers(checks: &mut Checks, sections: &Sections, report: &Json, name: &str) -> Result<()> {
    let busy = [("busy_a", sections.number("busy_a.pid")?), ("busy_b", sections.number("busy_b.pid")?)];
    let mut theirs: BTreeMap<&str, u64> = BTreeMap::new();
    let mut others: Vec<String> = Vec::new();
    let mut foreign = 0;
    for row in rows(report, "causes")?.iter().filter(|row| row["cause"] == "foreign") {
        let closes = row["closes"].as_u64().context("closes is no number")?;
        foreign += closes;
        let payer = &row["payer"];
        match busy.iter().find(|(command, tgid)| payer["command"] == *command && payer["tgid"] == *tgid) {
            Some((command, _)) => *theirs.entry(command).or_default() += closes,
            None => others.push(format!("{payer} {closes}")),
        }
    }
    let closes = report.number("/totals/windows_closed")?;
    let most = foreign * 2 > closes;
    checks.check(&format!("{name}: most windows are closed by other tasks"), most, &format!("{foreign} of {closes}"));
    let sum: u64 = theirs.values().sum();
    let seen = format!("{theirs:?} of {foreign}; others: {}", if others.is_empty() { "none".into() } else { others.join(", ") });
    checks.check(&format!("{name}: the two busy tasks pay for 95 % of these"), sum * 100 >= foreign * 95, &seen);
    for (command, _) in busy {
        let paid = sections.text(&format!("{name}.payers"))?.lines().find_map(|line| line.strip_prefix(&format!("{command} ")));
        let theirs = theirs.get(command).copied().unwrap_or(0).to_string();
        checks.equal(
            &format!("{name}: {command} = WRMSRs that it did by the kernel's record"),
            theirs.as_str(),
            paid.unwrap_or("0"),
        );
    }
    checks.check(&format!("{name}: both of them pay"), theirs.len() == 2, &format!("{theirs:?}"));
    Ok(())
}

/// All of it is one vCPU's.
fn owner(checks: &mut Checks, sections: &Sections, report: &Json, name: &str) -> Result<()> {
    let guest = sections.number(&format!("{name}.pid"))?;
    let of_guest = rows(report, "vcpus")?.iter().filter(|row| row["vm"] == guest && row["vcpu"] == 0);
    let of_guest = Value::Array(of_guest.cloned().collect());
    checks.equal(&format!("{name}: the guest has one vCPU"), of_guest.as_array().map_or(0, Vec::len), 1);
    for (counter, total) in [("windows_closed", "windows_closed"), ("performed", "performed"), ("deferred", "deferred")] {
        let total = report.number(&format!("/totals/{total}"))?;
        checks.equal(&format!("{name}: {counter} of this vCPU = total"), sum(&of_guest, counter)?, total);
    }
    Ok(())
}

/// The rows of `--by vcpu,cause`: each close of each cause is the vCPU's.
fn by_vcpu_and_cause(checks: &mut Checks, sections: &Sections) -> Result<()> {
    let report = sections.json("rows.report")?;
    let tid = &rows(&report, "vcpus")?.first().context("there is no vCPU")?["tid"];
    let closed: Vec<&Value> = rows(&report, "rows")?.iter().filter(|row| row["closes"] != 0).collect();
    let strangers = closed.iter().filter(|row| row["vcpu"]["tid"] != *tid || row["vcpu"]["vcpu"] != 0).count();
    let seen: Vec<String> = closed.iter().map(|row| format!("{} {}", row["cause"], row["closes"])).collect();
    checks.check("--by vcpu,cause: each close is the guest's vCPU's", strangers == 0 && closed.len() > 1, &seen.join(", "));
    for (column, total) in [("closes", "windows_closed"), ("performed", "performed"), ("clean_closes", "clean_closes")] {
        let total = report.number(&format!("/totals/{total}"))?;
        checks.equal(&format!("--by vcpu,cause: sum of {column} = total"), sum(report.at("/rows")?, column)?, total);
    }
    let foreign = |rows: &[Value], cause: &str| -> u64 {
        let rows = rows.iter().filter(|row| row["cause"].as_str().is_some_and(|text| text.starts_with(cause)));
        rows.filter_map(|row| row["closes"].as_u64()).sum()
    };
    let (by_row, by_cause) = (foreign(rows(&report, "rows")?, "foreign"), foreign(rows(&report, "causes")?, "foreign"));
    checks.equal("--by vcpu,cause: foreign closes as without", by_row, by_cause);
    Ok(())
}
