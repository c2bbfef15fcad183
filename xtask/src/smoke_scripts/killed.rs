//! However the program ends, nothing of it stays in the kernel.

use anyhow::Result;

use super::{Checks, sections::Sections};

/// Each step of the ladder, how many functions it hooks (set, close, drop), and how many programs the kernel then holds: those,
/// exits, returns to the VMM, ends of threads, programs that are executed, vCPUs that are made (WRMSRs on the last step), and the
/// reader of kernel memory.
const STEPS: [(&str, usize, &str); 3] =
    [("kprobe", 3, " 9 programs"), ("fentry", 3, " 9 programs"), ("tracepoint", 0, " 7 programs")];

pub(super) fn check(checks: &mut Checks, sections: &Sections) -> Result<()> {
    for (step, functions, programs) in STEPS {
        for (signal, status) in [("KILL", 137), ("TERM", 0)] {
            let place = format!("{step}, SIG{signal}");
            checks.equal(&format!("{place}: exit status"), sections.number(&format!("report-{step}-{signal}.status"))?, status);
            // The listings must be able to show what they are asked for, or their silence would mean nothing.
            let during = |what: &str| sections.text(&format!("during-{step}-{signal}.{what}"));
            checks.equal(&format!("{place}: functions hooked while measuring"), during("functions")?.lines().count(), functions);
            let descriptors = during("descriptors")?;
            checks.check(&format!("{place}: descriptors of programs are seen while measuring"), !descriptors.is_empty(), "");
            let listed = during("programs")?;
            checks.check(&format!("{place}: the kernel lists{programs}"), listed.contains(programs), listed);
            let after = |what: &str| sections.text(&format!("after-{step}-{signal}.{what}"));
            checks.equal(&format!("{place}: no function is hooked any more"), after("functions")?, "");
            checks.equal(&format!("{place}: no descriptor is left"), after("descriptors")?, "");
            let listed = after("programs")?;
            checks.check(&format!("{place}: no program is left"), listed.contains("no program of shared-msr"), listed);
            for what in ["mounts", "kprobe-events"] {
                let same = after(what)? == sections.text(&format!("before.{what}"))?;
                checks.check(&format!("{place}: {what} are as before"), same, after(what)?.lines().next().unwrap_or_default());
            }
        }
    }
    checks.equal("KVM's modules can be unloaded afterwards", sections.number("unload.status")?, 0);
    Ok(())
}
