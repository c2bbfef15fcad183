//! A table: rows that can be sorted and selected. Pure; `widgets` draws it.

use std::cmp::Reverse;

use shared_msr_common::Owner;

use crate::{
    ledger::{
        Ledger,
        facts::{Cause, Measures, Payer, Reason},
    },
    report::{by::Column, number},
    sample::vcpus::VmId,
};

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// MSRs of KVM's list.
    Msrs,
    /// VMs.
    Vms,
    /// vCPUs of one VM.
    Vcpus,
    /// Exit reasons.
    Exits,
    /// Causes of closes.
    Causes,
}

impl Kind {
    /// How many there are.
    pub const COUNT: usize = 5;

    /// The columns, those that matter most first.
    pub const fn columns(self, expanded: bool) -> &'static [Column] {
        match (self, expanded) {
            (Self::Msrs, false) => &[Column::Deferred, Column::Performed, Column::Avoided, Column::SetWritten],
            (Self::Msrs, true) => {
                &[Column::Deferred, Column::Performed, Column::Avoided, Column::SetWritten, Column::SetSkipped, Column::SetFailed]
            }
            (Self::Vms | Self::Vcpus, _) => &[
                Column::Exits,
                Column::Deferred,
                Column::Performed,
                Column::UserspaceExits,
                Column::Avoided,
                Column::SetWritten,
                Column::SetSkipped,
                Column::Closes,
            ],
            (Self::Exits, _) => &[Column::Exits, Column::Deferred],
            (Self::Causes, _) => &[Column::Closes, Column::Performed, Column::CleanCloses],
        }
    }

    /// By which column rows are sorted until the user says otherwise; none is the order of names.
    pub const fn usual_sort(self) -> Option<Column> {
        match self {
            Self::Msrs => None,
            Self::Vms | Self::Vcpus | Self::Exits => Some(Column::Exits),
            Self::Causes => Some(Column::Closes),
        }
    }
}

/// What a row is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// A place in the list of MSRs.
    Msr(usize),
    /// A VM.
    Vm(VmId),
    /// A vCPU.
    Vcpu(VmId, Owner),
    /// A reason, and whose exits.
    Reason(Reason, Option<VmId>),
    /// A cause, who paid, and whose windows.
    Cause(Cause, Option<Payer>, Option<VmId>),
    /// What is nobody's.
    Unattributed,
}

/// A row before it is put in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What it is of.
    pub key: Key,
    /// What it is called.
    pub label: String,
    /// Its numbers.
    pub measures: Measures,
    /// Cells beyond the columns.
    pub more: Vec<String>,
    /// Whether it matters less: what has ended, halts, and the remainder. Such rows stand last.
    pub last: bool,
    /// Rows below it.
    pub children: Vec<Self>,
}

/// By what rows are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// The column; none is the order of names.
    pub column: Option<Column>,
    /// Largest first.
    pub descending: bool,
}

/// A row in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What it is of.
    pub key: Key,
    /// What it is called, with its indentation.
    pub label: String,
    /// Its numbers, ready to be shown.
    pub cells: Vec<String>,
    /// Whether it matters less.
    pub dim: bool,
}

/// A heading.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Its text.
    pub title: String,
    /// Whether rows are sorted by it, and whether largest first.
    pub sorted: Option<bool>,
}

/// A table.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// Which one.
    pub kind: Kind,
    /// Heading of the labels.
    pub label: Head,
    /// The other headings.
    pub heads: Vec<Head>,
    /// The rows.
    pub rows: Vec<Row>,
}

/// What a table is made of.
pub struct Plan<'a> {
    /// Which one.
    pub kind: Kind,
    /// Heading of the labels.
    pub title: &'static str,
    /// Headings of the cells beyond the columns.
    pub more: Vec<String>,
    /// Columns.
    pub columns: &'static [Column],
    /// Whose numbers they are: it says which of them can be told.
    pub ledger: &'a Ledger,
    /// Divide by so many seconds; none for totals.
    pub per: Option<f64>,
    /// The order.
    pub sort: Sort,
}

