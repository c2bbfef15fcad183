//! Rows by any combination of dimensions.

use std::{cmp::Reverse, collections::BTreeMap};

use serde_json::{Map, Value, json};
use shared_msr_common::accounting::Watched;

use super::{Report, labels, number};
use crate::{
    kernel::exit_names,
    ledger::{
        Ledger,
        facts::{Depth, Fact, Measures},
    },
    probe::probes::Sight,
    sample::owners::tid,
};

/// What rows are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum By {
    /// MSRs of KVM's list
    Msr,
    /// VMs, by the process of their VMM, and which of its VMs
    Vm,
    /// vCPUs, each with the thread that runs it
    Vcpu,
    /// CPUs of the host
    Cpu,
    /// Reasons of VM-exits. Costs more on every exit: its reason has to be read
    Reason,
    /// Why windows closed
    Cause,
    /// Processes that ran the restores
    Payer,
    /// Nothing: only the total
    Total,
}

impl By {
    /// Its key in JSON and CSV, and its heading.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Msr => "msr",
            Self::Vm => "vm",
            Self::Vcpu => "vcpu",
            Self::Cpu => "cpu",
            Self::Reason => "reason",
            Self::Cause => "cause",
            Self::Payer => "payer",
            Self::Total => "total",
        }
    }
}

/// A column of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Column {
    /// VM-exits
    Exits,
    /// Returns to the VMM
    UserspaceExits,
    /// Sets that wrote the MSR
    SetWritten,
    /// Sets that found the value in hardware already
    SetSkipped,
    /// Sets whose WRMSR faulted
    SetFailed,
    /// Exits while the slot was dirty
    Deferred,
    /// Host values written back
    Performed,
    /// Deferred less performed
    Avoided,
    /// Windows closed
    Closes,
    /// Windows closed without a dirty slot
    CleanCloses,
}

impl Column {
    const ALL: [Self; 10] = [
        Self::Exits,
        Self::UserspaceExits,
        Self::SetWritten,
        Self::SetSkipped,
        Self::SetFailed,
        Self::Deferred,
        Self::Performed,
        Self::Avoided,
        Self::Closes,
        Self::CleanCloses,
    ];

    /// Key in JSON and CSV, and heading.
    pub const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Exits => ("exits", "EXITS"),
            Self::UserspaceExits => ("userspace_exits", "TO VMM"),
            Self::SetWritten => ("set_written", "WRITTEN"),
            Self::SetSkipped => ("set_skipped", "SKIPPED"),
            Self::SetFailed => ("set_failed", "FAILED"),
            Self::Deferred => ("deferred", "DEFERRED"),
            Self::Performed => ("performed", "PERFORMED"),
            Self::Avoided => ("avoided", "AVOIDED"),
            Self::Closes => ("closes", "CLOSES"),
            Self::CleanCloses => ("clean_closes", "CLEAN"),
        }
    }

    /// Whether its numbers can be broken down so.
    const fn has(self, by: By) -> bool {
        match (by, self) {
            (By::Total | By::Vm | By::Vcpu | By::Cpu, _) => true,
            (By::Msr, Self::Exits | Self::UserspaceExits | Self::Closes | Self::CleanCloses) => false,
            (By::Msr, _) => true,
            (By::Reason, Self::Exits | Self::Deferred) => true,
            (By::Cause | By::Payer, Self::Performed | Self::Closes | Self::CleanCloses) => true,
            (By::Reason | By::Cause | By::Payer, _) => false,
        }
    }

    const fn of(self, measures: &Measures) -> i64 {
        let number = match self {
            Self::Exits => measures.exits,
            Self::UserspaceExits => measures.userspace_exits,
            Self::SetWritten => measures.set_written,
            Self::SetSkipped => measures.set_skipped,
            Self::SetFailed => measures.set_failed,
            Self::Deferred => measures.deferred,
            Self::Performed => measures.performed,
            Self::Avoided => return measures.avoided(),
            Self::Closes => measures.closes,
            Self::CleanCloses => measures.clean_closes,
        };
        number.cast_signed()
    }

    /// The number; none where the hooks in use cannot tell it.
    pub fn number(self, measures: &Measures, ledger: &Ledger) -> Option<i64> {
        let told = match (self, ledger.sight) {
            (Self::Exits | Self::UserspaceExits, _) | (_, Sight::Split(Watched::Calls)) => true,
            (Self::SetSkipped, Sight::Split(Watched::Writes)) | (_, Sight::WritesOnly) => false,
            (_, Sight::Split(Watched::Writes)) => true,
        };
        told.then(|| self.of(measures))
    }
}

/// One cell that says what a row is of.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// For people.
    pub text: String,
    /// For programs.
    pub value: Value,
}

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// One cell for each dimension.
    pub cells: Vec<Cell>,
    /// The numbers.
    pub measures: Measures,
    /// Whether it is of exits that halt a vCPU: shown last, so that idle guests do not bury what others do.
    pub idle: bool,
}

