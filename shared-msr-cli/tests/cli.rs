//! The binary as a user meets it. What needs a real KVM host is tested in the lab (`cargo xtask test`); here only what
//! holds on every machine.

use std::process::Output;

use assert_cmd::Command;
use predicates::{prelude::*, str::contains};

fn shared_msr(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("shared-msr").expect("cargo builds the binary before its tests");
    command.args(arguments);
    command
}

fn one_sentence() -> impl Predicate<str> {
    predicate::function(|text: &str| text.lines().count() == 1 && text.starts_with("shared-msr: ") && !text.contains("panicked"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_names_every_command() {
    let help = shared_msr(&["--help"]).assert().success();
    for command in ["report", "top", "inspect", "doctor", "guest"] {
        help.get_output().stdout.windows(command.len()).find(|words| *words == command.as_bytes()).expect(command);
    }
}

#[test]
fn wrong_usage_is_status_2_and_one_sentence() {
    for (arguments, words) in [
        (&["frobnicate"][..], "frobnicate"),
        (&["report", "--duration", "0"], "longer than 0"),
        (&["report", "--duration", "1s", "--", "true"], "cannot be used with"),
        (&["report", "--format", "xml"], "xml"),
        (&["report", "--by", "colour"], "colour"),
        (&["report", "--probe", "magic"], "magic"),
        (&["top", "--interval", "0"], "longer than 0"),
        (&["inspect", "--cpu", "a-b"], "list of CPUs"),
        (&["guest", "--tsc-aux", "many"], "many"),
        (&["guest", "--duration", "0s"], "longer than 0"),
        (&["guest", "--spin", "--shutdown"], "cannot be used with"),
        (&["guest", "--spin", "--interrupts", "1"], "cannot be used with"),
    ] {
        shared_msr(arguments).assert().code(2).stdout("").stderr(contains(words).and(one_sentence()));
    }
}

/// Before anything is attached, so that a script learns it at once and on every machine.
#[test]
fn top_without_a_terminal_names_report() {
    let top = shared_msr(&["top"]).assert().code(1).stdout("");
    top.stderr(one_sentence().and(contains("standard output is none; use `shared-msr report`")));
}

#[test]
fn a_standard_error_that_cannot_be_written_changes_no_exit_status() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has /dev/full");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_shared-msr"));
    let status = command.arg("frobnicate").stderr(full).status().expect("the binary runs");
    assert_eq!(status.code(), Some(2));
}

/// On a host that can be measured both work, if only by counting WRMSRs; on any other doctor names the obstacles, and report stops at the first.
#[test]
fn doctor_and_report_agree_about_this_host() {
    let doctor: Output = shared_msr(&["doctor"]).output().unwrap();
    let findings = text(&doctor.stdout);
    let failures: Vec<&str> = findings.lines().filter(|line| line.starts_with("FAIL")).collect();
    let limits = findings.lines().filter(|line| line.starts_with("no ")).count();
    let cures = findings.lines().filter(|line| line.trim_start().starts_with("cure: ")).count();
    assert_eq!(cures, failures.len() + limits, "{findings}");
    let report = shared_msr(&["report", "--duration", "100ms"]).assert();
    if failures.is_empty() {
        assert_eq!(doctor.status.code(), Some(0));
        let report = report.success().stdout(contains("In "));
        if findings.contains("cannot tell loads from restores") {
            // No function can be hooked, and KVM's tables cannot be read: what is left is said to be all there is.
            report.stdout(contains("?").and(contains("cannot be told"))).stderr(contains("only WRMSRs are counted"));
            for step in ["fentry", "kprobe"] {
                let forced = shared_msr(&["report", "--probe", step, "--duration", "100ms"]).assert();
                forced.code(1).stdout("").stderr(one_sentence().and(contains("each set cannot be observed by")));
            }
        }
    } else {
        assert_eq!(doctor.status.code(), Some(1));
        let report = report.code(1).stdout("").stderr(one_sentence());
        let said = text(&report.get_output().stderr);
        let first = failures[0].split_once("  ").map_or("", |(_, rest)| rest.trim_start());
        let problem = first.split_once("  ").map_or("", |(_, rest)| rest.trim_start());
        assert!(!problem.is_empty() && said.contains(problem), "{said} does not name {problem:?}");
    }
}

/// With KVM the counts are exact; without, the guest says in a sentence why it cannot run.
#[test]
fn the_guest_makes_exactly_the_exits_it_was_asked_for() {
    let numbers = "--outs 7 --cpuids 3 --hlts 2 --mmios 4 --interrupts 5 --shutdown";
    let arguments: Vec<&str> = ["guest", "--format", "json"].into_iter().chain(numbers.split(' ')).collect();
    let output = shared_msr(&arguments).output().unwrap();
    if std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
        assert_eq!(output.status.code(), Some(1));
        assert!(one_sentence().eval(&text(&output.stderr)), "{output:?}");
        return;
    }
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let outcome: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let exits = [("outs", 7), ("hlts", 2), ("mmios", 4), ("interrupts", 5), ("shutdowns", 1), ("kvm_runs", 19), ("cpuids", 21)];
    for (field, number) in exits.into_iter().chain([("schema", 1), ("set_msrs_calls", 1)]) {
        assert_eq!(outcome[field], number, "{field}");
    }
    assert_eq!(outcome["complete"], true);
}
