//! Every way back to the VMM that the guest can take is a cause of closes, in exactly the number that it was taken.

use anyhow::Result;

use super::{
    Checks,
    sections::{Json, Sections},
    sound::{self, rows},
};

/// KVM_EXIT_* without its prefix, the guest's option for it, and how often. `--shutdown` takes no number.
const EXITS: [(&str, &str, u64); 5] = [
    ("IO", "--outs", 11),
    ("HLT", "--hlts", 7),
    ("MMIO", "--mmios", 5),
    ("INTR", "--interrupts", 3),
    ("SHUTDOWN", "--shutdown", 1),
];
/// Before each OUT.
const CPUIDS: u64 = 4;

/// The guest's arguments.
pub(super) fn guest() -> Vec<String> {
    let exits = EXITS.iter().flat_map(|(name, option, number)| {
        let number = (*name != "SHUTDOWN").then(|| number.to_string());
        std::iter::once((*option).to_owned()).chain(number)
    });
    exits.chain(["--cpuids".to_owned(), CPUIDS.to_string()]).collect()
}

pub(super) fn check(checks: &mut Checks, sections: &Sections) -> Result<()> {
    let report = sound::verified(checks, sections, "all")?;
    sound::all_attributed(checks, &report, "all")?;
    let guest = sections.json("all.out")?;
    let calls: u64 = EXITS.iter().map(|(_, _, number)| number).sum();
    checks.equal("KVM_RUN calls of the guest", guest.number("/kvm_runs")?, calls);
    checks.equal("returns to the VMM, by the kernel's count", sections.number("all.kvm_userspace_exit")?, calls);
    checks.equal("returns to the VMM", report.number("/totals/userspace_exits")?, calls);
    for (name, _, number) in EXITS {
        checks.equal(&format!("closes by {name}"), closes(&report, "userspace-exit", name)?, number);
    }
    checks.equal("closes by another call, the one that sets MSRs", closes(&report, "userspace-exit", "other-call")?, 1);
    let rest = rows(&report, "causes")?.iter().filter(|row| row["cause"] != "userspace-exit").count();
    checks.check("no other cause", rest == 0, &report.at("/causes")?.to_string());
    let isa = if report.at("/host/vendor")? == "intel" { ["CPUID", "IO_INSTRUCTION", "HLT"] } else { ["cpuid", "io", "hlt"] };
    let expected = [EXITS[0].2 * CPUIDS, EXITS[0].2, EXITS[1].2];
    for (name, number) in isa.into_iter().zip(expected) {
        let row = rows(&report, "reasons")?.iter().find(|row| row["name"] == name);
        let exits = row.and_then(|row| row["exits"].as_u64()).unwrap_or(0);
        checks.equal(&format!("exits by {name}"), exits, number);
    }
    // The vCPU stays on its CPU, so the last exit before each return is known. Where a signal ended KVM_RUN before the guest was
    // entered, there was none.
    for (name, number) in isa.into_iter().zip([0, expected[1], expected[2]]) {
        let row = rows(&report, "reasons")?.iter().find(|row| row["name"] == name);
        let returned = row.and_then(|row| row["exits_to_userspace"].as_u64());
        checks.equal(
            &format!("exits by {name} that ended in user space"),
            format!("{returned:?}"),
            format!("{:?}", Some(number)),
        );
    }
    let returned: u64 = rows(&report, "reasons")?.iter().filter_map(|row| row["exits_to_userspace"].as_u64()).sum();
    let interrupts = EXITS[3].2;
    checks.equal("returns with an exit before them", returned, calls - interrupts);
    Ok(())
}

fn closes(report: &Json, cause: &str, reason: &str) -> Result<u64> {
    let rows = rows(report, "causes")?.iter().filter(|row| row["cause"] == cause && row["reason"] == reason);
    Ok(rows.filter_map(|row| row["closes"].as_u64()).sum())
}
