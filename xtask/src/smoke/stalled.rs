//! Whatever becomes of the output, a signal detaches at once, and the measured command goes on.

use anyhow::Result;

use super::{Checks, sections::Sections};

/// Milliseconds within which a signal has to be followed.
const SOON: u64 = 1000;

pub(super) fn check(checks: &mut Checks, sections: &Sections) -> Result<()> {
    for run in ["trace-stdout", "trace-file", "report-stdout", "report-file"] {
        checks.equal(&format!("{run}: nobody reads, and the pipe is full"), sections.text(&format!("{run}.full"))?, "yes");
        soon(checks, sections, &format!("{run}.detached"))?;
        checks.equal(&format!("{run}: it waits for the reader"), sections.text(&format!("{run}.waits"))?, "yes");
        soon(checks, sections, &format!("{run}.gone"))?;
        checks.equal(&format!("{run}: a second signal is its status"), sections.number(&format!("{run}.status"))?, 130);
        quiet(checks, sections, run)?;
    }
    late(checks, sections)?;
    soon(checks, sections, "deaf.detached")?;
    soon(checks, sections, "deaf.gone")?;
    checks.equal("standard error takes nothing: status of the second signal", sections.number("deaf.status")?, 143);
    let report = sections.text("deaf.out")?;
    checks.check("standard error takes nothing: the report is there", report.contains("KVM put off"), report);

    for (run, status, words) in [
        ("leaves-report", 7, "nobody reads standard output any more"),
        ("leaves-report-0", 1, "nobody reads standard output any more"),
        ("leaves-trace", 7, "nobody reads standard output any more"),
        ("full-report", 7, "cannot write to /dev/full, so the report is on standard error"),
        ("full-trace", 1, "cannot write to /dev/full, so the trace has ended"),
    ] {
        checks.equal(&format!("{run}: status"), sections.number(&format!("{run}.status"))?, status);
        let error = sections.text(&format!("{run}.err"))?;
        let said = error.lines().filter(|line| line.starts_with("shared-msr: ") && line.contains(words)).count();
        checks.check(&format!("{run}: says why, once"), said == 1 && !error.contains("panicked"), error);
        checks.equal(&format!("{run}: the command comes to its own end"), sections.text(&format!("{run}.end"))?, "ended");
        checks.equal(&format!("{run}: nothing was attached by then"), sections.text(&format!("{run}.attached"))?, "");
    }

    soon(checks, sections, "stubborn.detached")?;
    soon(checks, sections, "stubborn.gone")?;
    checks.equal("a command that ignores SIGTERM: status of the second signal", sections.number("stubborn.status")?, 143);
    checks.equal("a command that ignores SIGTERM: it is left alone", sections.text("stubborn.left")?, "yes");
    let bare = sections.text("signals.bare")?;
    checks.check("a command has the signals it has without us", sections.text("signals.measured")? == bare, bare);

    checks.equal("an interval too long for the clock: the command's status", sections.number("long-interval.status")?, 7);
    let error = sections.text("long-interval.err")?;
    checks.check("an interval too long for the clock: no panic", !error.contains("panicked"), error);
    checks.equal("a duration too long for the clock: the limit ends it", sections.number("long-trace.status")?, 0);
    files(checks, sections)
}

/// Read after the signal: the whole trace.
fn late(checks: &mut Checks, sections: &Sections) -> Result<()> {
    soon(checks, sections, "late.detached")?;
    checks.equal("read late: status", sections.number("late.status")?, 0);
    let last = sections.json("late.last")?;
    let (shown, lines) = (last.number("/shown")?, sections.number("late.lines")?);
    checks.equal("read late: each event has its line, and the end one", lines, shown + 1);
    // Only 64 KiB fit the pipe; what the ring buffer holds comes after the signal.
    checks.check("read late: what was in the kernel's buffer is there", lines > 1000, &lines.to_string());
    Ok(())
}

fn files(checks: &mut Checks, sections: &Sections) -> Result<()> {
    checks.equal("a report that does not fit: the command's status", sections.number("kept.status")?, 7);
    checks.equal("a report that does not fit: what was there stays", sections.text("kept.content")?, "what was there");
    checks.equal("a report that does not fit: nothing is left beside", sections.number("kept.beside")?, 0);
    let content = sections.text("replaced.content")?;
    checks.check("a report that fits takes its place", content.starts_with("In "), content);
    checks.equal("and the mode stays", sections.text("replaced.mode")?, "604");
    checks.equal("a link in a folder of one's own: status", sections.number("link-own.status")?, 0);
    checks.equal("a link in a folder of one's own is followed", sections.text("link-own.content")?, "msr");
    checks.equal("a link in a folder of everybody's: status", sections.number("link-open.status")?, 1);
    let error = sections.text("link-open.err")?;
    let one_sentence = error.lines().count() == 1 && error.contains("everybody may write to");
    checks.check("a link in a folder of everybody's: one sentence", one_sentence, error);
    checks.equal("a link in a folder of everybody's: the command was not started", sections.number("link-open-run.status")?, 1);
    checks.equal("a link in a folder of everybody's: what it names is as it was", sections.text("link-open.content")?, "target");
    Ok(())
}

fn soon(checks: &mut Checks, sections: &Sections, name: &str) -> Result<()> {
    let milliseconds = sections.number(name)?;
    checks.check(&format!("{name} within {SOON} ms"), milliseconds <= SOON, &milliseconds.to_string());
    Ok(())
}

fn quiet(checks: &mut Checks, sections: &Sections, run: &str) -> Result<()> {
    let error = sections.text(&format!("{run}.err"))?;
    checks.check(&format!("{run}: no panic"), !error.contains("panicked"), error);
    Ok(())
}
