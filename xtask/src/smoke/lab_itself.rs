//! The lab's own promises: exit status, separate and whole streams, timeout, panic.

use std::time::Duration;

use anyhow::Result;

use super::Checks;
use crate::lab::{self, Captured, KernelChoice, LabOptions};

pub(super) fn check(checks: &mut Checks, kernel: &'static str) {
    checks.enter(&format!("lab amd {kernel} itself"));
    if let Err(error) = runs(checks, kernel) {
        checks.check("the lab runs", false, &format!("{error:#}"));
    }
}

fn runs(checks: &mut Checks, kernel: &str) -> Result<()> {
    let run = |command: &str, timeout: u64| -> Result<Captured> {
        lab::capture(&LabOptions {
            kernel: KernelChoice::Series(kernel.to_owned()),
            timeout: Duration::from_secs(timeout),
            ..LabOptions::new(["sh", "-c", command])
        })
    };
    let ended = run("seq 1 200000; echo to-error >&2; exit 7", 120)?;
    checks.equal("a command's exit status is passed on", ended.run.status, 7);
    let expected: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    checks.check("1.3 MB of output arrive whole", ended.stdout == expected.as_bytes(), &format!("{} bytes", ended.stdout.len()));
    checks.equal("standard error arrives apart", String::from_utf8_lossy(&ended.stderr).trim(), "to-error");

    let slow = run("sleep 600", 25)?;
    checks.equal("a timeout is status 124", slow.run.status, 124);

    let panicked = run("echo c >/proc/sysrq-trigger; sleep 60", 120)?;
    let problem = panicked.run.problem.unwrap_or_default();
    checks.check("a panic is another status", ![0, 124].contains(&panicked.run.status), &panicked.run.status.to_string());
    checks.check("a panic shows the kernel's last lines", problem.contains("sysrq"), problem.lines().next().unwrap_or_default());
    Ok(())
}
