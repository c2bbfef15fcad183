//! What was asked for cannot be done.

use std::path::Path;

use super::{assert_refused, with_script};
use crate::support::shared_msr;

#[test]
fn a_measurement_of_no_length_is_wrong_usage() {
    assert_refused(&shared_msr("report --duration 0"), 2, &["longer than 0"]);
}

#[test]
fn an_unknown_command_is_wrong_usage() {
    assert_refused(&shared_msr("frobnicate"), 2, &["frobnicate", "--help"]);
}

#[test]
fn a_command_that_cannot_be_run_is_named_with_the_reason() {
    assert_refused(&shared_msr("report -- no-such-command"), 1, &["no-such-command", "no such command"]);
    assert_refused(&shared_msr("report -- /proc/version"), 1, &["/proc/version", "permission"]);
}

#[test]
fn a_cpu_that_there_is_not_is_named() {
    assert_refused(&shared_msr("guest --cpu 77"), 1, &["77"]);
}

#[test]
fn a_file_that_cannot_be_written_is_named_before_the_command_is_started() {
    let was_run = Path::new("/tmp/was-run");
    assert!(!was_run.exists());
    let ended = shared_msr("report --output /no/such/folder/report.json -- touch /tmp/was-run");
    assert_refused(&ended, 1, &["/no/such/folder/report.json"]);
    assert!(!was_run.exists(), "the command was not started");
    // And it would have been seen.
    let ended = shared_msr("report --output /tmp/was-run.report -- touch /tmp/was-run");
    assert!(ended.status == 0 && was_run.exists(), "{ended:?}");
    std::fs::remove_file(was_run).unwrap();
    std::fs::remove_file("/tmp/was-run.report").unwrap();
}

#[test]
fn a_report_that_a_full_disk_does_not_take_is_not_lost() {
    let full = with_script("report --output /dev/full", "exit 7");
    assert_eq!(full.status, 7, "the command's status is passed on: {full:?}");
    assert!(full.stderr.contains("no guest ran") && full.stderr.contains("cannot write to /dev/full"), "{full:?}");
}
