//! A vendor module that is loaded anew in mid-run: KVM's structures are elsewhere then, and the numbers are still the kernel's.

use anyhow::{Context as _, Result};

use super::{
    Checks,
    sections::Sections,
    sound::{self, rows},
};

pub(super) fn check(checks: &mut Checks, sections: &Sections) -> Result<()> {
    for step in ["fentry", "kprobe", "tracepoint"] {
        let report = sound::verified(checks, sections, step)?;
        sound::all_attributed(checks, &report, step)?;
        for (counter, counted) in
            [("exits", "kvm_exit"), ("userspace_exits", "kvm_userspace_exit"), ("set_written", "wrmsr_to_guest")]
        {
            let counted = sections.number(&format!("{step}.{counted}"))?;
            checks.equal(
                &format!("{step}: {counter} = the kernel's count"),
                report.number(&format!("/totals/{counter}"))?,
                counted,
            );
        }
        // Not all writes of the host's value are restores: a module that is loaded tries the MSR.
        let mut restored = 0;
        for line in sections.text(&format!("{step}.restored"))?.lines() {
            restored += line.split(' ').nth(2).and_then(|number| number.parse::<u64>().ok()).context("no number of restores")?;
        }
        checks.equal(&format!("{step}: performed = the kernel's restores"), report.number("/totals/performed")?, restored);
        let returns: Vec<u64> = rows(&report, "vcpus")?.iter().filter_map(|row| row["userspace_exits"].as_u64()).collect();
        checks.check(&format!("{step}: both guests ran to their ends"), returns == [60, 90], &format!("{returns:?}"));
        let reloads = report.at("/reloads").map_or_else(|error| error.to_string(), ToString::to_string);
        checks.equal(&format!("{step}: the module was loaded anew once"), reloads.as_str(), "1");
    }
    checks.equal("table: exit status", sections.number("table.status")?, 0);
    let table = sections.text("table.out")?;
    let told = table.lines().find(|line| line.contains("loaded anew")).unwrap_or_default();
    checks.check("table: it tells the reload", !told.is_empty(), told);
    Ok(())
}
