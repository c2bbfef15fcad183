//! Guests in the middle of whose work each measurement begins and ends: every report must still agree with the kernel's record,
//! WRMSR by WRMSR.

use crate::support::{Guest, KernelCounter, Running, assert_verified, command, modest, wait_until};

/// Restores that there must be in each part of a measurement.
const RESTORES: u64 = 20;
/// Under each step.
const REPORTS: u32 = 2;

/// Guests that go on, with these values of `TSC_AUX`.
fn staying(values: &[&str]) -> Vec<Guest> {
    values.iter().map(|value| Guest::endless(3, value)).collect()
}

/// A counter of writes of `TSC_AUX` with such a value.
fn writes(values: &str) -> KernelCounter {
    KernelCounter::start("msr/write_msr", Some(&format!("msr == 0xc0000103 && {values}")))
}

/// Waits for some restores: the host's value is the number of the CPU.
fn wait_for_restores() {
    let restores = writes("val < 8");
    wait_until("guests' values are taken back", || restores.count() > RESTORES);
}

/// One report that begins and ends while guests run; in the middle of it something is done.
fn report(step: &str, in_the_middle: impl FnOnce()) {
    let mut report = Running::start(&mut command(&format!("report --probe {step} --verify --format json")));
    report.wait_until_attached();
    wait_for_restores();
    in_the_middle();
    wait_for_restores();
    report.signal(libc::SIGINT);
    let ended = report.wait();
    assert_eq!(ended.status, 0, "{ended:?}");
    let report = ended.report();
    assert_verified(&report);
    let counts = report.totals.counts;
    assert_eq!(counts.set_failed, Some(0));
    assert!(counts.performed.unwrap() >= 2 * RESTORES, "there was something to count: {counts:?}");
}

/// More guests than CPUs, of which one is killed and another one comes in each measurement.
mod come_and_go {
    use super::*;

    fn visitor(value: u32) -> Running {
        let counter = writes(&format!("val == {value}"));
        let visitor = Running::start(&mut modest(&format!("guest --spin --cpuids 1 --tsc-aux {value}")));
        wait_until("the visitor's value is loaded", || counter.count() > 0);
        visitor
    }

    fn reports(step: &str) {
        let _staying = staying(&["0xa01", "0xa02", "0xa03", "host"]);
        let mut present = visitor(0xb00);
        for number in 1..=REPORTS {
            let mut next = None;
            report(step, || {
                drop(present);
                next = Some(visitor(0xb00 + number));
            });
            present = next.unwrap();
        }
    }

    #[test]
    fn fentry_agrees_with_the_kernel_s_record() {
        reports("fentry");
    }

    #[test]
    fn kprobes_agree_with_the_kernel_s_record() {
        reports("kprobe");
    }

    #[test]
    fn the_tracepoint_of_wrmsrs_agrees_with_the_kernel_s_record() {
        reports("tracepoint");
    }
}

/// One guest, one report each, for hosts that are slow.
mod stay {
    use super::*;

    fn one_report(step: &str) {
        let _staying = staying(&["0xa01"]);
        report(step, || ());
    }

    #[test]
    fn fentry_agrees_with_the_kernel_s_record() {
        one_report("fentry");
    }

    #[test]
    fn kprobes_agree_with_the_kernel_s_record() {
        one_report("kprobe");
    }

    #[test]
    fn the_tracepoint_of_wrmsrs_agrees_with_the_kernel_s_record() {
        one_report("tracepoint");
    }
}
