//! A CPU that is inside a window when it is looked at, and when the hooks are attached.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    Checks,
    sections::{Json, Sections},
};

pub(super) fn check(checks: &mut Checks, sections: &Sections) -> Result<()> {
    let during = sections.json("inspect-during.out")?;
    checks.equal("inspect: exit status", sections.number("inspect-during.status")?, 0);
    checks.equal("inspect looked from CPU 0", during.number("/own_cpu")?, 0);
    let guest = cpu(&during, 1)?;
    checks.check("CPU 1 is registered", guest["registered"] == true, &guest.to_string());
    checks.check("CPU 1 has the guest's TSC_AUX in curr", guest["values"][0]["curr"] == 0xabc, &guest["values"][0].to_string());
    checks.check("CPU 1 has the host's TSC_AUX in host", guest["values"][0]["host"] == 1, &guest["values"][0].to_string());
    let own = cpu(&during, 0)?;
    checks.check("CPU 0 is not registered", own["registered"] == false, &own.to_string());
    let table = sections.text("inspect-table.out")?;
    let says_why = table.contains("its own return to user mode closes");
    checks.check("inspect says why its own CPU is never inside a window", says_why, table.lines().last().unwrap_or_default());
    checks.equal("the spinning guest ends with status 0 on SIGTERM", sections.number("quiet-guest.status")?, 0);
    let after = sections.json("inspect-after.out")?;
    let value = &cpu(&after, 1)?["values"][0];
    checks.check("after the guest both values of CPU 1 are equal", value["host"] == value["curr"], &value.to_string());

    let report = sections.json("attached-inside.out")?;
    let (exits, deferred) = (report.number("/totals/exits")?, report.number("/totals/deferred")?);
    let seen = format!("{exits} exits, {deferred} deferred");
    checks.equal("attached inside: exit status", sections.number("attached-inside.status")?, 0);
    checks.equal("attached inside: a window was open at start", report.number("/totals/windows_open_at_start")?, 1);
    checks.equal("attached inside: a window was open at the end", report.number("/totals/windows_open_at_end")?, 1);
    let row = cpu(&report, 1)?;
    let open = (&row["windows_open_at_start"], &row["windows_open_at_end"]);
    checks.check("attached inside: it was CPU 1's", open == (&1.into(), &1.into()), &row.to_string());
    let vcpu = &report.at("/vcpus/0")?;
    let seen = format!("{} of {deferred}; unattributed {}", vcpu["deferred"], report.at("/unattributed")?);
    let its_own = vcpu["deferred"] == deferred && report.number("/unattributed/deferred")? == 0;
    checks.check("attached inside: what was put off is the vCPU's, from the first exit on", its_own, &seen);
    checks.check("attached inside: exits were counted from the start", exits > 1000, &seen);
    let performed = report.number("/totals/performed")?;
    // Between two windows the guest makes no exit; an exit of the first vCPU entry after a close is not yet inside one.
    let outside = exits - deferred;
    checks.check("attached inside: practically every exit was deferred", deferred <= exits && outside <= 2 * performed, &seen);
    checks.check("attached inside: reconciled", report.is_true("/reconciled")?, &report.at("/violations")?.to_string());
    checks.check("attached inside: nothing lost", report.all_zero("/lost")?, &report.at("/lost")?.to_string());

    let busy = sections.json("busy.out")?;
    let (deferred, performed) = (busy.number("/totals/deferred")?, busy.number("/totals/performed")?);
    let seen = format!("{deferred} deferred, {performed} performed");
    checks.check("two busy CPUs: no restore without its exit", performed > 100 && performed <= deferred + 2, &seen);
    checks.equal("two busy CPUs: no set failed", busy.number("/totals/set_failed")?, 0);
    checks.check("two busy CPUs: verified", busy.is_true("/verified")?, &busy.at("/host/hooks/check")?.to_string());
    checks.check("two busy CPUs: reconciled", busy.is_true("/reconciled")?, &busy.at("/violations")?.to_string());
    checks.check("two busy CPUs: nothing lost", busy.all_zero("/lost")?, &busy.at("/lost")?.to_string());

    let pinned = sections.json("pinned.out")?;
    checks.equal("pinned to CPU 1: performed = 100 KVM_RUN + 1", pinned.number("/totals/performed")?, 101);
    for (number, performed) in [(0, 0), (1, 101)] {
        let row = cpu(&pinned, number)?;
        let seen = format!("{} exits, {} performed, {} windows", row["exits"], row["performed"], row["windows_closed"]);
        let ran_here =
            row["exits"].as_u64().is_some_and(|exits| (exits >= 1100) == (number == 1) && (exits == 0) == (number == 0));
        checks.check(&format!("pinned to CPU 1: what CPU {number} counted"), ran_here && row["performed"] == performed, &seen);
    }
    checks.check("pinned to CPU 1: verified", pinned.is_true("/verified")?, &pinned.at("/host/hooks/check")?.to_string());
    checks.check("pinned to CPU 1: reconciled", pinned.is_true("/reconciled")?, &pinned.at("/violations")?.to_string());
    Ok(())
}

fn cpu(inspect: &Json, number: u64) -> Result<&Value> {
    let cpus = inspect.at("/cpus")?.as_array().context("cpus is not an array")?;
    cpus.iter().find(|cpu| cpu["cpu"] == number).with_context(|| format!("there is no CPU {number}"))
}
