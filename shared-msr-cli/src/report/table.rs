//! The report for people.

use super::{
    Report,
    by::{self, By, Rows},
    columns::{self, Style},
    number::{grouped, grouped_signed, known},
    processes,
    summary::{self, untraced_exits},
    verdict::verdict,
};
use crate::{
    ledger::{Counts, Ledger, facts::Measures},
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

/// The verdict, what was lost, the rows, the totals, and how it was observed.
pub fn render(report: &Report<'_>, style: Style) -> String {
    let mut text = verdict(report.ledger, report.vendor) + "\n" + &warnings(report) + "\n";
    text += &body(report, style);
    text += "\n";
    text += &summary::who(report);
    text += &summary::observed(report);
    text += processes::line(report.host.processes);
    text
}

/// The end of a report by intervals.
pub fn close(report: &Report<'_>) -> String {
    let whose = processes::line(report.host.processes);
    "\n".to_owned() + &warnings(report) + &summary::who(report) + &summary::observed(report) + whose
}

/// What was lost, and what does not add up.
pub fn warnings(report: &Report<'_>) -> String {
    let ledger = report.ledger;
    let mut text = String::new();
    for (name, number) in ledger.lost.named().into_iter().filter(|(_, number)| *number != 0) {
        text += &format!("LOST: {name}: {}; the numbers below are not complete.\n", grouped(number));
    }
    text += &untraced_exits(report);
    for violation in &ledger.violations {
        text += &format!("NOT RECONCILED: {violation}.\n");
    }
    text
}

/// The rows that were asked for.
pub fn body(report: &Report<'_>, style: Style) -> String {
    match report.choice.by.as_slice() {
        by @ ([By::Msr | By::Total] | [])
            if report.filter.is_open() && report.choice.sort.is_none() && report.choice.top.is_none() =>
        {
            let ledger = report.ledger;
            rows(report, by == [By::Msr], style) + &never_loaded(ledger) + &legend(ledger)
        }
        _ => chosen_rows(report, style),
    }
}

/// Rows by any dimensions, and sums of those that are not shown.
fn chosen_rows(report: &Report<'_>, style: Style) -> String {
    let rows = Rows::of(report);
    let headings: Vec<String> = rows.by.iter().map(|by| by.name().to_uppercase()).collect();
    let mut header: Vec<&str> = headings.iter().map(String::as_str).collect();
    if header.is_empty() {
        header.push("");
    }
    let words = header.len();
    let with_share = rows.by == [By::Reason];
    header.extend(rows.columns.iter().map(|column| column.names().1));
    if with_share {
        header.push("SHARE");
    }
    let mut table = columns::table(&header, words, style);
    let busy: u64 = rows.rows.iter().filter(|row| !row.idle).map(|row| row.measures.exits).sum();
    let mut line = |mut cells: Vec<String>, measures: &Measures, share: String| {
        cells.resize(words, String::new());
        cells.extend(rows.columns.iter().map(|column| by::shown(column.number(measures, report.ledger))));
        if with_share {
            cells.push(share);
        }
        table.add_row(cells);
    };
    for row in &rows.rows {
        let share = if row.idle || busy == 0 { "idle".to_owned() } else { percent(row.measures.exits, busy) };
        line(row.cells.iter().map(|cell| cell.text.clone()).collect(), &row.measures, share);
    }
    if let Some((number, measures)) = &rows.rest {
        line(vec![format!("({} more)", grouped(*number))], measures, String::new());
    }
    if let Some((number, measures)) = &rows.filtered_out {
        line(vec![format!("(filtered out: {})", grouped(*number))], measures, String::new());
    }
    line(vec!["total".to_owned()], &rows.total, String::new());
    let share = if with_share { "SHARE is of all exits but those that halt a vCPU.\n" } else { "" };
    columns::text(&table) + share
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.1} %", part as f64 * 100.0 / whole as f64)
}

fn rows(report: &Report<'_>, by_msr: bool, style: Style) -> String {
    let mut header = vec!["SLOT", "INDEX", "MSR", "WRITTEN", "SKIPPED", "FAILED", "DEFERRED", "PERFORMED", "AVOIDED"];
    if report.ledger.checked {
        header.push("WRMSRS");
    }
    let mut table = columns::table(&header, 3, style);
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
