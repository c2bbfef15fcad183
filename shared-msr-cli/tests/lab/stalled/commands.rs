//! The measured command: it goes on, whatever becomes of us and of the output.

use std::{fs, path::Path, process::Command};

use tempfile::tempfile;

use super::{Pipe, spinning_guest, wait_until_detached, wait_until_stalled};
use crate::support::{Ended, Running, command, wait_until};

const END: &str = "/tmp/measured.end";

/// Waits until nothing is attached any more (for a minute, should that never be), and says at its own end what still is. Who
/// measures is its parent: it must be that and let us see its files, or finding nothing would mean nothing.
const MEASURED: &str = r#"
measures=/proc/$PPID
attached() {
    [ "$(cat $measures/comm)" = shared-msr ] && grep -q '^flags:' $measures/fdinfo/0 || echo "who measures is not to be seen"
    grep -l 'tp_name:.*kvm_exit' $measures/fdinfo/* 2>/dev/null
}
tries=0
while [ $tries -lt 300 ] && [ -n "$(attached)" ]; do
    usleep 200000
    tries=$((tries + 1))
done
echo "ended $(attached)" >/tmp/measured.end
exit "#;

/// A program that measures that command, which ends with this status.
fn measuring(words: &str, status: u8) -> Command {
    if Path::new(END).exists() {
        fs::remove_file(END).unwrap();
    }
    let mut command = command(words);
    command.args(["--", "sh", "-c"]).arg(format!("{MEASURED}{status}"));
    command
}

#[track_caller]
fn assert_went_on(ended: &Ended, status: i32, words: &str) {
    assert_eq!(ended.status, status, "{ended:?}");
    let said = ended.stderr.lines().filter(|line| line.starts_with("shared-msr: ") && line.contains(words)).count();
    assert!(said == 1 && !ended.stderr.contains("panicked"), "it says why, once: {ended:?}");
    let end = fs::read_to_string(END).unwrap_or_else(|error| panic!("the command did not come to its own end: {error}"));
    assert_eq!(end.trim(), "ended", "nothing was attached by then");
}

/// The reader takes a little and leaves.
fn assert_reader_may_leave(words: &str, command_s: u8, status: i32) {
    let _guest = spinning_guest();
    let pipe = Pipe::new();
    let mut command = measuring(words, command_s);
    let program = Running::start_into(&mut command, pipe.writer(), tempfile().unwrap());
    drop(command);
    pipe.read_and_leave(100);
    assert_went_on(&program.wait(), status, "nobody reads standard output any more");
}

#[test]
fn a_report_s_reader_may_leave() {
    assert_reader_may_leave("report --interval 100ms", 7, 7);
}

#[test]
fn a_report_s_reader_that_leaves_is_a_failure_if_the_command_has_none() {
    assert_reader_may_leave("report --interval 100ms", 0, 1);
}

#[test]
fn a_trace_s_reader_may_leave() {
    assert_reader_may_leave("trace", 7, 7);
}

#[test]
fn a_full_disk_does_not_end_the_command_of_a_report() {
    let _guest = spinning_guest();
    let full = Running::start(&mut measuring("report --interval 100ms --output /dev/full", 7)).wait();
    assert_went_on(&full, 7, "cannot write to /dev/full, so the report is on standard error");
}

#[test]
fn a_full_disk_does_not_end_the_command_of_a_trace() {
    let _guest = spinning_guest();
    let full = Running::start(&mut measuring("trace --output /dev/full", 0)).wait();
    assert_went_on(&full, 1, "cannot write to /dev/full, so the trace has ended");
}

/// A command that ignores SIGTERM. It is killed when the value is dropped.
struct Stubborn;

impl Stubborn {
    const PID: &str = "/tmp/stubborn";
    const SCRIPT: &str = r#"trap "" TERM; echo $$ >/tmp/stubborn; while :; do sleep 1; done"#;

    fn pid() -> Option<i32> {
        fs::read_to_string(Self::PID).ok()?.trim().parse().ok()
    }
}

impl Drop for Stubborn {
    fn drop(&mut self) {
        if let Some(pid) = Self::pid() {
            // SAFETY: takes numbers only and touches no memory.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            let _ = fs::remove_file(Self::PID);
        }
    }
}

#[test]
fn a_command_that_ignores_the_signal_is_left_alone_by_the_second_one() {
    let _guest = spinning_guest();
    let pipe = Pipe::new();
    let stubborn = Stubborn;
    let mut trace = command("trace -- sh -c");
    let mut trace = Running::start_into(trace.arg(Stubborn::SCRIPT), pipe.writer(), tempfile().unwrap());
    wait_until("the command ignores SIGTERM", || Stubborn::pid().is_some());
    wait_until_stalled(&mut trace);
    trace.signal(libc::SIGTERM);
    wait_until_detached(&mut trace);
    trace.signal(libc::SIGTERM);
    wait_until("the second signal ends it", || trace.has_ended());
    assert_eq!(trace.wait().status, 143);
    let state = fs::read_to_string(format!("/proc/{}/stat", Stubborn::pid().unwrap())).unwrap();
    assert!(!state.contains(") Z "), "it is left alone: {state}");
    drop(stubborn);
}

#[test]
fn a_command_has_the_signals_that_it_has_without_us() {
    let lists = ["-E", "^Sig(Ign|Blk|Cgt)", "/proc/self/status"];
    let bare = Running::start(Command::new("grep").args(lists)).wait();
    let measured = Running::start(command("report -- grep").args(lists)).wait();
    assert_eq!(measured.status, 0, "{measured:?}");
    let (bare, measured) = (signals(&bare.stdout), signals(&measured.stderr));
    assert_eq!(bare.len(), 3, "{bare:x?}");
    assert_eq!(measured, bare);
}

/// Those that are blocked, ignored and caught, of the 31 that anybody sends: the next three are the C library's own, and musl
/// ignores them in what it starts.
fn signals(text: &str) -> Vec<u64> {
    let lines = text.lines().filter(|line| line.starts_with("Sig"));
    let sets = lines.map(|line| u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap());
    sets.map(|set| set & 0x7fff_ffff).collect()
}
