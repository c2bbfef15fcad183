//! Whatever becomes of the output, a signal detaches at once, and the measured command goes on.

use anyhow::Result;

use super::{Checks, sections::Sections};

/// Milliseconds within which a signal has to be followed.
const SOON: u64 = 1000;
/// And within which the kernel itself has to be done, on a machine that is emulated and busy.
const LATER: u64 = 20_000;

pub(super) fn check(checks: &mut Checks, sections: &Sections) -> Result<()> {
    for run in ["trace-stdout", "trace-file", "report-stdout", "report-file"] {
        checks.equal(&format!("{run}: nobody reads, and the pipe is full"), sections.text(&format!("{run}.full"))?, "yes");
        detached(checks, sections, run)?;
        checks.equal(&format!("{run}: it waits for the reader"), sections.text(&format!("{run}.waits"))?, "yes");
        soon(checks, sections, &format!("{run}.gone"))?;
        checks.equal(&format!("{run}: a second signal is its status"), sections.number(&format!("{run}.status"))?, 130);
        quiet(checks, sections, run)?;
    }
    late(checks, sections)?;
    detached(checks, sections, "deaf")?;
    soon(checks, sections, "deaf.gone")?;
    checks.equal("standard error takes nothing: status of the second signal", sections.number("deaf.status")?, 143);
    let report = sections.text("deaf.out")?;
    checks.check(
        "standard error takes nothing: the report is there",
        report.contains("KVM put off"),
        report.lines().next().unwrap_or_default(),
    );

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
        checks.check(
            &format!("{run}: says why, once"),
            said == 1 && !error.contains("panicked"),
            error.lines().last().unwrap_or_default(),
        );
        checks.equal(&format!("{run}: the command comes to its own end"), sections.text(&format!("{run}.end"))?, "ended");
        checks.equal(&format!("{run}: nothing was attached by then"), sections.text(&format!("{run}.attached"))?, "");
    }

    detached(checks, sections, "stubborn")?;
    soon(checks, sections, "stubborn.gone")?;
    checks.equal("a command that ignores SIGTERM: status of the second signal", sections.number("stubborn.status")?, 143);
    checks.equal("a command that ignores SIGTERM: it is left alone", sections.text("stubborn.left")?, "yes");
    let [bare, measured] = ["signals.bare", "signals.measured"].map(|name| sections.text(name).map(signals));
    let (bare, measured) = (bare?, measured?);
    let seen = format!("{bare:x?} and {measured:x?}");
    checks.check("a command has the signals it has without us", bare.len() == 3 && measured == bare, &seen);

    checks.equal("an interval too long for the clock: the command's status", sections.number("long-interval.status")?, 7);
    let error = sections.text("long-interval.err")?;
    checks.check("an interval too long for the clock: no panic", !error.contains("panicked"), error);
    checks.equal("a duration too long for the clock: the limit ends it", sections.number("long-trace.status")?, 0);
    files(checks, sections)
}

/// Those that are blocked, ignored and caught, of the 31 that anybody sends: the next three are the C library's own, and musl
/// ignores them in what it starts.
fn signals(text: &str) -> Vec<u64> {
    let sets = text.lines().filter_map(|line| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok());
    sets.map(|set| set & 0x7fff_ffff).collect()
}

/// Read after the signal: the whole trace.
fn late(checks: &mut Checks, sections: &Sections) -> Result<()> {
    detached(checks, sections, "late")?;
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

/// Everything is on its way out: the first descriptor is closed, and functions follow as fast as the kernel can.
fn detached(checks: &mut Checks, sections: &Sections, run: &str) -> Result<()> {
    soon(checks, sections, &format!("{run}.detached"))?;
    let milliseconds = sections.number(&format!("{run}.unhooked"))?;
    checks.check(&format!("{run}: no function is hooked any more"), milliseconds <= LATER, &milliseconds.to_string());
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
