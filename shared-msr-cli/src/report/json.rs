//! The report for programs.

pub mod document;
mod owners;

use std::borrow::Cow;

use document::{Cpu, Distributions, Document, FilteredOut, HostPart, MapPart, Msr, Numbers, ReasonPart, RefusedPart, Totals};

use super::{Report, labels};
use crate::{
    kernel::host::Vendor,
    ledger::{CpuRow, MsrRow, rows::ReasonRow},
    probe::ladder::Refused,
};

/// Version of the shape below. It grows when a key changes its meaning or goes away, not when one is added.
pub const SCHEMA: u32 = 2;

/// One JSON object on one line.
pub fn render(report: &Report<'_>) -> Result<String, serde_json::Error> {
    let ledger = report.ledger;
    let filter = report.filter;
    let document = Document {
        schema: SCHEMA,
        host: HostPart {
            kernel: Cow::Borrowed(&report.host.kernel),
            vendor: report.vendor,
            cpus: report.host.online_cpus.len(),
            pid_namespace: report.host.processes.pid_namespace,
            names: report.host.processes.names,
            hooks: Cow::Borrowed(report.hooks),
            refused: report.refused.iter().map(refused).collect(),
        },
        duration_ns: u64::try_from(ledger.duration.as_nanos()).unwrap_or(u64::MAX),
        at_ns: u64::try_from(report.at.as_nanos()).unwrap_or(u64::MAX),
        lost: ledger.lost,
        reloads: ledger.reloads,
        verified: ledger.verified(),
        reconciled: ledger.reconciled(),
        violations: Cow::Borrowed(&ledger.violations),
        owners_compared: ledger.compared,
        totals: Totals { events: ledger.events, counts: ledger.totals },
        savings: owners::savings(ledger),
        distributions: Distributions::of(&ledger.windows(), ledger),
        msrs: ledger.msrs.iter().filter(|row| filter.takes_msr(&row.slot)).map(|row| msr(row, report.list_known)).collect(),
        vms: owners::vms(report),
        vcpus: owners::vcpus(report),
        unattributed: Numbers::of(&ledger.unattributed(), ledger),
        vcpu_map: MapPart::of(ledger),
        cpus: ledger.cpus.iter().filter(|row| matters(row, report) && filter.takes_cpu(row.cpu)).map(cpu).collect(),
        causes: owners::causes(report),
        reasons: ledger.reasons().map(|rows| rows.iter().map(|row| reason(row, report.vendor)).collect()),
        rows: super::by::json(report),
        filtered_out: FilteredOut::of(report),
    };
    Ok(serde_json::to_string(&document)? + "\n")
}

fn refused(refused: &Refused) -> RefusedPart<'_> {
    RefusedPart { event: refused.event, hook: Cow::Borrowed(&refused.hook), why: refused.why.problem.clone() }
}

fn msr(row: &MsrRow, list_known: bool) -> Msr<'_> {
    Msr {
        slot: list_known.then_some(row.slot.slot),
        index: row.slot.index,
        name: Cow::Borrowed(&row.slot.name),
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
        isa: Cow::Borrowed(vendor.isa()),
        reason: row.reason,
        name: row.reason.and_then(|reason| labels::reason_name(vendor, reason)),
        exits: row.exits,
        deferred: row.deferred,
        exits_to_userspace: row.exits_to_userspace,
    }
}
