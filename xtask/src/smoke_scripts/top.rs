//! The live view: rates of loads of known size within one interval, and a terminal that is as it was.

use anyhow::{Context as _, Result, ensure};

use super::{Checks, sections::Sections};

/// Of a session.
const INTERVAL: f64 = 5.0;
/// By how much a sample may be late or early: the machine is emulated, and others use it.
const LATE: f64 = 0.1;
/// Exits beyond those that a guest makes on purpose (timer interrupts, page faults), and restores that other tasks paid for.
const OTHERS: u64 = 500;
/// Each burst with its OUTs, and the CPUIDs before each.
const BURSTS: [(&str, u64, u64); 3] = [("first", 300, 20), ("second", 100, 40), ("third", 10, 500)];
/// Signals that end the view, and its status then.
const ENDS: [&str; 4] = ["TERM", "HUP", "QUIT", "INT"];

pub(super) fn check(checks: &mut Checks, sections: &Sections) -> Result<()> {
    rates(checks, sections)?;
    totals(checks, sections)?;
    terminal(checks, sections, "rates")?;
    for signal in ENDS {
        let shown = Screen::find(sections, signal, "before")?;
        checks.check(&format!("SIG{signal}: the view is there before"), shown.has("1 Overview"), "");
        terminal(checks, sections, signal)?;
    }
    stopped(checks, sections)?;
    for session in ["hang-up", "nohup", "setsid"] {
        let screens = sections.text(&format!("{session}.screens"))?;
        checks.check(&format!("{session}: the view is there before"), screens.contains("1 Overview"), "");
        let end = screens.lines().last().unwrap_or_default();
        // 101 would be a panic.
        checks.check(&format!("{session}: it ends by itself with status 1"), end == "=== ended: exit status: 1", end);
        let programs = sections.text(&format!("{session}.programs"))?;
        checks.check(&format!("{session}: no program is left"), programs.contains("no program of shared-msr"), programs);
    }
    Ok(())
}

/// Each burst is shown in its own interval, and nothing in the one without.
fn rates(checks: &mut Checks, sections: &Sections) -> Result<()> {
    let mut before = [0, 0];
    for (burst, outs, cpuids) in BURSTS {
        let guest = sections.json(&format!("{burst}.guest"))?;
        checks.equal(&format!("{burst} burst: the guest made its OUTs"), guest.number("/outs")?, outs);
        let counted = |what: &str| sections.number(&format!("{burst}.{what}"));
        let after = [counted("kvm_exit")?, counted("wrmsr_to_host")?];
        let [exits, performed] = [after[0] - before[0], after[1] - before[1]];
        before = after;
        // Each KVM_RUN, and the call that sets the guest's MSR; more where another task came in between.
        let known = [outs * (cpuids + 1), outs + 1];
        for (what, number, least) in [("exits", exits, known[0]), ("performed", performed, known[1])] {
            let near = (least..=least + OTHERS).contains(&number);
            checks.check(
                &format!("{burst} burst: the kernel counts the known load, {least} {what}, and few others"),
                near,
                &number.to_string(),
            );
        }
        let screen = Screen::find(sections, "rates", burst)?;
        rate(checks, &format!("{burst} burst: exits/s"), screen.number_after("exits/s")?, exits);
        rate(checks, &format!("{burst} burst: performed/s"), screen.number_after("performed/s")?, performed);
        let (deferred, most) = (screen.number_after("deferred/s")?, screen.number_after("exits/s")?);
        let almost_all = (most * 0.95..=most).contains(&deferred);
        checks.check(&format!("{burst} burst: almost every exit put a restore off"), almost_all, &deferred.to_string());
    }
    let quiet = Screen::find(sections, "rates", "quiet")?;
    for what in ["exits/s", "deferred/s", "performed/s"] {
        checks.equal(&format!("no burst: {what}"), quiet.number_after(what)?, 0.0);
    }
    Ok(())
}

/// So many a second.
fn rate(checks: &mut Checks, what: &str, shown: f64, counted: u64) {
    let exact = counted as f64 / INTERVAL;
    let (least, most) = (exact * (1.0 - LATE), exact * (1.0 + LATE));
    checks.check(&format!("{what}: {least:.1} to {most:.1}"), (least..=most).contains(&shown), &shown.to_string());
}

