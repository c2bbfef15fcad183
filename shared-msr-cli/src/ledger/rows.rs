//! Rows by vCPU, VM, cause and exit reason.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use shared_msr_common::{
    Tally,
    cause::{DROP, FOREIGN, UNKNOWN},
    owner::{NOBODY, Owner},
};

use super::{
    Ledger,
    facts::{Cause, Depth, Fact, Measures, Payer, Reason},
};
use crate::sample::{
    owners::tid,
    vcpus::{Vcpu, VcpuId, VmId},
};

/// One vCPU, as one thread runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VcpuRow {
    /// The VM.
    pub vm: VmId,
    /// KVM's number of it.
    pub vcpu: VcpuId,
    /// The thread.
    pub tid: u32,
    /// The thread's name.
    pub command: String,
    /// Whether the thread has ended.
    pub ended: bool,
    /// What it is credited with.
    pub tally: Tally,
}

/// One VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmRow {
    /// Its process, and which of its VMs.
    pub vm: VmId,
    /// Its name, by the VMM's command line.
    pub name: Option<String>,
    /// The process' own name.
    pub command: Option<String>,
    /// How many vCPUs of it made exits.
    pub vcpus: u64,
    /// What these are credited with.
    pub tally: Tally,
}

/// Closes of one cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CauseRow {
    /// Why.
    pub cause: Cause,
    /// Who paid, where that is another one than the vCPU's own process.
    pub payer: Option<Payer>,
    /// The numbers.
    pub measures: Measures,
}

/// Exits of one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReasonRow {
    /// As KVM's tracepoint has it; none for exits whose reason is not known.
    pub reason: Reason,
    /// Over all CPUs.
    pub exits: u64,
    /// Of these, per slot that was dirty; none where that is not known of each.
    pub deferred: Option<u64>,
    /// Of these, after which the vCPU went back to its VMM; none where that is not known.
    pub exits_to_userspace: Option<u64>,
}

impl Ledger {
    /// All vCPUs, each with a thread that ran it, or set MSRs of it.
    pub fn vcpus(&self) -> Vec<VcpuRow> {
        let row = |(owner, vcpu): (&Owner, &Vcpu)| VcpuRow {
            vm: vcpu.vm,
            vcpu: vcpu.id,
            tid: tid(vcpu.task),
            command: vcpu.command(),
            ended: vcpu.ended,
            tally: self.owners.of(*owner),
        };
        let mut rows: Vec<VcpuRow> = self.owners.vcpus.iter().map(row).collect();
        rows.sort_by_key(|row| (row.vm, row.vcpu, row.tid));
        rows
    }

    /// All VMs.
    pub fn vms(&self) -> Vec<VmRow> {
        let mut vms: BTreeMap<VmId, (VmRow, BTreeSet<(VcpuId, u32)>)> = BTreeMap::new();
        for vcpu in self.vcpus() {
            let (row, ran) = vms.entry(vcpu.vm).or_insert_with(|| {
                let known = self.owners.vms.get(&vcpu.vm.process).cloned().unwrap_or_default();
                let row = VmRow { vm: vcpu.vm, name: known.name, command: known.command, vcpus: 0, tally: Tally::EMPTY };
                (row, BTreeSet::new())
            });
            if vcpu.tally.exits > 0 {
                // A vCPU whose number is not known is told by its thread.
                let thread = if vcpu.vcpu.number().is_some() { 0 } else { vcpu.tid };
                ran.insert((vcpu.vcpu, thread));
            }
            row.tally.add(&vcpu.tally);
        }
        vms.into_values().map(|(row, ran)| VmRow { vcpus: ran.len() as u64, ..row }).collect()
    }

    /// What is nobody's.
    pub fn unattributed(&self) -> Tally {
        self.owners.of(NOBODY)
    }

    /// Why windows closed, most first, of those that are wanted.
    pub fn causes(&self, wanted: impl Fn(&Fact) -> bool) -> Vec<CauseRow> {
        let mut sums: BTreeMap<(Cause, Option<Payer>), Measures> = BTreeMap::new();
        for fact in self.facts(Depth { by_cause: true, by_reason: false }) {
            let Some(cause) = fact.cause.filter(|_| wanted(&fact)) else { continue };
            let payer = fact.payer.filter(|_| matches!(cause.0, FOREIGN | DROP | UNKNOWN));
            sums.entry((cause, payer)).or_default().add(&fact.measures);
        }
        let row = |((cause, payer), measures)| CauseRow { cause, payer, measures };
        let mut rows: Vec<CauseRow> = sums.into_iter().map(row).collect();
        rows.sort_by_key(|row| Reverse(row.measures.closes));
        rows
    }

    /// Why exits happened, most first; none where that was not counted.
    pub fn reasons(&self) -> Option<Vec<ReasonRow>> {
        self.owners.banks.as_ref()?;
        let mut sums: BTreeMap<Reason, ReasonRow> = BTreeMap::new();
        let mut add = |reason, [exits, returned]: [u64; 2], slots: Option<u64>| {
            let nothing = self.tells_returns_of(reason).then_some(0);
            let nothing = ReasonRow { reason, exits: 0, deferred: Some(0), exits_to_userspace: nothing };
            let row = sums.entry(reason).or_insert(nothing);
            row.exits += exits;
            row.deferred = row.deferred.zip(slots).map(|(deferred, slots)| deferred + exits * slots);
            row.exits_to_userspace = row.exits_to_userspace.map(|sum| sum + returned);
        };
        for (key, reason, numbers) in self.exits_by_reason() {
            add(reason, numbers, self.dirty_of(&key).map(|dirty| u64::from(dirty.count_ones())));
        }
        for (_, reason, numbers) in self.stray_exits_by_reason() {
            add(reason, numbers, None);
        }
        let mut rows: Vec<ReasonRow> = sums.into_values().collect();
        rows.sort_by_key(|row| Reverse(row.exits));
        Some(rows)
    }

    /// What was counted per window, over all owners.
    pub fn windows(&self) -> shared_msr_common::WindowTally {
        let mut sum = Tally::EMPTY;
        self.owners.tallies.values().for_each(|tally| sum.add(tally));
        sum.windows
    }
}
