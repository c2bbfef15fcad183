//! Signals while nobody reads.

use serde_json::Value;
use tempfile::tempfile;

use super::{Pipe, spinning_guest, wait_until_detached, wait_until_stalled, waits_for_reader};
use crate::support::{KernelCounter, Running, command, json, wait_until};

const TRACE: &str = "trace";
const REPORT: &str = "report --interval 20ms --format json";

#[test]
fn two_signals_end_a_trace_whose_standard_output_nobody_reads() {
    assert_two_signals_end(TRACE, false);
}

#[test]
fn two_signals_end_a_trace_whose_file_nobody_reads() {
    assert_two_signals_end(TRACE, true);
}

#[test]
fn two_signals_end_a_report_whose_standard_output_nobody_reads() {
    assert_two_signals_end(REPORT, false);
}

#[test]
fn two_signals_end_a_report_whose_file_nobody_reads() {
    assert_two_signals_end(REPORT, true);
}

fn assert_two_signals_end(words: &str, to_file: bool) {
    let _guest = spinning_guest();
    let pipe = Pipe::new();
    let mut program = if to_file {
        Running::start(command(words).arg("--output").arg(pipe.path()))
    } else {
        Running::start_into(&mut command(words), pipe.writer(), tempfile().unwrap())
    };
    wait_until_stalled(&mut program);
    program.signal(libc::SIGTERM);
    wait_until_detached(&mut program);
    assert!(waits_for_reader(&program), "it waits for the reader");
    program.signal(libc::SIGINT);
    wait_until("the second signal ends it", || program.has_ended());
    let (_, stderr) = program.printed();
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert_eq!(program.wait().status, 130, "the second signal is its status");
}

#[test]
fn a_trace_that_is_read_after_the_signal_is_whole_and_has_an_end() {
    let _guest = spinning_guest();
    let mut pipe = Pipe::new();
    let mut trace = Running::start_into(&mut command("trace --format jsonl"), pipe.writer(), tempfile().unwrap());
    wait_until_stalled(&mut trace);
    // Only 64 KiB fit the pipe; what the ring buffer holds comes after the signal.
    let counter = KernelCounter::start("kvm/kvm_exit", None);
    wait_until("the guest makes exits", || counter.count() > 3000);
    trace.signal(libc::SIGTERM);
    wait_until_detached(&mut trace);
    let text = pipe.read_all(&mut trace);
    assert_eq!(trace.wait().status, 0);
    let lines = u64::try_from(text.lines().count()).unwrap();
    let end: Value = json(text.lines().last().unwrap()).unwrap();
    assert_eq!(end["shown"], lines - 1, "each event has its line, and the end one");
    assert!(lines > 1000, "what was in the kernel's buffer is there: {lines}");
}

#[test]
fn a_standard_error_that_takes_nothing_holds_up_neither_the_report_nor_the_end() {
    let _guest = spinning_guest();
    let pipe = Pipe::new();
    pipe.fill();
    let mut report = Running::start_into(&mut command("report"), tempfile().unwrap(), pipe.writer());
    report.wait_until_attached();
    let counter = KernelCounter::start("kvm/kvm_exit", None);
    wait_until("the guest makes exits", || counter.count() > 100);
    report.signal(libc::SIGTERM);
    wait_until_detached(&mut report);
    wait_until("the report is there", || report.printed().0.contains("KVM put off"));
    assert!(!report.has_ended(), "it waits for the reader of standard error");
    report.signal(libc::SIGTERM);
    wait_until("the second signal ends it", || report.has_ended());
    assert_eq!(report.wait().status, 143);
}
