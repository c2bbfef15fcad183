//! The report for programs.

mod owners;

use serde::Serialize;

use super::{Report, labels};
use crate::{
    kernel::{host::Vendor, process::PidNamespace},
    ledger::{Counts, CpuRow, Events, Lost, MsrRow, rows::ReasonRow},
    probe::{
        hooks::Hooks,
        ladder::{Event, Refused},
    },
};

/// Version of the shape below. It grows when a key changes its meaning or goes away, not when one is added.
pub const SCHEMA: u32 = 2;

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    host: HostPart<'a>,
    /// Nanoseconds.
    duration_ns: u64,
    /// Nanoseconds from when counting began.
    at_ns: u64,
    lost: Lost,
    /// Times that the vendor module was loaded anew.
    reloads: u64,
    verified: bool,
    reconciled: bool,
    /// Sentences: the invariants that do not hold.
    violations: &'a [String],
    /// Whether sums over owners were held against sums over CPUs.
    owners_compared: bool,
    totals: Totals,
    savings: Option<owners::SavingsPart>,
    distributions: owners::Distributions,
    msrs: Vec<Msr<'a>>,
    vms: Vec<owners::VmPart>,
    vcpus: Vec<owners::VcpuPart>,
    unattributed: owners::Numbers,
    vcpu_map: owners::MapPart,
    cpus: Vec<Cpu>,
    causes: Vec<owners::CausePart>,
    reasons: Option<Vec<ReasonPart>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<Vec<serde_json::Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filtered_out: Option<owners::FilteredOut>,
}

#[derive(Serialize)]
struct HostPart<'a> {
    kernel: &'a str,
    vendor: Vendor,
    cpus: usize,
    /// Where shared-msr ran.
    pid_namespace: PidNamespace,
    /// Whether names of processes could be read.
    names: bool,
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
struct ReasonPart {
    isa: &'static str,
    /// None for exits whose reason is not known.
    reason: Option<u32>,
    name: Option<String>,
    exits: u64,
    deferred: Option<u64>,
    exits_to_userspace: Option<u64>,
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
    let filter = report.filter;
    let document = Document {
        schema: SCHEMA,
        host: HostPart {
            kernel: &report.host.kernel,
            vendor: report.vendor,
            cpus: report.host.online_cpus.len(),
            pid_namespace: report.host.processes.pid_namespace,
            names: report.host.processes.names,
            hooks: report.hooks,
            refused: report.refused.iter().map(refused).collect(),
        },
        duration_ns: u64::try_from(ledger.duration.as_nanos()).unwrap_or(u64::MAX),
        at_ns: u64::try_from(report.at.as_nanos()).unwrap_or(u64::MAX),
        lost: ledger.lost,
        reloads: ledger.reloads,
        verified: ledger.verified(),
        reconciled: ledger.reconciled(),
        violations: &ledger.violations,
        owners_compared: ledger.compared,
        totals: Totals { events: ledger.events, counts: ledger.totals },
        savings: owners::savings(ledger),
        distributions: owners::Distributions::of(&ledger.windows(), ledger),
        msrs: ledger.msrs.iter().filter(|row| filter.takes_msr(&row.slot)).map(|row| msr(row, report.list_known)).collect(),
        vms: owners::vms(report),
        vcpus: owners::vcpus(report),
        unattributed: owners::Numbers::of(&ledger.unattributed(), ledger),
        vcpu_map: owners::MapPart::of(ledger),
        cpus: ledger.cpus.iter().filter(|row| matters(row, report) && filter.takes_cpu(row.cpu)).map(cpu).collect(),
        causes: owners::causes(report),
        reasons: ledger.reasons().map(|rows| rows.iter().map(|row| reason(row, report.vendor)).collect()),
        rows: super::by::json(report),
        filtered_out: owners::FilteredOut::of(report),
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

fn reason(row: &ReasonRow, vendor: Vendor) -> ReasonPart {
    ReasonPart {
        isa: vendor.isa(),
        reason: row.reason,
        name: row.reason.and_then(|reason| labels::reason_name(vendor, reason)),
        exits: row.exits,
        deferred: row.deferred,
        exits_to_userspace: row.exits_to_userspace,
    }
}
