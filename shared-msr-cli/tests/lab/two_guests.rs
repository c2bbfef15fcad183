//! Two guests on one CPU: each vCPU is credited with what its own guest did.

use std::collections::BTreeMap;

use shared_msr::guest::GuestOutcome;

use crate::support::{
    Guest, Histogram, KernelCounter, Measuring, Report, Write, WriteRecord, assert_all_attributed, assert_verified, restored,
    wait_until,
};

/// How often each guest's value must have been loaded.
const ENOUGH: u64 = 100;

/// A guest of which the kernel counts how often its value is loaded.
struct Counted {
    value: u64,
    guest: Guest,
    written: KernelCounter,
}

impl Counted {
    fn start(value: u32, cpuids: u64) -> Self {
        let written = KernelCounter::start("msr/write_msr", Some(&format!("msr == 0xc0000103 && val == {value}")));
        let guest = Guest::start(&format!("--cpu 0 --outs 1000000000 --cpuids {cpuids} --tsc-aux {value}"));
        Self { value: value.into(), guest, written }
    }
}

#[test]
fn each_of_two_guests_on_one_cpu_has_its_own() {
    let record = WriteRecord::start();
    let exits = Histogram::start("kvm/kvm_exit", &["common_pid"], None);
    let measuring = Measuring::start("");
    let guests = [Counted::start(0xa01, 20), Counted::start(0xb02, 40)];
    // The one that began first has made some before.
    let (first, second) = (guests[0].written.count(), guests[1].written.count());
    wait_until("both run at once", || {
        guests[0].written.count() >= first + ENOUGH && guests[1].written.count() >= second + ENOUGH
    });
    let ended = guests.map(|Counted { value, guest, written }| (value, guest.pid(), guest.cut_short(), written));
    let measured = measuring.stop();
    measured.assert_right();
    let report = &measured.report;
    assert_verified(report);
    assert_all_attributed(report);
    assert_eq!((report.vms.len(), report.vcpus.len()), (2, 2), "{:?}", report.vms);
    let (writes, exits) = (record.writes(), exits.read());
    for (value, process, guest, written) in &ended {
        assert_own(report, (*process, guest), (&writes, *value), &exits);
        let vcpu = report.vcpus.iter().find(|row| row.vm == *process).unwrap();
        assert_eq!(vcpu.numbers.set_written, Some(written.count()), "WRMSRs to the value of {process}");
    }
    // A guest's value may go straight over to the other one's: two loads, and one restore.
    let loaded: u64 = report.vcpus.iter().map(|row| row.numbers.set_written.unwrap()).sum();
    let performed = report.totals.counts.performed.unwrap();
    assert_eq!(loaded, performed + taken_over(&writes), "what was loaded was restored, or taken over by the other guest");
}

fn assert_own(
    report: &Report,
    (process, guest): (u32, &GuestOutcome),
    (writes, value): (&[Write], u64),
    exits: &BTreeMap<Vec<u64>, u64>,
) {
    let vcpu = report.vcpus.iter().find(|row| row.vm == process).unwrap();
    let numbers = &vcpu.numbers;
    assert_eq!(numbers.userspace_exits, guest.kvm_runs, "{guest:?}");
    assert!(numbers.exits >= guest.cpuids + guest.outs, "{numbers:?} {guest:?}");
    assert_eq!(Some(&numbers.exits), exits.get(&vec![u64::from(vcpu.tid)]), "exits of {vcpu:?}, and by the kernel");
    let back = restored(writes).get(&(vcpu.tid, value)).copied();
    assert_eq!(numbers.performed, back, "WRMSRs back from the value of {process}");
    let vm = report.vms.iter().find(|row| row.vm == process).unwrap();
    assert_eq!(vm.numbers.exits, numbers.exits, "its VM has the same exits");
    assert!(vcpu.ended, "{vcpu:?}");
}

/// How often a guest's value was loaded where another guest's was.
fn taken_over(writes: &[Write]) -> u64 {
    let mut last: BTreeMap<u32, u64> = BTreeMap::new();
    let mut taken_over = 0;
    for write in writes {
        let before = last.insert(write.cpu, write.value);
        taken_over += u64::from(!write.is_restore() && before.is_some_and(|before| before >= 8 && before != write.value));
    }
    taken_over
}
