//! Hooks that are switched off for the whole kernel, before and while they are used.
//!
//! Kprobes that were switched off once are refused by the kernel (ENODEV) until it is booted again, also when they are on: all
//! is one test, in an order, on a host that is used for nothing else.

use super::{assert_doctor_names, assert_refused, assert_stepped_down, known, with_script};
use crate::support::{Setting, shared_msr};

const KPROBES: &str = "/sys/kernel/debug/kprobes/enabled";

#[test]
fn hooks_that_are_switched_off_are_not_used_and_not_trusted() {
    switched_off_while_attached();
    kprobes_off();
    ftrace_off();
}

/// Nothing is counted, and only the check can tell.
fn switched_off_while_attached() {
    let _on_again = Setting::new(KPROBES, "1");
    let script = format!("echo 0 >{KPROBES}; shared-msr guest --outs 50 --tsc-aux 0xabc");
    let blind = with_script("report --probe kprobe --verify --format json", &script);
    assert_eq!(blind.status, 1, "{blind:?}");
    assert!(!blind.report().reconciled, "{blind:?}");
    assert!(blind.stderr.lines().last().unwrap_or_default().contains("do not reconcile"), "{}", blind.stderr);
}

fn kprobes_off() {
    let _off = Setting::new(KPROBES, "0");
    assert_stepped_down(&known(""), "fentry:kvm_set_user_return_msr");
    assert_doctor_names(&shared_msr("doctor"), 0, &["switched off"]);
    assert_refused(&shared_msr("report --probe kprobe --duration 200ms"), 1, &["switched off", KPROBES]);
}

fn ftrace_off() {
    let _off = Setting::new("/proc/sys/kernel/ftrace_enabled", "0");
    assert_stepped_down(&known(""), "raw_tracepoint:write_msr");
    assert_doctor_names(&shared_msr("doctor"), 0, &["switched off"]);
    for step in ["fentry", "kprobe"] {
        let refused = shared_msr(&format!("report --probe {step} --duration 200ms"));
        assert_refused(&refused, 1, &["switched off", "sysctl kernel.ftrace_enabled=1"]);
    }
}
