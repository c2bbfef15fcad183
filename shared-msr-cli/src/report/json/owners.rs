//! The parts that say who: VMs, vCPUs, causes, payers; and the distributions.

use std::borrow::Cow;

use shared_msr_common::{SlotTally, Tally, WindowTally, accounting::Watched};

use super::{
    super::{Report, labels},
    document::{
        BucketPart, CausePart, Distribution, Distributions, FilteredOut, MapPart, Numbers, OfMsr, OutPart, PayerPart, SavingPart,
        SavingsPart, SlotNumbers, VcpuPart, VmPart,
    },
};
use crate::{
    ledger::{
        Counts, Ledger, MsrRow,
        distribution::{Bucket, buckets, percentile, total},
        facts::{Measures, Payer},
        rows::{CauseRow, VcpuRow, VmRow},
        savings::Saving,
    },
    probe::probes::Sight,
};

impl Numbers {
    pub(super) fn of(tally: &Tally, ledger: &Ledger) -> Self {
        let told = |number: u64| matches!(ledger.sight, Sight::Split(_)).then_some(number);
        let slots = tally.all_slots();
        Self {
            exits: tally.exits,
            userspace_exits: tally.userspace_exits,
            windows_opened: told(tally.windows.opened),
            windows_closed: told(tally.windows.closed),
            clean_closes: told(tally.windows.clean),
            set_written: told(slots.written),
            set_skipped: told(slots.skipped).filter(|_| ledger.sight == Sight::Split(Watched::Calls)),
            set_failed: told(slots.failed),
            deferred: told(slots.deferred),
            performed: told(slots.performed),
            avoided: told(0).map(|_| slots.deferred.cast_signed() - slots.performed.cast_signed()),
        }
    }
}

fn of_msrs(tally: &Tally, ledger: &Ledger) -> Vec<OfMsr> {
    let told = |number: u64| matches!(ledger.sight, Sight::Split(_)).then_some(number);
    let rows = ledger.msrs.iter().zip(&tally.slots);
    let rows = rows.filter(|(_, slot)| **slot != SlotTally::EMPTY);
    let row = |(msr, slot): (&MsrRow, &SlotTally)| OfMsr {
        name: msr.slot.name.clone(),
        slot: SlotNumbers {
            set_written: told(slot.written),
            set_skipped: told(slot.skipped).filter(|_| ledger.sight == Sight::Split(Watched::Calls)),
            set_failed: told(slot.failed),
            deferred: told(slot.deferred),
            performed: told(slot.performed),
        },
    };
    rows.map(row).collect()
}

impl Distribution {
    fn of(counts: &[u64]) -> Self {
        let at = |percent| percentile(counts, percent).and_then(|bucket| bucket.to);
        let part = |Bucket { from, to, count }| BucketPart { from, to, count };
        Self {
            count: total(counts),
            p50: at(50),
            p90: at(90),
            p99: at(99),
            buckets: buckets(counts).into_iter().map(part).collect(),
        }
    }
}

impl Distributions {
    pub(super) fn of(windows: &WindowTally, ledger: &Ledger) -> Self {
        let split = matches!(ledger.sight, Sight::Split(_));
        let told = |counts: &[u64]| split.then(|| Distribution::of(counts));
        Self {
            exits_per_window: told(&windows.exits_per_window),
            window_age_ns: told(&windows.age),
            restore_cost_ns: ledger.timed.then(|| Distribution::of(&windows.restore_cost)),
            windows_unmeasured: split.then_some(windows.unmeasured),
        }
    }
}

pub(super) fn vms(report: &Report<'_>) -> Vec<VmPart> {
    let part = |row: VmRow| VmPart {
        vm: row.vm.process,
        vm_number: row.vm.number,
        numbers: Numbers::of(&row.tally, report.ledger),
        msrs: of_msrs(&row.tally, report.ledger),
        distributions: Distributions::of(&row.tally.windows, report.ledger),
        name: row.name,
        command: row.command,
        vcpus: row.vcpus,
    };
    report.ledger.vms().into_iter().filter(|row| report.filter.takes_vm(row)).map(part).collect()
}

