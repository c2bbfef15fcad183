//! A guest's known number of exits, against the report and against the kernel's own counts of the same run.

use anyhow::Result;

use super::{
    Checks,
    sections::{Json, Sections},
    sound,
};

pub(super) fn check(checks: &mut Checks, sections: &Sections) -> Result<()> {
    mixed(checks, sections)?;
    in_kernel(checks, sections)?;
    equal(checks, sections)?;
    running(checks, sections)?;
    output(checks, sections)
}

/// What must hold of every report.
fn right(checks: &mut Checks, sections: &Sections, name: &str) -> Result<Json> {
    let report = sections.json(&format!("{name}.report"))?;
    checks.equal(&format!("{name}: exit status"), sections.number(&format!("{name}.status"))?, 0);
    checks.check(&format!("{name}: reconciled"), report.is_true("/reconciled")?, &report.at("/violations")?.to_string());
    checks.equal(&format!("{name}: no set failed"), report.number("/totals/set_failed")?, 0);
    checks.check(&format!("{name}: nothing lost"), report.all_zero("/lost")?, &report.at("/lost")?.to_string());
    sound::as_the_kernel_counts(checks, sections, &report, name)?;
    Ok(report)
}

fn mixed(checks: &mut Checks, sections: &Sections) -> Result<()> {
    let report = right(checks, sections, "mixed")?;
    let guest = sections.json("mixed.out")?;
    checks.equal("mixed: the one MSR is TSC_AUX", report.at("/msrs/0/name")?.as_str().unwrap_or_default(), "TSC_AUX");
    checks.equal("mixed: KVM_RUN calls = 200 OUT + 50 HLT", guest.number("/kvm_runs")?, 250);
    checks.equal(
        "mixed: performed = KVM_RUN calls + MSR-setting calls",
        report.number("/msrs/0/performed")?,
        guest.number("/kvm_runs")? + guest.number("/set_msrs_calls")?,
    );
    let deferred = report.number("/msrs/0/deferred")?;
    checks.check("mixed: deferred at least 2000", deferred >= 2000, &deferred.to_string());
    let avoided = report.at("/msrs/0/avoided")?.as_i64();
    let difference = i64::try_from(deferred)? - i64::try_from(report.number("/msrs/0/performed")?)?;
    checks.check("mixed: avoided = deferred - performed", avoided == Some(difference), &format!("{avoided:?}"));
    let opened = report.number("/totals/windows_opened")?;
    checks.equal("mixed: every window that opened closed", opened, report.number("/totals/windows_closed")?);
    checks.equal("mixed: no clean close", report.number("/totals/clean_closes")?, 0);
    Ok(())
}

fn in_kernel(checks: &mut Checks, sections: &Sections) -> Result<()> {
    let report = right(checks, sections, "in-kernel")?;
    let performed = report.number("/msrs/0/performed")?;
    let deferred = report.number("/msrs/0/deferred")?;
    checks.check("in-kernel: performed at most a handful", (1..=12).contains(&performed), &performed.to_string());
    checks.check("in-kernel: deferred at least 20000", deferred >= 20_000, &deferred.to_string());
    Ok(())
}

fn equal(checks: &mut Checks, sections: &Sections) -> Result<()> {
    let report = right(checks, sections, "equal")?;
    for counter in ["set_written", "performed", "windows_opened", "windows_closed", "deferred"] {
        checks.equal(&format!("equal: no {counter}"), report.number(&format!("/totals/{counter}"))?, 0);
    }
    let skipped = report.number("/totals/set_skipped")?;
    checks.check("equal: the sets were skipped", skipped >= 250, &skipped.to_string());
    let table = sections.text("equal-table.out")?;
    checks.equal("equal: exit status of the table", sections.number("equal-table.status")?, 0);
    checks.check("equal: the table says so plainly", table.contains("are the host's own"), first_line(table));
    Ok(())
}

/// A guest that was running before the measurement and goes on after it.
fn running(checks: &mut Checks, sections: &Sections) -> Result<()> {
    for run in 1..=3 {
        let report = sections.json(&format!("running-{run}.out"))?;
        let (deferred, performed) = (report.number("/totals/deferred")?, report.number("/totals/performed")?);
        let (exits, returns) = (report.number("/totals/exits")?, report.number("/totals/userspace_exits")?);
        let seen = format!("{exits} exits, {returns} returns, {deferred} deferred, {performed} performed");
        checks.check("running guest: there is something to count", performed > 100, &seen);
        // One restore, or one return, may belong to an exit right before the start.
        checks.check("running guest: no restore without its exit", performed <= deferred + 1, &seen);
        checks.check("running guest: no return to the VMM without its exit", returns <= exits + 1, &seen);
        checks.equal("running guest: no set failed", report.number("/totals/set_failed")?, 0);
        checks.check("running guest: verified", report.is_true("/verified")?, &report.at("/lost")?.to_string());
        checks.check("running guest: reconciled", report.is_true("/reconciled")?, &report.at("/violations")?.to_string());
    }
    Ok(())
}

fn output(checks: &mut Checks, sections: &Sections) -> Result<()> {
    let plain = sections.json("plain.out")?;
    checks.equal("standard output is one JSON document", plain.number("/schema")?, 2);
    checks.equal("plain: performed = 250 KVM_RUN + 1", plain.number("/msrs/0/performed")?, 251);
    for hook in ["set", "close", "exit", "userspace_exit"] {
        let hook = plain.at(&format!("/host/hooks/{hook}"))?;
        checks.check("a hook is named", hook.as_str().is_some_and(|hook| hook.contains("kvm_")), &hook.to_string());
    }
    checks.equal("the vendor is named", plain.at("/host/vendor")?.as_str().unwrap_or_default(), "amd");
    let table = sections.text("table.out")?;
    checks.check("the table begins with the verdict", table.starts_with("In ") && table.contains("put off"), first_line(table));
    let nothing = sections.text("nothing.out")?;
    checks.check("a quiet host is called so", nothing.contains("no guest ran"), first_line(nothing));
    checks.equal("the command's status is passed on", sections.number("passed-on.status")?, 7);
    checks.equal("a killed command counts as in a shell", sections.number("killed.status")?, 137);
    let log = sections.text("kernel-log.err")?;
    checks.check(
        "--kernel-log shows the kernel side's messages",
        log.contains("kernel side: info: first event here"),
        first_line(log),
    );
    let quiet = sections.text("plain.err")?;
    checks.check("without it there are none", !quiet.contains("kernel side"), first_line(quiet));
    checks.check(
        "Ctrl-C ends a command's measurement early",
        sections.json("interrupted-command.out")?.number("/totals/exits")? > 1000,
        "",
    );
    checks.equal("Ctrl-C: the command is ended, its status passed on", sections.number("interrupted-command.status")?, 0);
    checks.equal("Ctrl-C: exit status", sections.number("interrupted.status")?, 0);
    checks.check("Ctrl-C: still prints", sections.json("interrupted.out")?.is_true("/reconciled")?, "reconciled");
    Ok(())
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
