//! Filters on a real run: what they take is shown as it is without them, and the rest is summed.

use crate::support::{Ended, Guest, KernelCounter, Report, Running, assert_reconciled, command, report_on, wait_until};

/// Exits to user space of the guest that ends by itself.
const OUTS: u64 = 100;

/// A report on what is running, that ends when there have been some exits.
fn report(words: &str) -> Report {
    let mut report = Running::start(&mut command(&format!("report --verify --format json {words}")));
    report.wait_until_attached();
    let counter = KernelCounter::start("kvm/kvm_exit", None);
    wait_until("there are exits on CPU 1", || counter.by_cpu()[&1] > 300);
    report.signal(libc::SIGINT);
    let ended = report.wait();
    let report = ended.report();
    assert_right(&ended, &report);
    report
}

/// A report on a guest on CPU 1 that it starts itself, once its hooks are attached: nothing slows down how it begins.
fn report_on_guest(words: &str) -> Report {
    let guest = format!("shared-msr guest --outs {OUTS} --cpuids 3 --cpu 1 --tsc-aux 0xa02");
    let (ended, report) = report_on(words, &guest.split(' ').collect::<Vec<_>>());
    assert_right(&ended, &report);
    assert!(report.totals.events.exits >= OUTS * 4, "{:?}", report.totals);
    report
}

#[track_caller]
fn assert_right(ended: &Ended, report: &Report) {
    assert_eq!(ended.status, 0, "{ended:?}");
    assert!(report.reconciled && report.verified, "{:?}", report.violations);
}

fn exits(report: &Report) -> (u64, u64, u64) {
    let of = |numbers: &mut dyn Iterator<Item = u64>| numbers.sum();
    (
        of(&mut report.vms.iter().map(|row| row.numbers.exits)),
        of(&mut report.vcpus.iter().map(|row| row.numbers.exits)),
        of(&mut report.cpus.iter().map(|row| row.events.exits)),
    )
}

/// A VM on a CPU of its own.
fn guest_on(cpu: u32) -> Guest {
    Guest::start(&format!("--outs 1000000000 --cpuids 3 --cpu {cpu} --tsc-aux {}", 0xa01 + cpu))
}

/// Two of them.
fn two_guests() -> [Guest; 2] {
    [0, 1].map(guest_on)
}

#[test]
fn vm_takes_one_process_and_sums_the_others() {
    let guests = two_guests();
    let all = report("");
    assert_reconciled(&all);
    assert_eq!(all.vms.len(), 2);
    assert!(all.filtered_out.is_none(), "nothing is filtered out where nothing was asked for");
    let one = report(&format!("--vm {}", guests[1].pid()));
    let [vm] = one.vms.as_slice() else { panic!("{:?}", one.vms) };
    assert_eq!(vm.vm, guests[1].pid());
    assert!(vm.numbers.exits > 0 && one.vcpus.iter().all(|row| row.vm == guests[1].pid()) && one.vcpus.len() == 1);
    let out = one.filtered_out.as_ref().unwrap();
    assert_eq!((out.vms.rows, out.vcpus.rows), (1, 1));
    assert!(out.vms.exits > 0 && out.vms.exits == out.vcpus.exits, "{out:?}");
    let (vms, vcpus, _) = exits(&one);
    let total = one.totals.events.exits - one.unattributed.exits;
    assert_eq!((vms + out.vms.exits, vcpus + out.vcpus.exits), (total, total), "shown and filtered out are all");
}

#[test]
fn cpu_takes_one_cpu_and_sums_the_others() {
    let guests = two_guests();
    let one = report("--cpu 1");
    let [cpu] = one.cpus.as_slice() else { panic!("{:?}", one.cpus) };
    assert_eq!(cpu.cpu, 1);
    // The guest of CPU 1 runs nowhere else.
    let of_guest = one.vcpus.iter().find(|row| row.vm == guests[1].pid()).unwrap();
    assert_eq!(cpu.events.exits, of_guest.numbers.exits);
    let out = one.filtered_out.as_ref().unwrap();
    assert_eq!(out.cpus.rows, 1);
    assert_eq!(cpu.events.exits + out.cpus.exits, one.totals.events.exits, "shown and filtered out are all");
}

#[test]
fn vcpu_takes_kvm_s_numbers() {
    let first = report_on_guest("--vcpu 0");
    assert_eq!((first.vcpus.len(), first.filtered_out.as_ref().unwrap().vcpus.rows), (1, 0));
    let second = report_on_guest("--vcpu 1");
    assert!(second.vcpus.is_empty(), "{:?}", second.vcpus);
    let out = second.filtered_out.as_ref().unwrap();
    assert_eq!((out.vcpus.rows, out.vcpus.exits), (1, second.totals.events.exits - second.unattributed.exits));
}

#[test]
fn msr_takes_a_name_or_an_index_and_sums_the_others() {
    for msr in ["tsc_aux", "0xc0000103"] {
        let report = report_on_guest(&format!("--msr {msr}"));
        let [row] = report.msrs.as_slice() else { panic!("{:?}", report.msrs) };
        assert_eq!((&*row.name, row.index), ("TSC_AUX", 0xc000_0103));
        assert!(row.counts.performed > Some(OUTS), "KVM_RUN calls + 1, or more if others paid: {row:?}");
        assert_eq!(row.counts.performed, report.totals.counts.performed);
        assert_eq!(report.filtered_out.as_ref().unwrap().msrs.rows, 0);
    }
    let other = report_on_guest("--msr STAR");
    assert!(other.msrs.is_empty(), "{:?}", other.msrs);
    let out = &other.filtered_out.as_ref().unwrap().msrs;
    assert!(out.performed > OUTS, "{out:?}");
    assert_eq!((out.rows, Some(out.performed)), (1, other.totals.counts.performed));
}

#[test]
fn inspect_shows_only_the_cpus_that_it_is_asked_for() {
    let inspect = |words: &str| crate::support::shared_msr(&format!("inspect --format json {words}"));
    let of = |words: &str| -> Vec<u32> {
        let document: shared_msr::commands::inspect::Document<'_> = crate::support::json(&inspect(words).stdout).unwrap();
        document.cpus.iter().map(|cpu| cpu.cpu).collect()
    };
    assert_eq!(of(""), [0, 1]);
    assert_eq!(of("--cpu 1"), [1]);
    assert_eq!(of("--cpu 0-1"), [0, 1]);
    inspect("--cpu 7").assert_one_sentence(1, "CPU 7");
}
