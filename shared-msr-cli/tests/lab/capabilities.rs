//! Each command with the capabilities that the README asks for, and with one less.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    process::Command,
};

use shared_msr::guest::GuestOutcome;

use crate::support::{
    Capability, Ended, Guest, Running, Setting, Terminal, as_nobody_with, assert_verified, command, json, wait_for_exits,
};

/// What the README asks for.
const ALL: [(Capability, &str); 3] =
    [(Capability::Bpf, "CAP_BPF"), (Capability::Perfmon, "CAP_PERFMON"), (Capability::Syslog, "CAP_SYSLOG")];
/// The commands that read the kernel and end by themselves.
const COMMANDS: [&str; 3] = ["report --verify --duration 100ms", "trace --duration 100ms", "inspect"];

fn all() -> Vec<Capability> {
    ALL.map(|(capability, _)| capability).to_vec()
}

/// Each of them with what is left without it.
fn one_less() -> impl Iterator<Item = (&'static str, Vec<Capability>)> {
    ALL.into_iter().map(|(missing, name)| (name, all().into_iter().filter(|one| *one != missing).collect()))
}

fn of_nobody(words: &str, capabilities: &[Capability]) -> Command {
    let mut command = command(words);
    as_nobody_with(&mut command, capabilities);
    command
}

fn run(words: &str, capabilities: &[Capability]) -> Ended {
    Running::start(&mut of_nobody(words, capabilities)).wait()
}

#[test]
fn with_all_of_them_each_command_works() {
    for words in COMMANDS {
        let ended = run(words, &all());
        assert!(ended.status == 0 && !ended.stdout.is_empty(), "{words}: {ended:?}");
    }
    let doctor = run("doctor", &all());
    assert_eq!(doctor.status, 0, "{doctor:?}");
    assert!(doctor.stdout.contains("`shared-msr report` works on this host."), "{doctor:?}");
}

#[test]
fn without_one_of_them_each_command_names_it() {
    for (name, capabilities) in one_less() {
        for words in COMMANDS {
            run(words, &capabilities).assert_one_sentence(1, &format!("it lacks {name}; run it as root"));
        }
        let doctor = run("doctor", &capabilities);
        assert_eq!(doctor.status, 1, "{doctor:?}");
        let line = doctor.stdout.lines().find(|line| line.starts_with("FAIL")).unwrap_or_default();
        assert!(line.contains("rights") && line.ends_with(&format!("it lacks {name}")), "{doctor:?}");
    }
}

#[test]
fn the_live_view_works_with_them_and_says_what_it_lacks() {
    let mut terminal = Terminal::open();
    let mut view = terminal.run(&mut of_nobody("top", &all()));
    terminal.wait_for("the view is there", |shown| shown.contains("1 Overview"));
    terminal.press("q");
    assert_eq!(view.wait(), Some(0));
    for (name, capabilities) in one_less() {
        let terminal = Terminal::open();
        let mut view = terminal.run(&mut of_nobody("top", &capabilities));
        assert_eq!(view.wait(), Some(1));
        terminal.wait_for("the reason is there", |shown| shown.contains(&format!("it lacks {name}")));
    }
}

/// How exactly it counts does not depend on who it is: kprobes where the sysctl lets it have them, else the tracepoint of WRMSRs.
#[test]
fn what_it_counts_with_them_is_right() {
    for (paranoid, hook) in [("3", "raw_tracepoint:write_msr"), ("2", "kprobe:kvm_set_user_return_msr")] {
        let _setting = Setting::new("/proc/sys/kernel/perf_event_paranoid", paranoid);
        let _guest = Guest::endless(3, 0xabc);
        let mut report = Running::start(&mut of_nobody("report --verify --format json", &all()));
        report.wait_until_attached();
        wait_for_exits(1000);
        report.signal(libc::SIGINT);
        let ended = report.wait();
        assert_eq!(ended.status, 0, "{ended:?}");
        let report = ended.report();
        assert_eq!(report.host.hooks.set.as_deref(), Some(hook));
        assert!(report.totals.events.exits >= 1000, "{:?}", report.totals);
        assert_verified(&report);
    }
}

#[test]
fn the_guest_needs_no_capability_but_the_device() {
    let refused = run("guest --outs 10", &[]);
    refused.assert_one_sentence(1, "/dev/kvm");
    let device = "/dev/kvm";
    let before = fs::metadata(device).unwrap().permissions();
    fs::set_permissions(device, Permissions::from_mode(0o666)).unwrap();
    let ended = run("guest --format json --outs 10", &[]);
    fs::set_permissions(device, before).unwrap();
    let outcome: GuestOutcome = json(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    assert!(ended.status == 0 && outcome.complete, "{ended:?}");
}
