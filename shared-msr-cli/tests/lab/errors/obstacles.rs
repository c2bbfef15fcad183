//! What keeps a measurement from beginning.

use super::{as_nobody, assert_doctor_names, assert_refused, known, report};
use crate::support::{Covered, Setting, WithoutKvm, shared_msr};

#[test]
fn kvm_that_is_not_loaded_is_named_by_every_command() {
    let _unloaded = WithoutKvm::new();
    assert_refused(&report(), 1, &["KVM is not loaded", "modprobe"]);
    assert_refused(&shared_msr("guest"), 1, &["/dev/kvm"]);
    assert_refused(&shared_msr("inspect"), 1, &["KVM is not loaded"]);
    assert_doctor_names(&shared_msr("doctor"), 1, &["KVM is not loaded"]);
}

#[test]
fn a_host_without_obstacles_is_called_so() {
    let (report, doctor) = (report(), shared_msr("doctor"));
    assert_eq!(report.status, 0, "{report:?}");
    assert_eq!(doctor.status, 0, "{doctor:?}");
}

#[test]
fn a_user_without_rights_hears_which_it_takes() {
    assert_refused(&as_nobody("report --duration 200ms"), 1, &["CAP_BPF", "root"]);
    assert_refused(&as_nobody("guest"), 1, &["/dev/kvm"]);
    assert_doctor_names(&as_nobody("doctor"), 1, &["CAP_BPF"]);
}

#[test]
fn addresses_that_the_kernel_hides_are_named_with_the_setting() {
    let _hidden = Setting::new("/proc/sys/kernel/kptr_restrict", "2");
    assert_refused(&report(), 1, &["hides", "kptr_restrict"]);
    assert_doctor_names(&shared_msr("doctor"), 1, &["hides"]);
}

#[test]
fn without_the_list_of_msrs_there_is_only_the_count_of_wrmsrs() {
    let _hidden = Covered::without_symbol("kvm_uret_msrs_list");
    assert_refused(&report(), 1, &["kvm_uret_msrs_list", "CONFIG_KALLSYMS_ALL", "--probe tracepoint"]);
    assert_refused(&shared_msr("inspect"), 1, &["kvm_uret_msrs_list"]);
    assert_doctor_names(&shared_msr("doctor"), 1, &["kvm_uret_msrs_list"]);
    let writes = known("--probe tracepoint");
    assert_eq!(writes.status, 0, "{writes:?}");
    let report = writes.report();
    let tsc_aux = report.msrs.iter().find(|row| row.name == "TSC_AUX").unwrap();
    assert_eq!(tsc_aux.counts.wrmsrs, Some(102), "51 loads and 51 restores");
    let counts = tsc_aux.counts;
    assert_eq!((tsc_aux.slot, counts.set_written, counts.performed, counts.deferred), (None, None, None, None));
    assert!(writes.stderr.contains("cannot be told apart"), "{}", writes.stderr);
}
