//! A guest's known number of exits, against the report and against the kernel's own counts of the same run.

use shared_msr::guest::GuestOutcome;

use crate::support::{
    Guest, Measured, Running, assert_nothing_lost, assert_verified, command, json, measure, report_over_exits, shared_msr,
    wait_for_exits,
};

const GUEST: [&str; 6] = ["shared-msr", "guest", "--format", "json", "--cpu", "0"];

fn measured(guest: &str) -> Measured {
    let command: Vec<&str> = GUEST.into_iter().chain(guest.split(' ')).collect();
    let measured = measure("", &command);
    measured.assert_right();
    assert_verified(&measured.report);
    measured
}

#[test]
fn each_restore_is_that_of_a_return_to_the_vmm_or_of_a_setting_of_msrs() {
    let measured = measured("--outs 200 --cpuids 10 --hlts 50 --tsc-aux 0xabc");
    let guest: GuestOutcome = json(&measured.ended.stdout).unwrap();
    let [tsc_aux] = measured.report.msrs.as_slice() else { panic!("{:?}", measured.report.msrs) };
    assert_eq!(tsc_aux.name, "TSC_AUX");
    assert_eq!(guest.kvm_runs, 250, "200 OUT + 50 HLT");
    assert_eq!(tsc_aux.counts.performed, Some(guest.kvm_runs + guest.set_msrs_calls));
    let (deferred, performed) = (tsc_aux.counts.deferred.unwrap(), tsc_aux.counts.performed.unwrap());
    assert!(deferred >= 2000, "{deferred}");
    assert_eq!(tsc_aux.counts.avoided, Some(deferred.cast_signed() - performed.cast_signed()));
    let events = measured.report.totals.events;
    assert_eq!(events.windows_opened, events.windows_closed);
    assert_eq!(events.clean_closes, Some(0));
}

#[test]
fn exits_that_kvm_handles_itself_cost_next_to_no_restore() {
    let measured = measured("--outs 1 --cpuids 20000 --tsc-aux 0xabc");
    let counts = measured.report.msrs[0].counts;
    assert!((1..=12).contains(&counts.performed.unwrap()), "{counts:?}");
    assert!(counts.deferred.unwrap() >= 20_000, "{counts:?}");
}

#[test]
fn a_guest_with_the_host_s_value_has_nothing_to_put_off() {
    let measured = measured("--outs 200 --cpuids 10 --hlts 50 --tsc-aux host");
    let (counts, events) = (measured.report.totals.counts, measured.report.totals.events);
    assert_eq!((counts.set_written, counts.performed, counts.deferred), (Some(0), Some(0), Some(0)));
    assert_eq!((events.windows_opened, events.windows_closed), (Some(0), Some(0)));
    assert!(counts.set_skipped.unwrap() >= 250, "the sets were skipped: {counts:?}");
    let table = shared_msr("report --verify -- shared-msr guest --outs 200 --cpuids 10 --tsc-aux host");
    assert_eq!(table.status, 0, "{table:?}");
    assert!(table.stdout.contains("are the host's own"), "the table says so plainly: {}", table.first_line());
}

/// Every restore has an exit to user space before it, so all kinds of events must be counted from the same moment on.
#[test]
fn a_guest_that_ran_before_and_goes_on_after_is_counted_from_one_moment_on() {
    let _guest = Guest::endless(0, 0xabc);
    for _ in 0..3 {
        let report = report_over_exits("", 1000).report();
        let (counts, events) = (report.totals.counts, report.totals.events);
        let (deferred, performed) = (counts.deferred.unwrap(), counts.performed.unwrap());
        assert!(performed > 100, "there is something to count: {counts:?}");
        // One restore, or one return, may belong to an exit right before the start.
        assert!(performed <= deferred + 1, "no restore without its exit: {counts:?}");
        assert!(events.userspace_exits <= events.exits + 1, "no return to the VMM without its exit: {events:?}");
        assert_verified(&report);
    }
}

#[test]
fn standard_output_is_one_document_that_names_vendor_and_hooks() {
    let plain = shared_msr("report --verify --format json -- shared-msr guest --outs 200 --cpuids 10 --hlts 50 --tsc-aux 0xabc");
    let report = plain.report();
    assert_eq!(report.schema, 2);
    assert_eq!(report.msrs[0].counts.performed, Some(251), "250 KVM_RUN + 1");
    let hooks = &report.host.hooks;
    for (hook, function) in [
        (hooks.set.as_deref(), "kvm_set_user_return_msr"),
        (hooks.close.as_deref(), "kvm_on_user_return"),
        (Some(hooks.exit.as_str()), "kvm_exit"),
        (Some(hooks.userspace_exit.as_str()), "kvm_userspace_exit"),
    ] {
        assert!(hook.is_some_and(|hook| hook.ends_with(&format!(":{function}"))), "{function}: {hook:?}");
    }
    assert_eq!(report.host.vendor.isa(), "svm");
    assert!(!plain.stderr.contains("kernel side"), "no messages of the kernel side without --kernel-log: {}", plain.stderr);
}

#[test]
fn the_table_begins_with_the_verdict() {
    let table = shared_msr("report --verify -- shared-msr guest --outs 200 --cpuids 10 --tsc-aux 0xabc");
    assert!(table.stdout.starts_with("In ") && table.first_line().contains("put off"), "{}", table.first_line());
    let nothing = shared_msr("report --duration 200ms");
    assert!(nothing.stdout.contains("no guest ran"), "a quiet host is called so: {}", nothing.first_line());
}

#[test]
fn the_status_of_the_command_is_passed_on() {
    let report = |script: &str| Running::start(command("report --").args(["sh", "-c", script])).wait().status;
    assert_eq!(report("exit 7"), 7);
    assert_eq!(report("kill -9 $$"), 137, "as in a shell");
}

#[test]
fn kernel_log_shows_the_kernel_side_s_messages() {
    let ended = shared_msr("report --verify --kernel-log --format json -- shared-msr guest --outs 20 --tsc-aux 0xabc");
    assert!(ended.stderr.contains("kernel side: info: first event here"), "{}", ended.stderr);
}

#[test]
fn ctrl_c_ends_a_measurement_that_still_prints() {
    let mut report = Running::start(&mut command("report --verify --format json"));
    report.wait_until_attached();
    report.signal(libc::SIGINT);
    let ended = report.wait();
    assert_eq!(ended.status, 0, "{ended:?}");
    assert!(ended.report().reconciled);
}

#[test]
fn ctrl_c_ends_the_command_too_and_its_status_is_passed_on() {
    let mut report =
        Running::start(&mut command("report --verify --format json -- shared-msr guest --spin --cpuids 1 --tsc-aux 0xabc"));
    report.wait_until_attached();
    wait_for_exits(2000);
    report.signal(libc::SIGINT);
    let ended = report.wait();
    assert_eq!(ended.status, 0, "{ended:?}");
    let report = ended.report();
    assert!(report.totals.events.exits > 1000, "{:?}", report.totals);
    assert_nothing_lost(&report);
}
