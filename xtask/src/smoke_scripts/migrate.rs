//! A vCPU that moves between two CPUs: its own numbers stay whole, and each CPU has what happened on it.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    Checks,
    sections::{Json, Sections},
    sound::{self, row, rows, sum},
};

/// What the guest is told to do.
const OUTS: u64 = 400;
const CPUIDS: u64 = 50;
/// Moves without which nothing is shown.
const MOVES: u64 = 8;

pub(super) fn check(checks: &mut Checks, sections: &Sections) -> Result<()> {
    for name in ["json", "rows"] {
        let moves = sections.number(&format!("{name}.moves"))?;
        checks.check(&format!("{name}: the vCPU was moved at least {MOVES} times"), moves >= MOVES, &moves.to_string());
        let report = sound::verified(checks, sections, name)?;
        sound::as_the_kernel_counts(checks, sections, &report, name)?;
        sound::all_attributed(checks, &report, name)?;
        vcpu(checks, sections, &report, name)?;
        cpus(checks, sections, &report, name)?;
    }
    by_vcpu_and_cpu(checks, sections)
}

fn vcpu(checks: &mut Checks, sections: &Sections, report: &Json, name: &str) -> Result<()> {
    let guest = sections.json(&format!("{name}.out"))?;
    let vcpu = row(report, "vcpus", "vm", sections.number(&format!("{name}.pid"))?)?;
    let runs = guest.number("/kvm_runs")?;
    checks.equal(&format!("{name}: userspace_exits of the vCPU = KVM_RUN calls"), vcpu.number("/userspace_exits")?, runs);
    let (exits, least) = (vcpu.number("/exits")?, OUTS * (CPUIDS + 1));
    checks.check(&format!("{name}: at least {least} exits of the vCPU"), exits >= least, &exits.to_string());
    let (written, performed) = (vcpu.number("/set_written")?, vcpu.number("/performed")?);
    checks.equal(&format!("{name}: what the vCPU loaded was restored"), written, performed);
    checks.check(&format!("{name}: once for each KVM_RUN call at least"), performed >= runs, &performed.to_string());
    Ok(())
}

/// Each CPU against the kernel's count of that CPU.
fn cpus(checks: &mut Checks, sections: &Sections, report: &Json, name: &str) -> Result<()> {
    for number in [0, 1] {
        let cpu = row(report, "cpus", "cpu", number)?;
        for (counter, instance) in [
            ("exits", "kvm_exit"),
            ("userspace_exits", "kvm_userspace_exit"),
            ("set_written", "wrmsr_to_guest"),
            ("performed", "wrmsr_to_host"),
        ] {
            let (seen, counted) =
                (cpu.number(&format!("/{counter}"))?, sections.number(&format!("{name}.{instance}.cpu{number}"))?);
            let holds = seen == counted && seen > 0;
            let what = format!("{name}: {counter} of CPU {number} = the kernel's count of {instance} there, and not 0");
            checks.check(&what, holds, &format!("{seen} and {counted}"));
        }
    }
    Ok(())
}

fn by_vcpu_and_cpu(checks: &mut Checks, sections: &Sections) -> Result<()> {
    let report = sections.json("rows.report")?;
    let tid = &rows(&report, "vcpus")?.first().context("there is no vCPU")?["tid"];
    for number in [0, 1] {
        let here = rows(&report, "rows")?.iter().filter(|row| row["cpu"] == number && row["vcpu"]["tid"] == *tid);
        let here: Vec<&Value> = here.collect();
        let cpu = row(&report, "cpus", "cpu", number)?;
        let [here] = here.as_slice() else {
            checks.check(&format!("--by vcpu,cpu: one row on CPU {number}"), false, &format!("{here:?}"));
            continue;
        };
        for (column, counter) in [("exits", "exits"), ("closes", "windows_closed"), ("performed", "performed")] {
            let seen = here[column].as_u64().with_context(|| format!("{column} is no number in {here}"))?;
            // No other vCPU ran: its row here is the CPU's.
            let what = format!("--by vcpu,cpu: {column} on CPU {number} are the CPU's");
            checks.equal(&what, seen, cpu.number(&format!("/{counter}"))?);
        }
    }
    for (column, total) in [("exits", "exits"), ("deferred", "deferred"), ("performed", "performed")] {
        let total = report.number(&format!("/totals/{total}"))?;
        checks.equal(&format!("--by vcpu,cpu: sum of {column} = total"), sum(report.at("/rows")?, column)?, total);
    }
    Ok(())
}
