//! Two guests on one CPU: each vCPU is credited with what its own guest did.

use anyhow::Result;

use super::{
    Checks,
    sections::Sections,
    sound::{self, row},
};

/// Exits beyond those that a guest makes on purpose: timer interrupts, page faults.
const INTERRUPTS: u64 = 500;

pub(super) fn check(checks: &mut Checks, sections: &Sections) -> Result<()> {
    let report = sound::verified(checks, sections, "both")?;
    sound::as_the_kernel_counts(checks, sections, &report, "both")?;
    sound::all_attributed(checks, &report, "both")?;
    checks.equal("two VMs", sound::rows(&report, "vms")?.len(), 2);
    let mut written = 0;
    for guest in ["first", "second"] {
        let own = sections.json(&format!("{guest}.out"))?;
        let vm = sections.number(&format!("{guest}.pid"))?;
        let vcpu = row(&report, "vcpus", "vm", vm)?;
        let runs = own.number("/kvm_runs")?;
        checks.equal(&format!("{guest}: userspace_exits = its KVM_RUN calls"), vcpu.number("/userspace_exits")?, runs);
        let (exits, least) = (vcpu.number("/exits")?, own.number("/cpuids")? + own.number("/outs")?);
        let most = least + INTERRUPTS;
        checks.check(&format!("{guest}: {least} to {most} exits"), (least..=most).contains(&exits), &exits.to_string());
        checks.equal(
            &format!("{guest}: set_written = WRMSRs to its own value"),
            vcpu.number("/set_written")?,
            sections.number(&format!("both.{guest}_written"))?,
        );
        checks.equal(
            &format!("{guest}: performed = WRMSRs back from its own value"),
            vcpu.number("/performed")?,
            sections.number(&format!("{guest}.restored"))?,
        );
        let vm = row(&report, "vms", "vm", vm)?;
        checks.equal(&format!("{guest}: its VM has the same exits"), vm.number("/exits")?, exits);
        checks.check(&format!("{guest}: it has ended"), vcpu.is_true("/ended")?, &vcpu.at("/command")?.to_string());
        written += vcpu.number("/set_written")?;
    }
    // A guest's value may go straight over to the other one's: two loads, and one restore.
    checks.equal(
        "all windows ended: what was loaded was restored, or taken over by the other guest",
        written,
        report.number("/totals/performed")? + sections.number("taken-over")?,
    );
    Ok(())
}
