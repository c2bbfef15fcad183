//! Kernel memory that cannot be read, or is not what it is taken for: everything names it, and nothing is called verified.

use anyhow::Result;

use super::{Checks, sections::Sections};

/// The words of each case. A list that is empty is the truth where kvm_amd does not use it.
pub(super) fn check(checks: &mut Checks, sections: &Sections, unused: bool) -> Result<()> {
    let list = sections.text("list")?;
    checks.equal("the list's variable is that of this kernel", list == "user_return_msrs_global", unused);
    for (name, words) in [
        ("list-user", &["KVM's list of MSRs", "0x1000", "cannot be read"][..]),
        ("list-unmapped", &["KVM's list of MSRs", "0xffff800000000000", "nothing is mapped there"]),
        ("offsets-user", &["__per_cpu_offset", "0x1000", "cannot be read"]),
        ("offsets-unmapped", &["__per_cpu_offset", "0xffff800000000000", "nothing is mapped there"]),
        ("pointer-unmapped", &["per-CPU structures", "0xffff800000000000", "nothing is mapped there"]),
        ("list-text", &["KVM's list of MSRs"]),
        ("offsets-text", &["__per_cpu_offset"]),
        ("offsets-zero", &["__per_cpu_offset"]),
        ("locked", &["lockdown=confidentiality"]),
    ] {
        named(checks, sections, name, words)?;
    }
    if unused {
        empty(checks, sections, "list-zero")?;
        empty(checks, sections, "list-believed")?;
        empty(checks, sections, "list-used")?;
        empty(checks, sections, "fine")?;
        return Ok(());
    }
    named(checks, sections, "list-zero", &["it is empty", "kvm_amd uses TSC_AUX"])?;
    let report = sections.text("list-believed-report.out")?;
    let verdict = report.lines().next().unwrap_or_default();
    checks.equal("list-believed: report's exit status", sections.number("list-believed-report.status")?, 1);
    let doubts = !verdict.contains("nothing to put off") && verdict.contains("kvm_amd was seen to use");
    checks.check("list-believed: an empty list is not believed against sets", doubts, verdict);
    let sets = report.contains("NOT RECONCILED: CPU 0: KVM's list of MSRs is empty, but there was ") && !reconciles(report);
    checks.check("list-believed: it is said why", sets, report.lines().last().unwrap_or_default());
    named(checks, sections, "list-used", &["per-CPU structure of CPU 0", "KVM's list of MSRs is empty"])?;
    let fine = sections.text("fine-report.out")?;
    checks.equal("without obstacles: report's exit status", sections.number("fine-report.status")?, 0);
    checks.check("without obstacles: verified", fine.contains("reconciled, verified"), fine.lines().last().unwrap_or_default());
    checks.equal("without obstacles: doctor's exit status", sections.number("fine-doctor.status")?, 0);
    checks.equal("without obstacles: inspect's exit status", sections.number("fine-inspect.status")?, 0);
    Ok(())
}

/// All three stop, and say why and what to do.
fn named(checks: &mut Checks, sections: &Sections, name: &str, words: &[&str]) -> Result<()> {
    let complete = |text: &str| words.iter().all(|word| text.contains(word));
    for command in ["inspect", "report"] {
        checks.equal(&format!("{name}: {command}'s exit status"), sections.number(&format!("{name}-{command}.status"))?, 1);
        let error = sections.text(&format!("{name}-{command}.err"))?;
        let one_sentence = error.lines().count() == 1 && error.starts_with("shared-msr: ") && !error.contains("panicked");
        checks.check(&format!("{name}: {command} names it in one sentence"), one_sentence && complete(error), error);
        let output = sections.text(&format!("{name}-{command}.out"))?;
        checks.check(&format!("{name}: {command} shows nothing else"), output.is_empty(), output);
    }
    checks.equal(&format!("{name}: doctor's exit status"), sections.number(&format!("{name}-doctor.status"))?, 1);
    let doctor = sections.text(&format!("{name}-doctor.out"))?;
    let obstacle = |line: &&str| line.starts_with("FAIL") || line.starts_with("no ") || line.trim_start().starts_with("cure: ");
    let obstacles: Vec<&str> = doctor.lines().filter(obstacle).collect();
    checks.check(&format!("{name}: doctor names it"), complete(&obstacles.join("\n")), &obstacles.join("; "));
    Ok(())
}

/// Where the list is empty in truth, that is said.
fn empty(checks: &mut Checks, sections: &Sections, name: &str) -> Result<()> {
    let report = sections.text(&format!("{name}-report.out"))?;
    checks.equal(&format!("{name}: report's exit status"), sections.number(&format!("{name}-report.status"))?, 0);
    let verdict = report.lines().next().unwrap_or_default();
    checks.check(&format!("{name}: an empty list is the truth here"), verdict.contains("does not use"), verdict);
    Ok(())
}

fn reconciles(report: &str) -> bool {
    report.lines().any(|line| line.contains(", reconciled") || line.contains("verified"))
}
