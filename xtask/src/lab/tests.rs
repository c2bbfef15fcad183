//! The lab's own promises: exit status, separate and whole streams, timeout, panic. They start emulated hosts, so that `cargo
//! test` leaves them out and `cargo xtask test` asks for them.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    thread,
    time::Duration,
};

use super::*;

/// A command's ending and all it printed.
struct Captured {
    run: LabRun,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

fn capture(options: &LabOptions) -> Captured {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let run = run(options, &mut stdout, &mut stderr).unwrap();
    Captured { run, stdout, stderr }
}

fn shell(command: &str, seconds: u64) -> Captured {
    capture(&LabOptions { timeout: Duration::from_secs(seconds), ..LabOptions::new(["sh", "-c", command]) })
}

#[test]
#[ignore = "starts an emulated host"]
fn status_and_both_streams_arrive_whole_and_apart() {
    let ended = shell("seq 1 200000; echo to-error >&2; exit 7", 300);
    assert_eq!(ended.run.status, 7);
    let expected: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    assert!(ended.stdout == expected.as_bytes(), "{} bytes arrived", ended.stdout.len());
    assert_eq!(String::from_utf8_lossy(&ended.stderr).trim(), "to-error");
}

#[test]
#[ignore = "starts an emulated host"]
fn a_command_that_does_not_end_in_time_is_status_124() {
    let slow = shell("sleep 600", 15);
    assert_eq!(slow.run.status, TIMED_OUT);
}

#[test]
#[ignore = "starts an emulated host"]
fn a_panic_is_another_status_and_shows_the_kernel_s_last_lines() {
    let panicked = shell("echo c >/proc/sysrq-trigger; sleep 60", 300);
    assert_eq!(panicked.run.status, LAB_FAILED);
    let problem = panicked.run.problem.unwrap();
    assert!(problem.contains("sysrq"), "{problem}");
}

#[test]
#[ignore = "starts an emulated host"]
fn a_kernel_of_one_s_own_files_and_arguments_arrive_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let (script, data) = (folder.path().join("arguments.sh"), folder.path().join("data"));
    fs::write(&script, "#!/bin/sh\nprintf '[%s]' \"$@\"\ncat /tmp/data\ntest -x /tmp/data && exit 1\nexit 255\n").unwrap();
    fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    fs::write(&data, "data").unwrap();
    let file = |source: &Path, destination: &str| LabFile { source: source.to_owned(), destination: destination.to_owned() };
    let cached = Kernel::find(&KernelChoice::Series(DEFAULT_KERNEL.to_owned())).unwrap();
    let ended = capture(&LabOptions {
        kernel: KernelChoice::Folder(cached.folder().to_owned()),
        files: vec![file(&script, "/bin/arguments"), file(&data, "/tmp/data")],
        ..LabOptions::new(["arguments", "a b", "", "'\"$HOME`*\\", "--", "-x", "two\nlines"])
    });
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "[a b][]['\"$HOME`*\\][--][-x][two\nlines]data");
    assert_eq!(ended.run.status, 255);
}

#[test]
#[ignore = "starts two emulated hosts"]
fn with_icount_a_run_time_is_an_instruction_count_the_same_in_two_boots() {
    let count = || {
        let command = ["shared-msr", "guest", "--outs", "1", "--cpuids", "2000", "--format", "json"];
        let ended = capture(&LabOptions { icount: true, ..LabOptions::new(command) });
        let outcome: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
        outcome["duration_ns"].as_u64().unwrap()
    };
    // At once: nothing else of these tests takes so long. What the machine does besides does not show in this time.
    let (first, second) = thread::scope(|scope| {
        let second = scope.spawn(count);
        (count(), second.join().unwrap())
    });
    assert!(first > 1_000_000, "{first}");
    assert!(first.abs_diff(second) * 100 <= first, "{first} and {second}");
}