/// Rows, and what is not among them.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// What they are of.
    pub by: Vec<By>,
    /// The columns of numbers that can be broken down so.
    pub columns: Vec<Column>,
    /// In the order that was asked for.
    pub rows: Vec<Row>,
    /// How many more there are than were asked for, and their sum.
    pub rest: Option<(u64, Measures)>,
    /// How many the filters keep out, and their sum.
    pub filtered_out: Option<(u64, Measures)>,
    /// Over everything.
    pub total: Measures,
}

/// How rows are chosen and put in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// What the rows are of.
    pub by: Vec<By>,
    /// By which column of numbers, largest first; or in the order of what they are of.
    pub sort: Option<Sort>,
    /// How many at most.
    pub top: Option<usize>,
}

/// What rows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// A column of numbers, largest first.
    Column(Column),
    /// What the rows are of, smallest first.
    By(By),
}

/// A place in the order of rows, and what to show for it.
type Key = Vec<(SortKey, String, String)>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SortKey {
    Number(u64),
    Text(String),
    Nothing,
}

impl Rows {
    /// The rows that a report asks for.
    pub fn of(report: &Report<'_>) -> Self {
        let (ledger, choice) = (report.ledger, report.choice);
        let by: Vec<By> = choice.by.iter().copied().filter(|by| *by != By::Total).collect();
        let all = |column: &Column| by.iter().all(|by| column.has(*by));
        let mut columns: Vec<Column> = Column::ALL.into_iter().filter(all).collect();
        if columns.is_empty() {
            // No number has all of these; each then stands in the rows of what it has.
            columns = Column::ALL.into_iter().filter(|column| by.iter().any(|by| column.has(*by))).collect();
        }
        let depth = Depth { by_reason: by.contains(&By::Reason), by_cause: by.contains(&By::Cause) || by.contains(&By::Payer) };
        let mut sums: BTreeMap<Key, (Measures, Vec<Value>, bool)> = BTreeMap::new();
        let mut out: BTreeMap<Key, Measures> = BTreeMap::new();
        let mut total = Measures::default();
        for fact in ledger.facts(depth) {
            if columns.iter().all(|column| column.of(&fact.measures) == 0) {
                continue;
            }
            total.add(&fact.measures);
            let cells: Vec<(SortKey, Cell)> = by.iter().map(|by| cell(*by, &fact, report)).collect();
            let key: Key = cells.iter().map(|(key, cell)| (key.clone(), cell.text.clone(), cell.value.to_string())).collect();
            if report.filter.takes(&fact, ledger) {
                let values = cells.into_iter().map(|(_, cell)| cell.value).collect();
                let idle = fact.reason.flatten().is_some_and(|reason| exit_names::is_halt(report.vendor, reason));
                sums.entry(key).or_insert((Measures::default(), values, idle)).0.add(&fact.measures);
            } else {
                out.entry(key).or_default().add(&fact.measures);
            }
        }
        let row = |(key, (measures, values, idle)): (Key, (Measures, Vec<Value>, bool))| {
            let cells = key.into_iter().zip(values).map(|((_, text, _), value)| Cell { text, value }).collect();
            Row { cells, measures, idle }
        };
        let mut rows: Vec<Row> = sums.into_iter().map(row).collect();
        match choice.sort.unwrap_or_else(|| usual_sort(&by, &columns)) {
            Sort::Column(column) => rows.sort_by_key(|row| (row.idle, Reverse(column.of(&row.measures)))),
            Sort::By(by_first) => {
                if let Some(position) = by.iter().position(|by| *by == by_first) {
                    rows.sort_by(|left, right| compare(&left.cells[position].value, &right.cells[position].value));
                }
            }
        }
        let rest = rows.split_off(choice.top.unwrap_or(rows.len()).min(rows.len()));
        Self { by, columns, rows, rest: summed(rest.iter().map(|row| &row.measures)), filtered_out: summed(out.values()), total }
    }
}

fn compare(left: &Value, right: &Value) -> std::cmp::Ordering {
    let key = |value: &Value| (value.as_i64().is_none(), value.as_i64(), value.as_str().map(str::to_owned));
    key(left).cmp(&key(right))
}

fn summed<'a>(measures: impl Iterator<Item = &'a Measures>) -> Option<(u64, Measures)> {
    let mut sum = (0, Measures::default());
    measures.for_each(|measures| {
        sum.0 += 1;
        sum.1.add(measures);
    });
    (sum.0 > 0).then_some(sum)
}

/// Rows of the host's own things stand in their own order, others by what they are mostly asked for.
fn usual_sort(by: &[By], columns: &[Column]) -> Sort {
    match by.first() {
        Some(By::Msr) => Sort::By(By::Msr),
        Some(By::Cpu) => Sort::By(By::Cpu),
        _ => {
            let wanted = [Column::Closes, Column::Performed, Column::Exits];
            let causes = by.contains(&By::Cause) || by.contains(&By::Payer);
            let found = if causes { wanted.into_iter().find(|column| columns.contains(column)) } else { None };
            Sort::Column(found.unwrap_or(if columns.contains(&Column::Exits) { Column::Exits } else { Column::Deferred }))
        }
    }
}

