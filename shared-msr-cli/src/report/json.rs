//! The report for programs.

use serde::Serialize;

use super::Report;
use crate::{
    kernel::host::Vendor,
    ledger::{Counts, Events, Lost},
    probe::probes::Hooks,
};

/// Version of the shape below. It grows when a key changes its meaning or goes away, not when one is added.
pub const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    host: HostPart<'a>,
    /// Nanoseconds.
    duration_ns: u64,
    lost: Lost,
    reconciled: bool,
    /// Sentences: the invariants that do not hold.
    violations: &'a [String],
    totals: Totals,
    msrs: Vec<Msr<'a>>,
}

#[derive(Serialize)]
struct HostPart<'a> {
    kernel: &'a str,
    vendor: Vendor,
    cpus: usize,
    hooks: &'a Hooks,
}

#[derive(Serialize)]
struct Totals {
    #[serde(flatten)]
    events: Events,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Serialize)]
struct Msr<'a> {
    slot: usize,
    index: u32,
    name: &'a str,
    #[serde(flatten)]
    counts: Counts,
}

/// One JSON object on one line.
pub fn render(report: &Report<'_>) -> Result<String, serde_json::Error> {
    let ledger = report.ledger;
    let document = Document {
        schema: SCHEMA,
        host: HostPart {
            kernel: &report.host.kernel,
            vendor: report.vendor,
            cpus: report.host.online_cpus.len(),
            hooks: report.hooks,
        },
        duration_ns: u64::try_from(ledger.duration.as_nanos()).unwrap_or(u64::MAX),
        lost: ledger.lost,
        reconciled: ledger.reconciled(),
        violations: &ledger.violations,
        totals: Totals { events: ledger.events, counts: ledger.totals },
        msrs: ledger
            .msrs
            .iter()
            .map(|row| Msr { slot: row.slot.slot, index: row.slot.index, name: &row.slot.name, counts: row.counts })
            .collect(),
    };
    Ok(serde_json::to_string(&document)? + "\n")
}
