//! Each obstacle: one clear sentence, the right exit status, and doctor names it with its cure.

use anyhow::Result;

use super::{Checks, sections::Sections};

pub(super) fn check(checks: &mut Checks, sections: &Sections) -> Result<()> {
    for (name, status, words) in [
        ("no-kvm", 1, &["KVM is not loaded", "modprobe"][..]),
        ("no-kvm-guest", 1, &["/dev/kvm"]),
        ("no-kvm-inspect", 1, &["KVM is not loaded"]),
        ("not-root", 1, &["CAP_BPF", "root"]),
        ("not-root-guest", 1, &["/dev/kvm"]),
        ("no-function-kprobe", 1, &["kvm_set_user_return_msr"]),
        ("no-btf-fentry", 1, &["fentry:kvm_set_user_return_msr", "no BTF"]),
        ("no-variable", 1, &["kvm_uret_msrs_list", "CONFIG_KALLSYMS_ALL", "--probe tracepoint"]),
        ("no-variable-inspect", 1, &["kvm_uret_msrs_list"]),
        ("hidden", 1, &["hides", "kptr_restrict"]),
        ("kprobes-off-kprobe", 1, &["switched off", "/sys/kernel/debug/kprobes/enabled"]),
        ("ftrace-off-fentry", 1, &["switched off", "sysctl kernel.ftrace_enabled=1"]),
        ("ftrace-off-kprobe", 1, &["switched off", "sysctl kernel.ftrace_enabled=1"]),
        ("zero", 2, &["longer than 0"]),
        ("unknown", 2, &["frobnicate", "--help"]),
        ("not-found", 1, &["no-such-command", "no such command"]),
        ("not-executable", 1, &["/proc/version", "permission"]),
        ("no-cpu", 1, &["77"]),
        ("unwritable", 1, &["/no/such/folder/report.json"]),
    ] {
        checks.equal(&format!("{name}: exit status"), sections.number(&format!("{name}.status"))?, status);
        let error = sections.text(&format!("{name}.err"))?;
        let one_sentence = error.lines().count() == 1 && error.starts_with("shared-msr: ") && !error.contains("panicked");
        let complete = words.iter().all(|word| error.contains(word));
        checks.check(&format!("{name}: one clear sentence"), one_sentence && complete, error);
        let output = sections.text(&format!("{name}.out"))?;
        checks.check(&format!("{name}: nothing on standard output"), output.is_empty(), output);
    }
    for (name, status, words) in [
        ("no-kvm", 1, &["KVM is not loaded"][..]),
        ("not-root", 1, &["CAP_BPF"]),
        ("no-function", 0, &["kvm_set_user_return_msr"]),
        ("no-variable", 1, &["kvm_uret_msrs_list"]),
        ("hidden", 1, &["hides"]),
        ("kprobes-off", 0, &["switched off"]),
        ("ftrace-off", 0, &["switched off"]),
        ("no-btf", 0, &["fentry:kvm_set_user_return_msr", "no BTF"]),
    ] {
        let doctor = sections.text(&format!("{name}-doctor.out"))?;
        checks.equal(&format!("{name}: doctor's exit status"), sections.number(&format!("{name}-doctor.status"))?, status);
        let obstacles: Vec<&str> = doctor.lines().filter(|line| line.starts_with("FAIL") || line.starts_with("no ")).collect();
        let cures = doctor.lines().filter(|line| line.trim_start().starts_with("cure: ")).count();
        let named = words.iter().all(|word| obstacles.iter().any(|obstacle| obstacle.contains(word)));
        checks.check(&format!("{name}: doctor names it with its cure"), named && cures == obstacles.len(), &obstacles.join("; "));
    }
    stepped_down(checks, sections)?;
    let blind = sections.json("blind.out")?;
    checks.equal("hooks that do not fire: exit status with --verify", sections.number("blind.status")?, 1);
    checks.check("hooks that do not fire: not reconciled", !blind.is_true("/reconciled")?, &blind.at("/violations")?.to_string());
    let said = sections.text("blind.err")?.lines().last().unwrap_or_default();
    checks.check("hooks that do not fire: it says so", said.contains("do not reconcile"), said);
    checks.equal("unwritable: the command was not started", sections.number("was-run.status")?, 1);
    let full = sections.text("full.err")?;
    checks.equal("full disk: the command's status is passed on", sections.number("full.status")?, 7);
    let kept = full.contains("no guest ran") && full.contains("cannot write to /dev/full");
    checks.check("full disk: the report is not lost", kept, full.lines().last().unwrap_or_default());
    checks.equal("without obstacles report works", sections.number("fine.status")?, 0);
    checks.equal("without obstacles doctor says so", sections.number("fine-doctor.status")?, 0);

    let notes: Vec<&str> = sections.text("no-btf.err")?.lines().filter(|line| line.starts_with("shared-msr: ")).collect();
    checks.check(
        "no BTF: says in one sentence which layout it takes",
        notes.len() == 1 && notes[0].contains("documented"),
        &notes.join("; "),
    );
    let doctor = sections.text("no-btf-doctor.out")?;
    let layout = doctor.lines().find(|line| line.contains("the documented one, because")).unwrap_or_default();
    checks.check("no BTF: doctor names it", !layout.is_empty(), layout);

    let writes = sections.json("no-variable-writes.out")?;
    checks.equal("no variable, WRMSRs only: exit status", sections.number("no-variable-writes.status")?, 0);
    let row =
        writes.at("/msrs")?.as_array().into_iter().flatten().find(|row| row["name"] == "TSC_AUX").cloned().unwrap_or_default();
    checks.check("no variable, WRMSRs only: all 51 loads and 51 restores are counted", row["wrmsrs"] == 102, &row.to_string());
    let unknown = ["slot", "set_written", "performed", "deferred"].iter().all(|key| row[key].is_null());
    checks.check("no variable, WRMSRs only: what cannot be told is unknown", unknown, &row.to_string());
    let notice = sections.text("no-variable-writes.err")?;
    checks.check(
        "no variable, WRMSRs only: it says so",
        notice.contains("cannot be told apart"),
        notice.lines().next().unwrap_or_default(),
    );
    Ok(())
}

/// What still works by another hook: the same numbers, and a word of why.
fn stepped_down(checks: &mut Checks, sections: &Sections) -> Result<()> {
    for (name, hook) in [
        ("no-btf", "kprobe:kvm_set_user_return_msr"),
        ("no-function", "raw_tracepoint:write_msr"),
        ("no-closer", "fentry:kvm_set_user_return_msr"),
        ("kprobes-off", "fentry:kvm_set_user_return_msr"),
        ("ftrace-off", "raw_tracepoint:write_msr"),
    ] {
        let report = sections.json(&format!("{name}.out"))?;
        checks.equal(&format!("{name}: exit status"), sections.number(&format!("{name}.status"))?, 0);
        checks.equal(&format!("{name}: performed = 50 KVM_RUN + 1"), report.number("/totals/performed")?, 51);
        checks.check(&format!("{name}: verified"), report.is_true("/verified")?, &report.at("/violations")?.to_string());
        let taken = report.at("/host/hooks/set")?;
        checks.check(&format!("{name}: sets by {hook}"), taken == hook, &taken.to_string());
        let refused = report.at("/host/refused")?;
        let reasons = hook.starts_with("fentry") || refused.as_array().is_some_and(|refused| !refused.is_empty());
        checks.check(&format!("{name}: why nothing better is kept"), reasons, &refused.to_string());
    }
    Ok(())
}
