//! The report for people.

use super::{
    Report, columns,
    number::{counted, grouped, grouped_signed},
    verdict::verdict,
};
use crate::ledger::Counts;

/// For somebody who has never heard of the mechanism.
const LEGEND: &str = "
WRITTEN    guest's values loaded with a WRMSR       SKIPPED    already in the hardware, no WRMSR
DEFERRED   exits with a guest's value left there    PERFORMED  host's values put back with a WRMSR
AVOIDED    deferred less performed                  FAILED     WRMSRs that faulted

";

/// The verdict, what was lost, the rows of the MSRs if they are asked for, the totals, and how it was observed.
pub fn render(report: &Report<'_>, by_msr: bool) -> String {
    let ledger = report.ledger;
    let mut text = verdict(ledger) + "\n";
    for (name, number) in ledger.lost.named().into_iter().filter(|(_, number)| *number != 0) {
        text += &format!("LOST: {name}: {}; the numbers below are not complete.\n", grouped(number));
    }
    for violation in &ledger.violations {
        text += &format!("NOT RECONCILED: {violation}.\n");
    }
    text += "\n";
    text += &rows(report, by_msr);
    text += LEGEND;
    text += &events(report);
    text
}

fn rows(report: &Report<'_>, by_msr: bool) -> String {
    let header = ["SLOT", "INDEX", "MSR", "WRITTEN", "SKIPPED", "FAILED", "DEFERRED", "PERFORMED", "AVOIDED"];
    let mut table = columns::table(&header, 3);
    let mut row = |slot: String, index: String, name: &str, counts: &Counts| {
        let counts = [
            grouped(counts.set_written),
            grouped(counts.set_skipped),
            grouped(counts.set_failed),
            grouped(counts.deferred),
            grouped(counts.performed),
            grouped_signed(counts.avoided),
        ];
        table.add_row([slot, index, name.to_owned()].into_iter().chain(counts));
    };
    if by_msr {
        for msr in &report.ledger.msrs {
            row(msr.slot.slot.to_string(), format!("{:#x}", msr.slot.index), &msr.slot.name, &msr.counts);
        }
    }
    row("total".to_owned(), String::new(), "", &report.ledger.totals);
    columns::text(&table)
}

fn events(report: &Report<'_>) -> String {
    let events = &report.ledger.events;
    let hooks = report.hooks;
    let open = match (events.windows_open_at_start, events.windows_open_at_end) {
        (0, 0) => String::new(),
        (start, end) => format!(" ({start} open at start, {end} at the end)"),
    };
    let check = if report.ledger.reconciled() { "reconciled" } else { "NOT RECONCILED" };
    let lost = if report.ledger.lost.is_nothing() { "nothing lost" } else { "with losses" };
    format!(
        "{}, {} to the VMM; {} opened, {} closed, {} of them clean{open}\n\
         Linux {} on {} ({}); set {}, close {}, exit {}, userspace exit {}; {lost}, {check}\n",
        counted(events.exits, "exit"),
        counted(events.userspace_exits, "return"),
        counted(events.windows_opened, "window"),
        grouped(events.windows_closed),
        grouped(events.clean_closes),
        report.host.kernel,
        counted(report.host.online_cpus.len() as u64, "CPU"),
        report.vendor.module(),
        hooks.set,
        hooks.close,
        hooks.exit,
        hooks.userspace_exit,
    )
}
