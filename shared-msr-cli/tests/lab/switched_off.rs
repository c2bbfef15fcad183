//! Hooks that are switched off, and on again, while they are attached: the report tells the loss and ends with status 1, also when
//! nobody looked at the switch in the meantime.
//!
//! Without `--verify`: with it, the kernel's own record of WRMSRs would tell.

use crate::support::{
    Ended, Guest, KernelCounter, Looks, Report, Running, Setting, assert_nothing_lost, assert_reconciled, command, wait_until,
};

const FTRACE: &str = "/proc/sys/kernel/ftrace_enabled";
const KPROBES: &str = "/sys/kernel/debug/kprobes/enabled";

/// How long a switch is off.
#[derive(Clone, Copy, PartialEq)]
enum Off {
    /// Only for some returns to the VMM: the program looks every 5 s, so that it may not see it.
    ForReturns,
    /// Until the program has looked at it.
    UntilSeen,
}

/// Waits for some returns to the VMM, by the kernel's count, at each of which there is a restore.
fn wait_for_returns() {
    let returns = KernelCounter::start("kvm/kvm_userspace_exit", None);
    wait_until("the guest returns to the VMM", || returns.count() > 200);
}

/// A report by this step on a guest that returns all the time, in the middle of which something is done.
fn report(step: &str, in_the_middle: impl FnOnce()) -> (Ended, Report) {
    let mut report = Running::start(&mut command(&format!("report --probe {step} --format json")));
    report.wait_until_attached();
    let guest = Guest::endless(10, 0xabc);
    wait_for_returns();
    in_the_middle();
    wait_for_returns();
    guest.cut_short();
    report.signal(libc::SIGINT);
    let ended = report.wait();
    let report = ended.report();
    (ended, report)
}

#[track_caller]
fn assert_complete((ended, report): &(Ended, Report)) {
    assert_eq!(ended.status, 0, "{ended:?}");
    assert_nothing_lost(report);
    assert_reconciled(report);
    assert!(report.totals.counts.performed.unwrap() > 0, "it has seen restores: {:?}", report.totals);
}

#[track_caller]
fn assert_loss_is_told(step: &str, switch: &str, off: Off) {
    let (ended, report) = report(step, || {
        let mut looks = Looks::at(switch);
        let _off = Setting::new(switch, "0");
        wait_for_returns();
        // What was before this moment may have been a look at the switch when it was still on.
        looks.any();
        if off == Off::UntilSeen {
            wait_until("the program looks at the switch", || looks.any());
        }
    });
    assert_eq!(ended.status, 1, "{ended:?}");
    let (returns, performed) = (report.totals.events.userspace_exits, report.totals.counts.performed.unwrap());
    assert!(0 < performed && performed < returns, "closes were missed, and some were seen: {performed} at {returns} returns");
    assert!(report.lost.missed_closes > 0, "missed closes are told: {:?}", report.lost);
    if off == Off::UntilSeen {
        assert!(report.lost.hooks_off > 0, "the switch is told: {:?}", report.lost);
    }
    let said = ended.stderr.lines().last().unwrap_or_default();
    assert!(said.starts_with("shared-msr: ") && !said.contains("panicked") && !said.contains("please report"), "{ended:?}");
}

#[test]
fn nothing_is_lost_by_fentry_while_its_switch_is_on() {
    assert_complete(&report("fentry", || {
        let mut looks = Looks::at(FTRACE);
        wait_until("the program looks at the switch", || looks.any());
    }));
}

#[test]
fn nothing_is_lost_by_kprobes_while_their_switches_are_on() {
    assert_complete(&report("kprobe", wait_for_returns));
}

#[test]
fn fentry_tells_that_ftrace_was_off_when_it_looked() {
    assert_loss_is_told("fentry", FTRACE, Off::UntilSeen);
}

#[test]
fn fentry_tells_closes_that_it_missed_while_ftrace_was_off() {
    assert_loss_is_told("fentry", FTRACE, Off::ForReturns);
}

#[test]
fn kprobes_tell_closes_that_they_missed_while_ftrace_was_off() {
    assert_loss_is_told("kprobe", FTRACE, Off::ForReturns);
}

#[test]
fn kprobes_tell_closes_that_they_missed_while_kprobes_were_off() {
    assert_loss_is_told("kprobe", KPROBES, Off::ForReturns);
}

#[test]
fn kprobes_tell_that_kprobes_were_off_when_they_looked() {
    assert_loss_is_told("kprobe", KPROBES, Off::UntilSeen);
}
