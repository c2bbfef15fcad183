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
        ("no-function", 1, &["kvm_set_user_return_msr"]),
        ("no-variable", 1, &["kvm_uret_msrs_list", "CONFIG_KALLSYMS_ALL"]),
        ("hidden", 1, &["hides", "kptr_restrict"]),
        ("kprobes-off", 1, &["switched off", "/sys/kernel/debug/kprobes/enabled"]),
        ("ftrace-off", 1, &["switched off", "sysctl kernel.ftrace_enabled=1"]),
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
    for (name, words) in [
        ("no-kvm", &["KVM is not loaded"][..]),
        ("not-root", &["CAP_BPF"]),
        ("no-function", &["kvm_set_user_return_msr"]),
        ("no-variable", &["kvm_uret_msrs_list"]),
        ("hidden", &["hides"]),
        ("kprobes-off", &["switched off"]),
        ("ftrace-off", &["switched off"]),
    ] {
        let doctor = sections.text(&format!("{name}-doctor.out"))?;
        checks.equal(&format!("{name}: doctor's exit status"), sections.number(&format!("{name}-doctor.status"))?, 1);
        let failures: Vec<&str> = doctor.lines().filter(|line| line.starts_with("FAIL")).collect();
        let cures = doctor.lines().filter(|line| line.trim_start().starts_with("cure: ")).count();
        let named = words.iter().all(|word| failures.iter().any(|failure| failure.contains(word)));
        checks.check(&format!("{name}: doctor names it with its cure"), named && cures == failures.len(), &failures.join("; "));
    }
    checks.equal("unwritable: the command was not started", sections.number("was-run.status")?, 1);
    let full = sections.text("full.err")?;
    checks.equal("full disk: the command's status is passed on", sections.number("full.status")?, 7);
    let kept = full.contains("no guest ran") && full.contains("cannot write to /dev/full");
    checks.check("full disk: the report is not lost", kept, full.lines().last().unwrap_or_default());
    checks.equal("without obstacles report works", sections.number("fine.status")?, 0);
    checks.equal("without obstacles doctor says so", sections.number("fine-doctor.status")?, 0);

    let without_btf = sections.json("no-btf.out")?;
    let notes: Vec<&str> = sections.text("no-btf.err")?.lines().filter(|line| line.starts_with("shared-msr: ")).collect();
    checks.equal("no BTF: exit status", sections.number("no-btf.status")?, 0);
    checks.check(
        "no BTF: says in one sentence which layout it takes",
        notes.len() == 1 && notes[0].contains("documented"),
        &notes.join("; "),
    );
    checks.equal("no BTF: performed = 50 KVM_RUN + 1", without_btf.number("/totals/performed")?, 51);
    let doctor = sections.text("no-btf-doctor.out")?;
    checks.check(
        "no BTF: doctor names it",
        doctor.contains("the documented one, because"),
        doctor.lines().next().unwrap_or_default(),
    );
    Ok(())
}