fn cell(by: By, fact: &Fact, report: &Report<'_>) -> (SortKey, Cell) {
    let ledger = report.ledger;
    let text = |text: String, value: Value, key: SortKey| (key, Cell { text, value });
    let nothing = || text("-".to_owned(), Value::Null, SortKey::Nothing);
    let vcpu = ledger.owners.vcpus.get(&fact.owner);
    let unattributed = || text("unattributed".to_owned(), json!("unattributed"), SortKey::Nothing);
    match by {
        By::Total => nothing(),
        By::Msr => fact
            .msr
            .and_then(|msr| ledger.msrs.get(msr))
            .map_or_else(nothing, |row| text(row.slot.name.clone(), json!(row.slot.name), SortKey::Number(row.slot.slot as u64))),
        By::Cpu => fact.cpu.map_or_else(nothing, |cpu| text(cpu.to_string(), json!(cpu), SortKey::Number(cpu.into()))),
        By::Vm => match vcpu {
            None => unattributed(),
            Some(vcpu) => {
                let (process, number) = (vcpu.vm.process, vcpu.vm.number);
                let order = SortKey::Number(u64::from(process) << 32 | u64::from(number.unwrap_or(u32::MAX)));
                text(labels::vm_cell(vcpu.vm, ledger), json!({"vm": process, "vm_number": number}), order)
            }
        },
        By::Vcpu => match vcpu {
            None => unattributed(),
            Some(vcpu) => {
                let (process, number, tid) = (vcpu.vm.process, vcpu.vm.number, tid(vcpu.task));
                let label = format!("{} (thread {tid})", vcpu.id.label());
                // The VM stands in a cell of its own, or else before it.
                let apart = report.choice.by.contains(&By::Vm);
                let label = if apart { label } else { format!("{}: {label}", labels::vm_cell(vcpu.vm, ledger)) };
                let value = json!({"vm": process, "vm_number": number, "vcpu": vcpu.id.value(), "tid": tid});
                text(label, value, SortKey::Number(vcpu.task))
            }
        },
        By::Reason => match fact.reason {
            None => nothing(),
            Some(reason) => {
                let label = labels::reason_cell(report.vendor, reason);
                text(label.clone(), json!(label), reason.map_or(SortKey::Nothing, |reason| SortKey::Number(reason.into())))
            }
        },
        By::Cause => fact.cause.map_or_else(nothing, |cause| {
            let label = labels::cause_cell(cause);
            text(label.clone(), json!(label), SortKey::Text(label))
        }),
        By::Payer => match &fact.payer {
            None => nothing(),
            Some(payer) => {
                let value = json!({"tgid": (payer.tgid != 0).then_some(payer.tgid), "command": payer.command});
                text(labels::payer_cell(payer, &ledger.owners.vms), value, SortKey::Number(payer.tgid.into()))
            }
        },
    }
}

/// One object for each row, if rows were asked for that the document does not have anyway.
pub fn json(report: &Report<'_>) -> Option<Vec<Value>> {
    let asked = report.choice.by.iter().any(|by| !matches!(by, By::Msr | By::Total)) || report.choice.by.len() > 1;
    asked.then(|| {
        let rows = Rows::of(report);
        let mut objects: Vec<Value> = rows.rows.iter().map(|row| object(&rows, row, report.ledger)).collect();
        for (name, sum) in [("rest", rows.rest), ("filtered_out", rows.filtered_out)] {
            if let Some((number, measures)) = sum {
                let mut object = numbers(&rows, &measures, report.ledger);
                object.insert("row".to_owned(), json!(name));
                object.insert("rows".to_owned(), json!(number));
                objects.push(Value::Object(object));
            }
        }
        objects
    })
}

/// A row as an object.
pub fn object(rows: &Rows, row: &Row, ledger: &Ledger) -> Value {
    let mut object = Map::new();
    for (by, cell) in rows.by.iter().zip(&row.cells) {
        match (by, &cell.value) {
            // Its process and its number, side by side as in `vms`.
            (By::Vm, Value::Object(vm)) => object.extend(vm.clone()),
            (_, value) => drop(object.insert(by.name().to_owned(), value.clone())),
        }
    }
    object.extend(numbers(rows, &row.measures, ledger));
    Value::Object(object)
}

/// The numbers of a row as members of an object.
pub fn numbers(rows: &Rows, measures: &Measures, ledger: &Ledger) -> Map<String, Value> {
    let number = |column: &Column| (column.names().0.to_owned(), json!(column.number(measures, ledger)));
    rows.columns.iter().map(number).collect()
}

/// A number for people.
pub fn shown(number: Option<i64>) -> String {
    number.map_or_else(|| "?".to_owned(), number::grouped_signed)
}
