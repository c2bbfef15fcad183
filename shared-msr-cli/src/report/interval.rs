//! What happened in one interval, for people.

use std::time::Duration;

use super::{
    Report,
    columns::Style,
    number::{grouped, grouped_signed, known},
    table,
};

/// Headings of [`line`], each above the right end of its numbers.
const HEADINGS: [&str; 7] = ["SECONDS", "EXITS", "TO VMM", "DEFERRED", "PERFORMED", "AVOIDED", "CLOSES"];

/// One line with the totals, below the headings where they are due.
pub fn line(report: &Report<'_>, at: Duration, with_headings: bool) -> String {
    let ledger = report.ledger;
    let cells = [
        format!("{:.3}", at.as_secs_f64()),
        grouped(ledger.events.exits),
        grouped(ledger.events.userspace_exits),
        known(ledger.totals.deferred),
        known(ledger.totals.performed),
        ledger.totals.avoided.map_or_else(|| "?".to_owned(), grouped_signed),
        known(ledger.events.windows_closed),
    ];
    let mut text = String::new();
    if with_headings {
        text += &columns(HEADINGS.map(str::to_owned));
    }
    text + &table::warnings(report) + &columns(cells)
}

/// A table, below the time.
pub fn block(report: &Report<'_>, at: Duration, style: Style) -> String {
    format!("{:.3} s\n{}{}\n", at.as_secs_f64(), table::warnings(report), table::body(report, style))
}

fn columns(cells: [String; 7]) -> String {
    let cells: Vec<String> = cells.into_iter().map(|cell| format!("{cell:>13}")).collect();
    cells.join("") + "\n"
}
