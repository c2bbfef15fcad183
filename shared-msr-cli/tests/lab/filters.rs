//! Filters on a real run: what they take is shown as it is without them, and the rest is summed.

use crate::support::{Guest, KernelCounter, Report, Running, assert_reconciled, command, modest, wait_until};

/// A report on what is running, that ends when there have been some exits.
fn report(words: &str) -> Report {
    let mut report = Running::start(&mut command(&format!("report --verify --format json {words}")));
    report.wait_until_attached();
    let counter = KernelCounter::start("kvm/kvm_exit", None);
    wait_until("there are exits on CPU 1", || counter.by_cpu()[&1] > 300);
    report.signal(libc::SIGINT);
    let ended = report.wait();
    assert_eq!(ended.status, 0, "{ended:?}");
    let report = ended.report();
    assert!(report.reconciled && report.verified, "{:?}", report.violations);
    report
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
    Guest::start_as(&mut modest(&format!("guest --outs 1000000000 --cpuids 3 --cpu {cpu} --tsc-aux {}", 0xa01 + cpu)))
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
    let _guest = guest_on(1);
    let first = report("--vcpu 0");
    assert_eq!((first.vcpus.len(), first.filtered_out.as_ref().unwrap().vcpus.rows), (1, 0));
    let second = report("--vcpu 1");
    assert!(second.vcpus.is_empty(), "{:?}", second.vcpus);
    let out = second.filtered_out.as_ref().unwrap();
    assert_eq!((out.vcpus.rows, out.vcpus.exits), (1, second.totals.events.exits - second.unattributed.exits));
}

#[test]
fn msr_takes_a_name_or_an_index_and_sums_the_others() {
    let _guest = guest_on(1);
    for msr in ["tsc_aux", "0xc0000103"] {
        let report = report(&format!("--msr {msr}"));
        let [row] = report.msrs.as_slice() else { panic!("{:?}", report.msrs) };
        assert_eq!((&*row.name, row.index), ("TSC_AUX", 0xc000_0103));
        assert_eq!(row.counts.performed, report.totals.counts.performed);
        assert_eq!(report.filtered_out.as_ref().unwrap().msrs.rows, 0);
    }
    let other = report("--msr STAR");
    assert!(other.msrs.is_empty(), "{:?}", other.msrs);
    let out = &other.filtered_out.as_ref().unwrap().msrs;
    assert!(out.performed > 0, "{out:?}");
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
