//! The lab's own promises: exit status, separate and whole streams, timeout, panic.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::Duration,
};

use anyhow::Result;

use super::{Checks, sections::Json};
use crate::{
    lab::{self, Captured, KernelChoice, LabFile, LabOptions},
    workspace,
};

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

    own_kernel_and_arguments(checks, kernel)?;
    instruction_counts(checks, kernel)?;

    let slow = run("sleep 600", 25)?;
    checks.equal("a timeout is status 124", slow.run.status, 124);

    let panicked = run("echo c >/proc/sysrq-trigger; sleep 60", 120)?;
    let problem = panicked.run.problem.unwrap_or_default();
    checks.check("a panic is another status", ![0, 124].contains(&panicked.run.status), &panicked.run.status.to_string());
    checks.check("a panic shows the kernel's last lines", problem.contains("sysrq"), problem.lines().next().unwrap_or_default());
    Ok(())
}

/// `--kernel DIR`, `--file` and the exact arguments.
fn own_kernel_and_arguments(checks: &mut Checks, kernel: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (script, data) = (folder.path().join("arguments.sh"), folder.path().join("data"));
    fs::write(&script, "#!/bin/sh\nprintf '[%s]' \"$@\"\ncat /tmp/data\ntest -x /tmp/data && exit 1\nexit 255\n")?;
    fs::set_permissions(&script, Permissions::from_mode(0o755))?;
    fs::write(&data, "data")?;
    let cached = workspace::lab().join("kernels").join(kernel);
    let file = |source: &Path, destination: &str| LabFile { source: source.to_owned(), destination: destination.to_owned() };
    let ended = lab::capture(&LabOptions {
        kernel: KernelChoice::Folder(cached),
        files: vec![file(&script, "/bin/arguments"), file(&data, "/tmp/data")],
        ..LabOptions::new(["arguments", "a b", "", "'\"$HOME`*\\", "--", "-x", "two\nlines"])
    })?;
    let output = String::from_utf8_lossy(&ended.stdout);
    checks.equal(
        "--kernel DIR: arguments and files arrive as they are",
        &*output,
        "[a b][]['\"$HOME`*\\][--][-x][two\nlines]data",
    );
    checks.equal("a file keeps its mode, and a status of 255 is passed on", ended.run.status, 255);
    Ok(())
}

/// `--icount`: the guest's run time is an instruction count, the same in two boots.
fn instruction_counts(checks: &mut Checks, kernel: &str) -> Result<()> {
    let count = || -> Result<u64> {
        let command = ["shared-msr", "guest", "--outs", "1", "--cpuids", "2000", "--format", "json"];
        let kernel = KernelChoice::Series(kernel.to_owned());
        let ended = lab::capture(&LabOptions { kernel, icount: true, ..LabOptions::new(command) })?;
        Json(serde_json::from_slice(&ended.stdout)?).number("/duration_ns")
    };
    let (first, second) = (count()?, count()?);
    let seen = format!("{first} and {second}");
    checks.check("--icount: two boots agree within 1 %", first.abs_diff(second) * 100 <= first, &seen);
    Ok(())
}