/// Totals are exact: what the kernel itself has counted, on the screens and in the exported file.
fn totals(checks: &mut Checks, sections: &Sections) -> Result<()> {
    let counted = |what: &str| sections.number(&format!("rates.{what}"));
    let (exits, performed) = (counted("kvm_exit")?, counted("wrmsr_to_host")?);
    let overview = Screen::find(sections, "rates", "totals")?;
    let row = overview.row("TSC_AUX")?;
    checks.equal("totals: performed = the kernel's count of WRMSRs to the host's value", row[1], performed as f64);
    checks.equal("totals: written = the kernel's count of WRMSRs to the guests'", row[3], counted("wrmsr_to_guest")? as f64);
    let vms = Screen::find(sections, "rates", "vms")?;
    let rows = vms.last_columns("VM", 9);
    checks.equal("VMs: one for each burst", rows.len(), BURSTS.len());
    ensure!(!rows.is_empty(), "there is no VM");
    checks.equal("VMs: their exits = the kernel's count", rows.iter().sum::<f64>(), exits as f64);
    let vcpus = Screen::find(sections, "rates", "vcpus")?.last_columns("VCPU", 8);
    let shown = format!("{vcpus:?} of {rows:?}");
    checks.check("Enter shows the one vCPU of the first VM, with its exits", vcpus == rows[..1], &shown);
    let reasons = Screen::find(sections, "rates", "exits")?;
    let outs: u64 = BURSTS.iter().map(|(_, outs, _)| outs).sum();
    checks.equal("Exits: all OUTs", reasons.row("io")?[0], outs as f64);
    checks.check("Exits: all of them ended in user space", reasons.line("io")?.contains("100.0%"), reasons.line("io")?);
    checks.check("Exits: no CPUID did", reasons.line("cpuid")?.contains(" 0.0%"), reasons.line("cpuid")?);
    let export = sections.json("rates.export")?;
    checks.equal("export: exits = the kernel's count", export.number("/totals/exits")?, exits);
    checks.equal("export: performed = the kernel's count", export.number("/totals/performed")?, performed);
    let says = Screen::find(sections, "rates", "exported")?;
    checks.check("the view says where the export is", says.has("wrote /tmp/shared-msr-"), "");
    Ok(())
}

/// It ended well, and the terminal is as before, by what `stty` says and by what the terminal shows.
fn terminal(checks: &mut Checks, sections: &Sections, session: &str) -> Result<()> {
    let of = |what: &str| sections.text(&format!("{session}.{what}"));
    checks.equal(&format!("{session}: exit status"), sections.number(&format!("{session}.status"))?, 0);
    checks.check(&format!("{session}: stty after = stty before"), of("after")? == of("before")?, "");
    checks.check(&format!("{session}: stty has said something"), of("before")?.contains("echo"), "");
    let end = of("screens")?.lines().last().unwrap_or_default();
    let left = end.contains("settings as before, alternate screen left, cursor shown");
    checks.check(&format!("{session}: the picture is left and the cursor is back"), left, end);
    let programs = of("programs")?;
    checks.check(&format!("{session}: no program is left"), programs.contains("no program of shared-msr"), programs);
    Ok(())
}

fn stopped(checks: &mut Checks, sections: &Sections) -> Result<()> {
    let text = |what: &str| sections.text(&format!("ctrl-z.{what}"));
    // 128 and the signal's number.
    checks.equal("Ctrl-Z: the shell has it back", sections.number("ctrl-z.stopped.status")?, 128 + 20);
    checks.equal("Ctrl-Z: the process is stopped", text("process")?, "T");
    checks.check("Ctrl-Z: stty meanwhile = stty before", text("stopped")? == text("before")?, "");
    let again = Screen::find(sections, "ctrl-z", "again")?;
    checks.check("fg: the view is back", again.has("1 Overview"), "");
    terminal(checks, sections, "ctrl-z")
}

/// What the terminal showed.
struct Screen<'a>(&'a str);

impl<'a> Screen<'a> {
    fn find(sections: &'a Sections, session: &str, title: &str) -> Result<Self> {
        let screens = sections.text(&format!("{session}.screens"))?;
        let start = screens.split_once(&format!("=== {title}\n"));
        let (_, rest) = start.with_context(|| format!("{session} has no picture {title}: {screens}"))?;
        Ok(Self(rest.split("\n=== ").next().unwrap_or(rest)))
    }

    fn has(&self, text: &str) -> bool {
        self.0.contains(text)
    }

    /// The first line that begins so.
    fn line(&self, label: &str) -> Result<&'a str> {
        let line = self.0.lines().find(|line| line.split_whitespace().next() == Some(label));
        line.with_context(|| format!("no line {label} in\n{}", self.0))
    }

    fn number_after(&self, label: &str) -> Result<f64> {
        Ok(self.row(label)?[0])
    }

    /// The numbers behind a label, up to the first word that is none.
    fn row(&self, label: &str) -> Result<Vec<f64>> {
        numbers(self.line(label)?.split_once(label).map_or("", |(_, rest)| rest))
    }

    /// Of the rows below a heading, the first of the last `count` columns. What stands before them is a name, if it is known.
    fn last_columns(&self, heading: &str, count: usize) -> Vec<f64> {
        let below = self.0.lines().skip_while(|line| !line.starts_with(&format!("{heading} ")) || !line.contains('▼')).skip(1);
        let column = |line: &str| {
            let word = line.split_whitespace().rev().nth(count - 1)?;
            word.replace(',', "").parse().ok()
        };
        below.map_while(column).collect()
    }
}

fn numbers(text: &str) -> Result<Vec<f64>> {
    let numbers: Vec<f64> = text.split_whitespace().map_while(|word| word.replace(',', "").parse().ok()).collect();
    ensure!(!numbers.is_empty(), "no number in {text:?}");
    Ok(numbers)
}
