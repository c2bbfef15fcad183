//! The report for programs.

use serde::Serialize;

use super::Report;
use crate::{
    kernel::host::Vendor,
    ledger::{Counts, CpuRow, Events, Lost, MsrRow, ReasonRow},
    probe::{
        ladder::{Event, Refused},
        probes::Hooks,
    },
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
    verified: bool,
    reconciled: bool,
    /// Sentences: the invariants that do not hold.
    violations: &'a [String],
    totals: Totals,
    msrs: Vec<Msr<'a>>,
    cpus: Vec<Cpu>,
    reasons: Option<Vec<Reason>>,
}

#[derive(Serialize)]
struct HostPart<'a> {
    kernel: &'a str,
    vendor: Vendor,
    cpus: usize,
    hooks: &'a Hooks,
    refused: Vec<RefusedPart<'a>>,
}

/// A hook that could not be had.
#[derive(Serialize)]
struct RefusedPart<'a> {
    event: Event,
    hook: &'a str,
    why: String,
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
    /// None where KVM's list cannot be read.
    slot: Option<usize>,
    index: u32,
    name: &'a str,
    loaded: Option<bool>,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Serialize)]
struct Reason {
    isa: &'static str,
    /// None for exits whose reason is not known.
    reason: Option<u32>,
    exits: u64,
}

#[derive(Serialize)]
struct Cpu {
    cpu: u32,
    #[serde(flatten)]
    events: Events,
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
            refused: report.refused.iter().map(refused).collect(),
        },
        duration_ns: u64::try_from(ledger.duration.as_nanos()).unwrap_or(u64::MAX),
        lost: ledger.lost,
        verified: ledger.verified(),
        reconciled: ledger.reconciled(),
        violations: &ledger.violations,
        totals: Totals { events: ledger.events, counts: ledger.totals },
        msrs: ledger.msrs.iter().map(|row| msr(row, report.list_known)).collect(),
        cpus: ledger.cpus.iter().filter(|row| matters(row, report)).map(cpu).collect(),
        reasons: ledger.reasons.as_ref().map(|rows| rows.iter().map(|row| reason(row, report.vendor)).collect()),
    };
    Ok(serde_json::to_string(&document)? + "\n")
}

fn refused(refused: &Refused) -> RefusedPart<'_> {
    RefusedPart { event: refused.event, hook: &refused.hook, why: refused.why.problem.clone() }
}

fn msr(row: &MsrRow, list_known: bool) -> Msr<'_> {
    Msr {
        slot: list_known.then_some(row.slot.slot),
        index: row.slot.index,
        name: &row.slot.name,
        loaded: row.loaded,
        counts: row.counts,
    }
}

/// Whether a CPU is online, or was and counted something. Many hosts have far more possible CPUs than real ones.
fn matters(row: &CpuRow, report: &Report<'_>) -> bool {
    let counted = row.events.exits > 0 || row.events.windows_closed != Some(0) || row.events.windows_open_at_start != Some(0);
    counted || report.host.online_cpus.contains(&row.cpu)
}

fn cpu(row: &CpuRow) -> Cpu {
    Cpu { cpu: row.cpu, events: row.events, counts: row.counts }
}

fn reason(row: &ReasonRow, vendor: Vendor) -> Reason {
    Reason { isa: vendor.isa(), reason: row.reason, exits: row.exits }
}
