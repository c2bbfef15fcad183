//! However the program ends, nothing of it stays in the kernel.

use anyhow::Result;

use super::{Checks, sections::Sections};

pub(super) fn check(checks: &mut Checks, sections: &Sections) -> Result<()> {
    checks.equal("SIGKILL: exit status", sections.number("report-KILL.status")?, 137);
    checks.equal("SIGTERM: exit status", sections.number("report-TERM.status")?, 0);
    for signal in ["KILL", "TERM"] {
        // The listings must be able to show what they are asked for, or their silence would mean nothing.
        let during = sections.text(&format!("during-{signal}.kprobes"))?;
        checks.equal(&format!("SIG{signal}: both kprobes are listed while measuring"), during.lines().count(), 2);
        let descriptors = sections.text(&format!("during-{signal}.descriptors"))?;
        checks.check(&format!("SIG{signal}: descriptors of programs are seen while measuring"), !descriptors.is_empty(), "");
        let programs = sections.text(&format!("during-{signal}.programs"))?;
        checks.check(
            &format!("SIG{signal}: the kernel lists the four programs and the reader of its memory"),
            programs.contains(" 5 programs"),
            programs,
        );
        let after = |what: &str| sections.text(&format!("after-{signal}.{what}"));
        checks.equal(&format!("SIG{signal}: no kprobe is left"), after("kprobes")?, "");
        checks.equal(&format!("SIG{signal}: no descriptor is left"), after("descriptors")?, "");
        let programs = after("programs")?;
        checks.check(&format!("SIG{signal}: no program is left"), programs.contains("no program of shared-msr"), programs);
        for what in ["mounts", "kprobe-events"] {
            let same = after(what)? == sections.text(&format!("before.{what}"))?;
            checks.check(&format!("SIG{signal}: {what} are as before"), same, after(what)?.lines().next().unwrap_or_default());
        }
    }
    checks.equal("KVM's modules can be unloaded afterwards", sections.number("unload.status")?, 0);
    Ok(())
}
