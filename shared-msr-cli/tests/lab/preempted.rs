//! A host whose kernel is preempted everywhere (`preempt=full`, CONFIG_PREEMPT_DYNAMIC): other tasks come in between at more places.

use std::fs;

use crate::shapes::hold;

#[test]
fn the_kernel_is_preempted_everywhere() {
    let mode = fs::read_to_string("/sys/kernel/debug/sched/preempt").unwrap();
    assert!(mode.contains("(full)"), "{mode}");
}

#[test]
fn rows_are_right_with_threads_and_vcpus_many_to_many() {
    hold("fentry", "pool 2");
    hold("kprobe", "pool 2");
}

#[test]
fn rows_are_right_with_many_vcpus() {
    hold("fentry", "many 16 10");
}
