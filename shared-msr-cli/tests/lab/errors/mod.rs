//! Each obstacle, made for real: one clear sentence, the right exit status, and doctor names it with its cure.

mod obstacles;
mod stepping_down;
mod switches;
mod usage;

use crate::support::{Ended, Report, Running, assert_verified, command, shared_msr};

/// How a report ends that has nothing to wait for.
fn report() -> Ended {
    shared_msr("report --duration 200ms")
}

/// A guest of which the numbers are known: 50 calls of `KVM_RUN` and one that sets MSRs.
fn known(words: &str) -> Ended {
    shared_msr(&format!("report {words} --verify --format json -- shared-msr guest --outs 50 --cpuids 10 --tsc-aux 0xabc"))
}

/// It was refused in one clear sentence with these words, and printed nothing else.
#[track_caller]
fn assert_refused(ended: &Ended, status: i32, words: &[&str]) {
    assert!(!words.is_empty());
    for word in words {
        ended.assert_one_sentence(status, word);
    }
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
    assert_eq!(ended.stdout, "", "nothing on standard output");
}

/// Doctor names an obstacle with these words, and has a cure for each that it names.
#[track_caller]
fn assert_doctor_names(doctor: &Ended, status: i32, words: &[&str]) {
    assert_eq!(doctor.status, status, "{doctor:?}");
    let lines = || doctor.stdout.lines();
    let obstacles: Vec<&str> = lines().filter(|line| line.starts_with("FAIL") || line.starts_with("no ")).collect();
    let cures = lines().filter(|line| line.trim_start().starts_with("cure: ")).count();
    for word in words {
        assert!(obstacles.iter().any(|obstacle| obstacle.contains(word)), "{word:?} in {obstacles:?}");
    }
    assert_eq!(cures, obstacles.len(), "{}", doctor.stdout);
}

/// A known guest was measured by another hook: the same numbers, and a word of why.
#[track_caller]
fn assert_stepped_down(ended: &Ended, hook: &str) -> Report {
    assert_eq!(ended.status, 0, "{ended:?}");
    let report = ended.report();
    assert_eq!(report.totals.counts.performed, Some(51), "50 KVM_RUN + 1");
    assert_verified(&report);
    assert_eq!(report.host.hooks.set.as_deref(), Some(hook));
    assert!(hook.starts_with("fentry") || !report.host.refused.is_empty(), "why nothing better was to be had");
    report
}

/// `shared-msr` as a user without any rights.
fn as_nobody(words: &str) -> Ended {
    let mut su = std::process::Command::new("su");
    Running::start(su.args(["-s", "/bin/sh", "nobody", "-c"]).arg(format!("shared-msr {words}"))).wait()
}

/// `shared-msr` with the last argument as one, whatever is in it.
fn with_script(words: &str, script: &str) -> Ended {
    Running::start(command(words).args(["--", "sh", "-c", script])).wait()
}
