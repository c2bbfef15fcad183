//! A CPU that goes away with a guest's values in its hardware, and comes back.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    Checks,
    sections::{Json, Sections},
    sound::{self, row, rows},
};

/// `KVM_RUN` calls of the short guest, and the call that sets its MSR.
const OF_SHORT_GUEST: u64 = 51;

pub(super) fn check(checks: &mut Checks, sections: &Sections) -> Result<()> {
    let before = sections.json("before.json")?;
    let state = row(&before, "cpus", "cpu", 1)?;
    checks.check("CPU 1 is inside a window", state.is_true("/registered")?, &state.0.to_string());
    checks.equal("it has the guest's value", state.number("/values/0/curr")?, 0xabc);
    checks.equal("CPU 1 was taken offline", sections.number("offline")?, 0);
    checks.equal("CPU 1 came back", sections.number("online")?, 1);
    let after = row(&sections.json("after.json")?, "cpus", "cpu", 1)?;
    checks.check("then it is in no window", after.at("/registered")? == &Value::Bool(false), &after.0.to_string());

    let report = sound::verified(checks, sections, "whole")?;
    sound::as_the_kernel_counts(checks, sections, &report, "whole")?;
    sound::all_attributed(checks, &report, "whole")?;
    drop_of_the_guest(checks, sections, &report)?;
    let short = sections.json("short.out")?;
    checks.equal("the short guest's KVM_RUN and MSR-setting calls", runs_and_sets(&short)?, OF_SHORT_GUEST);
    let cpu = row(&report, "cpus", "cpu", 1)?;
    let performed = cpu.number("/performed")?;
    let seen = format!("{performed}, of them {OF_SHORT_GUEST} after it came back and 1 when it went");
    checks.check("CPU 1 is counted on", performed > OF_SHORT_GUEST, &seen);
    let (seen, counted) = (cpu.number("/performed")?, sections.number("whole.wrmsr_to_host.cpu1")?);
    checks.equal("performed on CPU 1 = the kernel's count there", seen, counted);
    let (seen, counted) = (cpu.number("/exits")?, sections.number("whole.kvm_exit.cpu1")?);
    checks.equal("exits on CPU 1 = the kernel's count there", seen, counted);
    let short = rows(&report, "vcpus")?.iter().find(|row| row["vm"] != sections.number("spinning.pid").unwrap_or(0));
    let short = Json(short.context("the short guest has no row")?.clone());
    checks.equal("all restores of the short guest are its vCPU's", short.number("/performed")?, OF_SHORT_GUEST);

    let again = sound::verified(checks, sections, "again")?;
    sound::as_the_kernel_counts(checks, sections, &again, "again")?;
    let performed = row(&again, "cpus", "cpu", 1)?.number("/performed")?;
    checks.equal("a measurement that begins then counts CPU 1", performed, OF_SHORT_GUEST);
    Ok(())
}

fn drop_of_the_guest(checks: &mut Checks, sections: &Sections, report: &Json) -> Result<()> {
    let causes = report.at("/causes")?;
    let drops: Vec<&Value> = rows(report, "causes")?.iter().filter(|row| row["cause"] == "drop").collect();
    let closes: u64 = drops.iter().filter_map(|row| row["closes"].as_u64()).sum();
    let performed: u64 = drops.iter().filter_map(|row| row["performed"].as_u64()).sum();
    checks.check("exactly one window closed by a drop", closes == 1, &causes.to_string());
    checks.equal("the drop restored the host's value", performed, 1);
    let payer = drops.first().map_or("none", |row| row["payer"]["command"].as_str().unwrap_or("?"));
    checks.check("a kernel thread of CPU 1 did it", payer.ends_with("/1"), payer);
    let vcpu = row(report, "vcpus", "vm", sections.number("spinning.pid")?)?;
    let seen = format!("{} written, {} performed", vcpu.number("/set_written")?, vcpu.number("/performed")?);
    checks.check(
        "all that the spinning guest loaded was restored, also on the CPU that went away",
        vcpu.number("/set_written")? == vcpu.number("/performed")? && vcpu.number("/performed")? > 0,
        &seen,
    );
    Ok(())
}

fn runs_and_sets(guest: &Json) -> Result<u64> {
    Ok(guest.number("/kvm_runs")? + guest.number("/set_msrs_calls")?)
}
