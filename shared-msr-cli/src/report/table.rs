//! The report for people.

use shared_msr_common::accounting::Watched;

use super::{
    Report, columns,
    number::{counted, grouped, grouped_signed, known},
    verdict::verdict,
};
use crate::{
    cli::By,
    ledger::{Counts, Ledger, ReasonRow},
    probe::probes::Sight,
};

/// For somebody who has never heard of the mechanism.
const LEGEND: &str = "
WRITTEN    guest's values loaded with a WRMSR       SKIPPED    already in the hardware, no WRMSR
DEFERRED   exits with a guest's value left there    PERFORMED  host's values put back with a WRMSR
AVOIDED    deferred less performed                  FAILED     WRMSRs that faulted
";
const CHECK_LEGEND: &str = "\
WRMSRS     as the kernel's own tracepoint counted them: WRITTEN and PERFORMED together
";
const WRITES_LEGEND: &str = "
WRMSRS     as the kernel's own tracepoint counted them, whoever did them       ?  cannot be told on this host
";

/// The verdict, what was lost, the rows of the MSRs if they are asked for, the totals, and how it was observed.
pub fn render(report: &Report<'_>, by: By) -> String {
    let ledger = report.ledger;
    let mut text = verdict(ledger, report.vendor) + "\n";
    for (name, number) in ledger.lost.named().into_iter().filter(|(_, number)| *number != 0) {
        text += &format!("LOST: {name}: {}; the numbers below are not complete.\n", grouped(number));
    }
    text += &untraced_exits(report);
    for violation in &ledger.violations {
        text += &format!("NOT RECONCILED: {violation}.\n");
    }
    text += "\n";
    match &ledger.reasons {
        Some(reasons) if by == By::Reason => text += &reason_rows(report, reasons),
        _ => {
            text += &rows(report, by == By::Msr);
            text += &never_loaded(ledger);
            text += &legend(ledger);
        }
    }
    text += "\n";
    text += &events(report);
    text
}

fn rows(report: &Report<'_>, by_msr: bool) -> String {
    let mut header = vec!["SLOT", "INDEX", "MSR", "WRITTEN", "SKIPPED", "FAILED", "DEFERRED", "PERFORMED", "AVOIDED"];
    if report.ledger.checked {
        header.push("WRMSRS");
    }
    let mut table = columns::table(&header, 3);
    let mut row = |slot: String, index: String, name: &str, counts: &Counts| {
        let mut cells = vec![
            slot,
            index,
            name.to_owned(),
            known(counts.set_written),
            known(counts.set_skipped),
            known(counts.set_failed),
            known(counts.deferred),
            known(counts.performed),
            counts.avoided.map_or_else(|| "?".to_owned(), grouped_signed),
        ];
        if report.ledger.checked {
            cells.push(known(counts.wrmsrs));
        }
        table.add_row(cells);
    };
    if by_msr {
        for msr in &report.ledger.msrs {
            let slot = if report.list_known { msr.slot.slot.to_string() } else { "?".to_owned() };
            row(slot, format!("{:#x}", msr.slot.index), &msr.slot.name, &msr.counts);
        }
    }
    row("total".to_owned(), String::new(), "", &report.ledger.totals);
    columns::text(&table)
}

/// One row for each exit reason, with the number that the kernel's own table of names begins with.
fn reason_rows(report: &Report<'_>, reasons: &[ReasonRow]) -> String {
    let mut table = columns::table(&["ISA", "REASON", "EXITS"], 2);
    let isa = report.vendor.isa();
    for row in reasons {
        let reason = row.reason.map_or_else(|| "?".to_owned(), |reason| report.vendor.reason(reason));
        table.add_row([isa.to_owned(), reason, grouped(row.exits)]);
    }
    let total = reasons.iter().map(|row| row.exits).sum();
    table.add_row(["total".to_owned(), String::new(), grouped(total)]);
    columns::text(&table)
}

/// A vCPU that comes back to its VMM has made an exit before, but for a call or two that was interrupted at once.
fn untraced_exits(report: &Report<'_>) -> String {
    let events = &report.ledger.events;
    if events.userspace_exits <= events.exits + report.host.possible_cpus.len() as u64 {
        return String::new();
    }
    format!(
        "{} to the VMM, but only {}: {} does not report its exits here, or runs guests without any.\n",
        counted(events.userspace_exits, "return"),
        counted(events.exits, "exit"),
        report.vendor.module(),
    )
}

/// MSRs of KVM's list that it does not load on this host, next to some that it does.
fn never_loaded(ledger: &Ledger) -> String {
    let named = |loaded| ledger.msrs.iter().filter(move |row| row.loaded == loaded).map(|row| row.slot.name.as_str());
    let never: Vec<&str> = named(Some(false)).collect();
    if never.is_empty() || named(Some(true)).next().is_none() {
        return String::new();
    }
    format!("Never loaded on this host while measuring, though KVM lists them: {}.\n", never.join(", "))
}

fn legend(ledger: &Ledger) -> String {
    match (ledger.sight, ledger.checked) {
        (Sight::WritesOnly, _) => WRITES_LEGEND.to_owned(),
        (Sight::Split(_), true) => format!("{LEGEND}{CHECK_LEGEND}"),
        (Sight::Split(_), false) => LEGEND.to_owned(),
    }
}

fn events(report: &Report<'_>) -> String {
    let ledger = report.ledger;
    let events = &ledger.events;
    let hooks = report.hooks;
    let windows = match (events.windows_opened, events.windows_closed, events.clean_closes) {
        (Some(opened), Some(closed), Some(clean)) => {
            let open = match (events.windows_open_at_start, events.windows_open_at_end) {
                (Some(0), Some(0)) => String::new(),
                (start, end) => format!(" ({} open at start, {} at the end)", known(start), known(end)),
            };
            format!("{} opened, {} closed, {} of them clean{open}", counted(opened, "window"), grouped(closed), grouped(clean))
        }
        _ => "windows unknown".to_owned(),
    };
    let check = match (ledger.reconciled(), ledger.sight) {
        (true, Sight::Split(Watched::Writes)) if ledger.verified() => {
            "reconciled, counted from the kernel's record of WRMSRs twice"
        }
        (true, Sight::Split(_)) if ledger.verified() => "reconciled, verified by the kernel's record of WRMSRs",
        (true, Sight::Split(_)) => "reconciled",
        (true, Sight::WritesOnly) => "nothing to reconcile",
        (false, _) => "NOT RECONCILED",
    };
    let lost = if ledger.lost.is_nothing() { "nothing lost" } else { "with losses" };
    let mut seen = Vec::new();
    for (event, hook) in [("set", &hooks.set), ("close", &hooks.close), ("check", &hooks.check)] {
        seen.extend(hook.as_ref().map(|hook| format!("{event} {hook}")));
    }
    format!(
        "{}, {} to the VMM; {windows}\n\
         Linux {} on {} ({}); {}, exit {}, userspace exit {}; {lost}, {check}\n",
        counted(events.exits, "exit"),
        counted(events.userspace_exits, "return"),
        report.host.kernel,
        counted(report.host.online_cpus.len() as u64, "CPU"),
        report.vendor.module(),
        seen.join(", "),
        hooks.exit,
        hooks.userspace_exit,
    )
}