impl Plan<'_> {
    /// Makes the table.
    pub fn grid(self, mut lines: Vec<Line>) -> Grid {
        order(&mut lines, self.sort);
        let mut rows = Vec::new();
        for line in &lines {
            self.row(line, "", &mut rows);
        }
        let sorted = |column| (self.sort.column == column).then_some(self.sort.descending);
        let heads = self.columns.iter().map(|column| {
            let title = column.names().1;
            Head { title: title.to_owned(), sorted: sorted(Some(*column)) }
        });
        let more = self.more.iter().map(|title| Head { title: title.clone(), sorted: None });
        Grid {
            kind: self.kind,
            label: Head { title: self.title.to_owned(), sorted: sorted(None) },
            heads: heads.chain(more).collect(),
            rows,
        }
    }

    fn row(&self, line: &Line, indentation: &str, rows: &mut Vec<Row>) {
        let number = |column: &Column| shown(column.number(&line.measures, self.ledger), self.per);
        let cells = self.columns.iter().map(number).chain(line.more.iter().cloned()).collect();
        rows.push(Row { key: line.key.clone(), label: format!("{indentation}{}", line.label), cells, dim: line.last });
        let deeper = format!("{indentation}  ");
        line.children.iter().for_each(|child| self.row(child, &deeper, rows));
    }
}

fn order(lines: &mut [Line], sort: Sort) {
    match (sort.column, sort.descending) {
        (None, false) => lines.sort_by_key(|line| line.last),
        (None, true) => {
            lines.reverse();
            lines.sort_by_key(|line| line.last);
        }
        (Some(column), true) => lines.sort_by_key(|line| (line.last, Reverse(value(column, &line.measures)))),
        (Some(column), false) => lines.sort_by_key(|line| (line.last, value(column, &line.measures))),
    }
    lines.iter_mut().for_each(|line| order(&mut line.children, sort));
}

const fn value(column: Column, measures: &Measures) -> i64 {
    let number = match column {
        Column::Exits => measures.exits,
        Column::UserspaceExits => measures.userspace_exits,
        Column::SetWritten => measures.set_written,
        Column::SetSkipped => measures.set_skipped,
        Column::SetFailed => measures.set_failed,
        Column::Deferred => measures.deferred,
        Column::Performed => measures.performed,
        Column::Avoided => return measures.avoided(),
        Column::Closes => measures.closes,
        Column::CleanCloses => measures.clean_closes,
    };
    number.cast_signed()
}

/// A number, or so many a second; a question mark for what is not known.
pub fn shown(number: Option<i64>, per: Option<f64>) -> String {
    match (number, per) {
        (None, _) => "?".to_owned(),
        (Some(number), None) => number::grouped_signed(number),
        (Some(number), Some(seconds)) => rate(number as f64 / seconds.max(f64::MIN_POSITIVE)),
    }
}

/// So many a second, with a decimal where it is seldom.
pub fn rate(rate: f64) -> String {
    if rate != 0.0 && rate.abs() < 99.95 {
        return format!("{rate:.1}");
    }
    number::grouped_signed(rate.round() as i64)
}

/// Parts of a whole in percent.
pub fn percent(part: f64, whole: f64) -> String {
    if whole == 0.0 { "-".to_owned() } else { format!("{:.1}%", part / whole * 100.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_a_decimal_where_they_are_small() {
        assert_eq!(
            (rate(0.0), rate(0.25), rate(99.9), rate(12_345.6)),
            ("0".into(), "0.2".into(), "99.9".into(), "12,346".into())
        );
        assert_eq!(
            (shown(None, None), shown(Some(-1_000), None), shown(Some(10), Some(4.0))),
            ("?".into(), "-1,000".into(), "2.5".into())
        );
        assert_eq!((percent(1.0, 3.0), percent(0.0, 0.0)), ("33.3%".into(), "-".into()));
    }
}