pub(super) fn vcpus(report: &Report<'_>) -> Vec<VcpuPart> {
    let name = |vm: u32| report.ledger.owners.vms.get(&vm).and_then(|vm| vm.name.clone());
    let part = |row: VcpuRow| VcpuPart {
        vm: row.vm.process,
        vm_number: row.vm.number,
        name: name(row.vm.process),
        vcpu: row.vcpu.value(),
        tid: row.tid,
        numbers: Numbers::of(&row.tally, report.ledger),
        msrs: of_msrs(&row.tally, report.ledger),
        distributions: Distributions::of(&row.tally.windows, report.ledger),
        command: row.command,
        ended: row.ended,
    };
    report.ledger.vcpus().into_iter().filter(|row| report.filter.takes_vcpu(row, report.ledger)).map(part).collect()
}

impl MapPart {
    pub(super) fn of(ledger: &Ledger) -> Self {
        let usage = ledger.owners.usage;
        Self { used: usage.used, most: usage.most, given_back: usage.given_back, merged: usage.merged }
    }
}

impl From<Payer> for PayerPart {
    fn from(payer: Payer) -> Self {
        let command = Some(payer.command).filter(|command| !command.is_empty());
        Self { tgid: (payer.tgid != 0).then_some(payer.tgid), command }
    }
}

pub(super) fn causes(report: &Report<'_>) -> Vec<CausePart> {
    let part = |row: CauseRow| CausePart {
        cause: Cow::Borrowed(labels::cause(row.cause.0)),
        reason: labels::cause_reason(row.cause),
        payer: row.payer.map(PayerPart::from),
        closes: row.measures.closes,
        clean_closes: row.measures.clean_closes,
        performed: row.measures.performed,
    };
    let wanted = |fact: &_| report.filter.takes(fact, report.ledger);
    report.ledger.causes(wanted).into_iter().map(part).collect()
}

impl From<Saving> for SavingPart {
    fn from(saving: Saving) -> Self {
        Self { wrmsrs: saving.wrmsrs, ns: saving.nanoseconds }
    }
}

pub(super) fn savings(ledger: &Ledger) -> Option<SavingsPart> {
    let savings = ledger.savings()?;
    Some(SavingsPart {
        eager: savings.eager.into(),
        preemption: savings.preemption.map(SavingPart::from),
        restore_ns: savings.restore_ns,
    })
}

impl OutPart {
    fn add(&mut self, measures: &Measures) {
        self.rows += 1;
        self.exits += measures.exits;
        self.deferred += measures.deferred;
        self.performed += measures.performed;
    }
}

impl FilteredOut {
    pub(super) fn of(report: &Report<'_>) -> Option<Self> {
        let (filter, ledger) = (report.filter, report.ledger);
        if filter.is_open() {
            return None;
        }
        let measures = |tally: &Tally| {
            let SlotTally { deferred, performed, .. } = tally.all_slots();
            Measures { exits: tally.exits, deferred, performed, ..Measures::default() }
        };
        let mut out =
            Self { vms: OutPart::default(), vcpus: OutPart::default(), cpus: OutPart::default(), msrs: OutPart::default() };
        for row in ledger.vms().iter().filter(|row| !filter.takes_vm(row)) {
            out.vms.add(&measures(&row.tally));
        }
        for row in ledger.vcpus().iter().filter(|row| !filter.takes_vcpu(row, ledger)) {
            out.vcpus.add(&measures(&row.tally));
        }
        let counts = |counts: &Counts, exits| Measures {
            exits,
            deferred: counts.deferred.unwrap_or(0),
            performed: counts.performed.unwrap_or(0),
            ..Measures::default()
        };
        for row in ledger.cpus.iter().filter(|row| !filter.takes_cpu(row.cpu)) {
            out.cpus.add(&counts(&row.counts, row.events.exits));
        }
        for row in ledger.msrs.iter().filter(|row| !filter.takes_msr(&row.slot)) {
            out.msrs.add(&counts(&row.counts, 0));
        }
        Some(out)
    }
}
