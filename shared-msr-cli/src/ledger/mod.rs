//! Pure arithmetic on snapshots: no kernel, no input or output.

mod cpu;
mod invariants;

use std::time::Duration;

use serde::Serialize;

use crate::{kernel::tables::Slot, sample::Snapshot};

/// What one slot counted, on one CPU or on all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Sets that wrote the MSR (WRMSRs to the guest's value).
    pub set_written: u64,
    /// Sets that found the value in hardware already.
    pub set_skipped: u64,
    /// Sets whose WRMSR faulted.
    pub set_failed: u64,
    /// Exits that happened while the slot was dirty.
    pub deferred: u64,
    /// WRMSRs that put the host's value back.
    pub performed: u64,
    /// `deferred - performed`, never clamped: a window that closes without an exit makes it negative.
    pub avoided: i64,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.set_written += other.set_written;
        self.set_skipped += other.set_skipped;
        self.set_failed += other.set_failed;
        self.deferred += other.deferred;
        self.performed += other.performed;
        self.avoided += other.avoided;
    }
}

/// What is not counted per slot, on one CPU or on all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Events {
    /// `kvm_exit` events.
    pub exits: u64,
    /// `kvm_userspace_exit` events.
    pub userspace_exits: u64,
    /// Windows that were open when measuring began.
    pub windows_open_at_start: u64,
    /// Windows opened.
    pub windows_opened: u64,
    /// Windows closed.
    pub windows_closed: u64,
    /// Windows open at the end of the measurement.
    pub windows_open_at_end: u64,
    /// Windows that closed without a dirty slot.
    pub clean_closes: u64,
}

impl Events {
    fn add(&mut self, other: &Self) {
        self.exits += other.exits;
        self.userspace_exits += other.userspace_exits;
        self.windows_open_at_start += other.windows_open_at_start;
        self.windows_opened += other.windows_opened;
        self.windows_closed += other.windows_closed;
        self.windows_open_at_end += other.windows_open_at_end;
        self.clean_closes += other.clean_closes;
    }
}

/// What could not be counted. All 0 when nothing was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// A CPU's structure changed between two events without an event that the programs saw.
    pub unseen_changes: u64,
    /// Events at which a CPU's structure could not be read.
    pub unreadable_structures: u64,
    /// Events at which a CPU's structure, or the slot, made no sense.
    pub implausible_structures: u64,
    /// Exits of which it is not known whether a slot was dirty.
    pub unsettled_exits: u64,
    /// CPUs whose counters could be copied only in the middle of an event.
    pub torn_samples: u64,
    /// Runs of a program that the kernel skipped; absent where it does not say (before Linux 5.12).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped_runs: Option<u64>,
}

impl Lost {
    fn add(&mut self, other: &Self) {
        self.unseen_changes += other.unseen_changes;
        self.unreadable_structures += other.unreadable_structures;
        self.implausible_structures += other.implausible_structures;
        self.unsettled_exits += other.unsettled_exits;
        self.torn_samples += other.torn_samples;
    }

    /// Whether nothing was lost, as far as the kernel says.
    pub fn is_nothing(&self) -> bool {
        Self { skipped_runs: self.skipped_runs.filter(|runs| *runs != 0), ..*self } == Self::default()
    }

    /// Each counter by its name, for people.
    pub fn named(&self) -> [(&'static str, u64); 6] {
        [
            ("unseen changes", self.unseen_changes),
            ("unreadable structures", self.unreadable_structures),
            ("implausible structures", self.implausible_structures),
            ("unsettled exits", self.unsettled_exits),
            ("torn samples", self.torn_samples),
            ("skipped runs", self.skipped_runs.unwrap_or(0)),
        ]
    }
}

/// One row of the list of MSRs with its counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MsrRow {
    /// Which MSR.
    pub slot: Slot,
    /// Its counts over all CPUs.
    pub counts: Counts,
}

/// The books of one measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// How long it took.
    pub duration: Duration,
    /// Events over all CPUs.
    pub events: Events,
    /// Sums over all slots and CPUs.
    pub totals: Counts,
    /// Per slot, in the order of KVM's list.
    pub msrs: Vec<MsrRow>,
    /// What could not be counted.
    pub lost: Lost,
    /// Invariants that do not hold, each in a sentence; none when the books reconcile.
    pub violations: Vec<String>,
}

impl Ledger {
    /// Settles a snapshot of a host with this list of MSRs.
    pub fn settle(snapshot: &Snapshot, list: &[Slot]) -> Self {
        let cpus: Vec<cpu::CpuLedger> = snapshot.cpus.iter().map(|sample| cpu::CpuLedger::settle(sample, list.len())).collect();
        let violations = cpus.iter().flat_map(|cpu| invariants::violations(cpu, list)).collect();
        let mut ledger = Self {
            duration: snapshot.duration,
            events: Events::default(),
            totals: Counts::default(),
            msrs: list.iter().map(|slot| MsrRow { slot: slot.clone(), counts: Counts::default() }).collect(),
            lost: Lost { skipped_runs: snapshot.skipped_runs, ..Lost::default() },
            violations,
        };
        for cpu in &cpus {
            ledger.events.add(&cpu.events);
            ledger.lost.add(&cpu.lost);
            for (row, slot) in ledger.msrs.iter_mut().zip(&cpu.slots) {
                row.counts.add(&slot.counts);
                ledger.totals.add(&slot.counts);
            }
        }
        ledger
    }

    /// Whether all invariants hold.
    pub fn reconciled(&self) -> bool {
        self.violations.is_empty()
    }
}

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;
