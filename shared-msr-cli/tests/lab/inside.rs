//! A CPU that is inside a window when it is looked at, and when the hooks are attached.
//!
//! All but guests runs on CPU 0, so that nothing ends a window of CPU 1.

use crate::support::{
    Ended, Guest, KernelCounter, Report, assert_all_attributed, assert_nothing_lost, assert_reconciled, assert_verified, inspect,
    on_cpu, report_over_exits, shared_msr, wait_until,
};

/// Long enough for guests on two CPUs.
fn report(words: &str) -> Ended {
    report_over_exits(words, 5000)
}

/// A guest on CPU 1 that stays inside a window: attached hooks and other tasks may end one, but a spinning guest opens the next.
fn inside_on_cpu_1(words: &str) -> Guest {
    let guest = Guest::start(&format!("--spin --cpu 1 --tsc-aux 0xabc {words}"));
    wait_until("CPU 1 is inside a window", || inspect().cpus[1].registered);
    guest
}

#[test]
fn inspect_shows_the_guest_s_value_in_the_hardware() {
    on_cpu(0, inspected);
}

fn inspected() {
    let guest = inside_on_cpu_1("");
    wait_until("nothing ends the window between two looks", || {
        let during = inspect();
        assert_eq!(during.own_cpu, 0);
        assert!(!during.cpus[0].registered, "CPU 0 is the one that looks: {during:?}");
        let value = &during.cpus[1].values[0];
        assert_eq!(value.host, 1, "the host's TSC_AUX is the number of the CPU");
        during.cpus[1].registered && value.curr == 0xabc
    });
    let table = shared_msr("inspect");
    assert!(table.stdout.contains("its own return to user mode closes"), "why its own CPU is never inside a window: {table:?}");
    guest.stop();
    let after = &inspect().cpus[1].values[0];
    assert_eq!(after.host, after.curr, "after the guest");
}

#[test]
fn hooks_that_are_attached_and_taken_away_inside_a_window_count_all_of_it() {
    on_cpu(0, attached);
}

fn attached() {
    let guest = inside_on_cpu_1("--cpuids 1");
    let ended = report("--kernel-log");
    guest.stop();
    let report = ended.report();
    let (events, counts) = (report.totals.events, report.totals.counts);
    assert_eq!(events.windows_open_at_start, Some(1));
    assert_eq!(events.windows_open_at_end, Some(1));
    let cpu_1 = report.cpus.iter().find(|row| row.cpu == 1).unwrap();
    assert_eq!((cpu_1.events.windows_open_at_start, cpu_1.events.windows_open_at_end), (Some(1), Some(1)), "both were CPU 1's");
    let (deferred, performed) = (counts.deferred.unwrap(), counts.performed.unwrap());
    assert_eq!(report.vcpus[0].numbers.deferred, Some(deferred), "what was put off is the vCPU's, from the first exit on");
    assert_all_attributed(&report);
    assert!(events.exits > 1000, "{events:?}");
    // Between two windows the guest makes no exit; an exit of the first vCPU entry after a close is not yet inside one.
    assert!(deferred > 0 && deferred <= events.exits && events.exits - deferred <= 2 * performed, "{events:?} {counts:?}");
    assert_reconciled(&report);
    assert_nothing_lost(&report);
}

#[test]
fn two_busy_cpus_are_counted_at_once() {
    let on = |cpu: u32, value: &str| Guest::start(&format!("--outs 1000000000 --cpuids 3 --cpu {cpu} --tsc-aux {value}"));
    let _guests = [on(0, "0xabc"), on(1, "0xdef")];
    let counter = KernelCounter::start("kvm/kvm_exit", None);
    wait_until("both make exits", || counter.by_cpu().values().all(|exits| *exits > 100));
    let report: Report = report("").report();
    let (deferred, performed) = (report.totals.counts.deferred.unwrap(), report.totals.counts.performed.unwrap());
    assert!(performed > 100 && performed <= deferred + 2, "no restore without its exit: {:?}", report.totals);
    assert!(report.cpus.iter().all(|row| row.events.exits > 0), "{:?}", report.cpus);
    assert_verified(&report);
}

#[test]
fn a_guest_on_cpu_1_is_counted_there_alone() {
    let words = "report --verify --format json -- shared-msr guest --cpu 1 --outs 100 --cpuids 10 --tsc-aux 0xabc";
    let report = on_cpu(1, || shared_msr(words)).report();
    assert_eq!(report.totals.counts.performed, Some(101), "100 KVM_RUN + 1");
    for row in &report.cpus {
        let (least, performed) = if row.cpu == 1 { (1100, 101) } else { (0, 0) };
        assert!(row.events.exits >= least && (row.cpu == 1 || row.events.exits == 0), "{row:?}");
        assert_eq!(row.counts.performed, Some(performed), "{row:?}");
    }
    assert_verified(&report);
}
