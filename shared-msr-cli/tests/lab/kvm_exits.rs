//! Every way back to the VMM that the guest can take is a cause of closes, in exactly the number that it was taken.

use std::sync::OnceLock;

use shared_msr::guest::GuestOutcome;

use crate::support::{Counter, Host, Measured, assert_all_attributed, assert_verified, json, measure};

/// `KVM_EXIT_*` without its prefix, the guest's option for it, and how often.
const EXITS: [(&str, &str, u64); 5] = [
    ("IO", "--outs 11", 11),
    ("HLT", "--hlts 7", 7),
    ("MMIO", "--mmios 5", 5),
    ("INTR", "--interrupts 3", 3),
    ("SHUTDOWN", "--shutdown", 1),
];
/// Before each OUT.
const CPUIDS: u64 = 4;

fn calls() -> u64 {
    EXITS.iter().map(|(_, _, number)| number).sum()
}

/// How often `KVM_RUN` ended so.
fn number(name: &str) -> u64 {
    EXITS.iter().find(|exit| exit.0 == name).unwrap().2
}

/// One run for both tests: each says what it has to say of it, whichever comes first. What is wrong with the run itself fails both.
fn measured() -> &'static Measured {
    static MEASURED: OnceLock<Measured> = OnceLock::new();
    MEASURED.get_or_init(run)
}

fn run() -> Measured {
    let options: Vec<&str> = EXITS.iter().flat_map(|(_, option, _)| option.split(' ')).collect();
    let cpuids = CPUIDS.to_string();
    let guest = [&["shared-msr", "guest", "--format", "json", "--tsc-aux", "0xabc", "--cpuids", &cpuids], options.as_slice()];
    let measured = measure("--by reason", &guest.concat());
    assert_eq!(measured.ended.status, 0, "{:?}", measured.ended);
    assert_verified(&measured.report);
    assert_all_attributed(&measured.report);
    let guest: GuestOutcome = json(&measured.ended.stdout).unwrap();
    assert_eq!(guest.kvm_runs, calls());
    measured
}

#[test]
fn each_return_to_the_vmm_is_a_close_with_its_reason() {
    let measured = measured();
    let report = &measured.report;
    let returns: u64 = measured.kernel[&Counter::UserspaceExits].values().sum();
    assert_eq!(returns, calls(), "by the kernel's count");
    assert_eq!(report.totals.events.userspace_exits, calls());
    let closes = |reason: &str| -> u64 {
        let of_reason = report.causes.iter().filter(|row| row.cause == "userspace-exit" && row.reason.as_deref() == Some(reason));
        of_reason.map(|row| row.closes).sum()
    };
    for (name, _, number) in EXITS {
        assert_eq!(closes(name), number, "closes by {name}: {:?}", report.causes);
    }
    assert_eq!(closes("other-call"), 1, "the call that sets MSRs");
    assert!(report.causes.iter().all(|row| row.cause == "userspace-exit"), "no other cause: {:?}", report.causes);
    let exits: u64 = measured.kernel[&Counter::Exits].values().sum();
    assert_eq!(report.totals.events.exits, exits, "by the kernel's count");
}

/// The vCPU stays on its CPU, so the last exit before each return is known. Where a signal ended `KVM_RUN` before the guest was
/// entered, there was none.
#[test]
fn each_reason_has_its_exits_and_those_of_them_that_ended_in_user_space() {
    let measured = measured();
    let rows = measured.report.reasons.as_deref().unwrap();
    let [cpuid, io, hlt] =
        if Host::this().vendor == "intel" { ["CPUID", "IO_INSTRUCTION", "HLT"] } else { ["cpuid", "io", "hlt"] };
    for (name, exits, returned) in
        [(cpuid, number("IO") * CPUIDS, 0), (io, number("IO"), number("IO")), (hlt, number("HLT"), number("HLT"))]
    {
        let row = rows.iter().find(|row| row.name.as_deref() == Some(name)).unwrap_or_else(|| panic!("no {name} in {rows:?}"));
        assert_eq!((row.exits, row.exits_to_userspace), (exits, Some(returned)), "{row:?}");
    }
    let returned: u64 = rows.iter().filter_map(|row| row.exits_to_userspace).sum();
    assert_eq!(returned, calls() - number("INTR"), "returns with an exit before them");
}
