//! What still works by another hook.

use super::{assert_doctor_names, assert_refused, assert_stepped_down, known};
use crate::support::{Covered, shared_msr};

const SET: &str = "kvm_set_user_return_msr";

#[test]
fn without_btf_functions_are_hooked_by_kprobes_and_a_documented_layout_is_taken() {
    let _without = Covered::with("/sys/kernel/btf/vmlinux", "");
    let ended = known("");
    assert_stepped_down(&ended, &format!("kprobe:{SET}"));
    let notes: Vec<&str> = ended.stderr.lines().filter(|line| line.starts_with("shared-msr: ")).collect();
    assert!(notes.len() == 1 && notes[0].contains("documented"), "{notes:?}");
    let doctor = shared_msr("doctor");
    assert_doctor_names(&doctor, 0, &["fentry:kvm_set_user_return_msr", "no BTF"]);
    assert!(doctor.stdout.contains("the documented one, because"), "{}", doctor.stdout);
    let fentry = shared_msr("report --probe fentry --duration 200ms");
    assert_refused(&fentry, 1, &["fentry:kvm_set_user_return_msr", "no BTF"]);
}

#[test]
fn without_the_function_that_sets_wrmsrs_are_counted() {
    let _without = Covered::without_symbol(SET);
    assert_stepped_down(&known(""), "raw_tracepoint:write_msr");
    assert_doctor_names(&shared_msr("doctor"), 0, &[SET]);
    assert_refused(&shared_msr("report --probe kprobe --duration 200ms"), 1, &[SET]);
}

#[test]
fn without_the_function_that_closes_windows_sets_are_still_hooked() {
    let _without = Covered::without_symbol("kvm_on_user_return");
    assert_stepped_down(&known(""), &format!("fentry:{SET}"));
}
