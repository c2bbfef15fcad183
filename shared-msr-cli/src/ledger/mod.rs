//! Pure arithmetic on snapshots: no kernel, no input or output.

mod attribution;
pub mod books;
mod cpu;
pub mod distribution;
mod empty_list;
pub mod facts;
mod invariants;
mod lost;
pub mod rows;
pub mod saved;
pub mod savings;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared_msr_common::ReasonCounters;

pub use lost::Lost;

use books::OwnerBooks;
use cpu::CpuLedger;

use crate::{kernel::tables::Slot, probe::probes::Sight, sample::Snapshot};

/// What one slot counted, on one CPU or on all; none for what the hooks in use cannot tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Counts {
    /// Sets that wrote the MSR (WRMSRs to the guest's value).
    pub set_written: Option<u64>,
    /// Sets that found the value in hardware already.
    pub set_skipped: Option<u64>,
    /// Sets whose WRMSR faulted.
    pub set_failed: Option<u64>,
    /// Exits that happened while the slot was dirty.
    pub deferred: Option<u64>,
    /// WRMSRs that put the host's value back.
    pub performed: Option<u64>,
    /// `deferred - performed`, never clamped: a window that closes without an exit makes it negative.
    pub avoided: Option<i64>,
    /// WRMSRs that the kernel's own tracepoint told of.
    pub wrmsrs: Option<u64>,
    /// Those of them that faulted.
    pub wrmsrs_failed: Option<u64>,
    /// Beside those: WRMSRs that wrote what was in the hardware already, so that they were neither set nor restore.
    pub wrmsrs_unchanged: Option<u64>,
}

impl Counts {
    /// Nothing happened, and nothing is unknown.
    pub const ZERO: Self = Self {
        set_written: Some(0),
        set_skipped: Some(0),
        set_failed: Some(0),
        deferred: Some(0),
        performed: Some(0),
        avoided: Some(0),
        wrmsrs: Some(0),
        wrmsrs_failed: Some(0),
        wrmsrs_unchanged: Some(0),
    };

    fn add(&mut self, other: &Self) {
        self.set_written = sum(self.set_written, other.set_written);
        self.set_skipped = sum(self.set_skipped, other.set_skipped);
        self.set_failed = sum(self.set_failed, other.set_failed);
        self.deferred = sum(self.deferred, other.deferred);
        self.performed = sum(self.performed, other.performed);
        self.avoided = self.avoided.zip(other.avoided).map(|(left, right)| left + right);
        self.wrmsrs = sum(self.wrmsrs, other.wrmsrs);
        self.wrmsrs_failed = sum(self.wrmsrs_failed, other.wrmsrs_failed);
        self.wrmsrs_unchanged = sum(self.wrmsrs_unchanged, other.wrmsrs_unchanged);
    }

    fn subtract(&mut self, before: &Self) {
        self.set_written = difference(self.set_written, before.set_written);
        self.set_skipped = difference(self.set_skipped, before.set_skipped);
        self.set_failed = difference(self.set_failed, before.set_failed);
        self.deferred = difference(self.deferred, before.deferred);
        self.performed = difference(self.performed, before.performed);
        self.avoided = self.avoided.zip(before.avoided).map(|(left, right)| left - right);
        self.wrmsrs = difference(self.wrmsrs, before.wrmsrs);
        self.wrmsrs_failed = difference(self.wrmsrs_failed, before.wrmsrs_failed);
        self.wrmsrs_unchanged = difference(self.wrmsrs_unchanged, before.wrmsrs_unchanged);
    }
}

/// A difference with something unknown is unknown. Only a write that turned out to have failed after it was shown can take a
/// counter back.
fn difference(left: Option<u64>, right: Option<u64>) -> Option<u64> {
    Some(left?.saturating_sub(right?))
}

/// A sum with something unknown is unknown.
fn sum(left: Option<u64>, right: Option<u64>) -> Option<u64> {
    Some(left? + right?)
}

/// What is not counted per slot, on one CPU or on all; none for what the hooks in use cannot tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Events {
    /// `kvm_exit` events.
    pub exits: u64,
    /// `kvm_userspace_exit` events.
    pub userspace_exits: u64,
    /// Windows that were open when measuring began.
    pub windows_open_at_start: Option<u64>,
    /// Windows opened.
    pub windows_opened: Option<u64>,
    /// Windows closed.
    pub windows_closed: Option<u64>,
    /// Windows open at the end of the measurement.
    pub windows_open_at_end: Option<u64>,
    /// Windows that closed without a dirty slot.
    pub clean_closes: Option<u64>,
}

impl Events {
    /// Nothing happened, and nothing is unknown.
    pub const ZERO: Self = Self {
        exits: 0,
        userspace_exits: 0,
        windows_open_at_start: Some(0),
        windows_opened: Some(0),
        windows_closed: Some(0),
        windows_open_at_end: Some(0),
        clean_closes: Some(0),
    };

    fn add(&mut self, other: &Self) {
        self.exits += other.exits;
        self.userspace_exits += other.userspace_exits;
        self.windows_open_at_start = sum(self.windows_open_at_start, other.windows_open_at_start);
        self.windows_opened = sum(self.windows_opened, other.windows_opened);
        self.windows_closed = sum(self.windows_closed, other.windows_closed);
        self.windows_open_at_end = sum(self.windows_open_at_end, other.windows_open_at_end);
        self.clean_closes = sum(self.clean_closes, other.clean_closes);
    }

    fn subtract(&mut self, before: &Self) {
        self.exits -= before.exits;
        self.userspace_exits -= before.userspace_exits;
        self.windows_open_at_start = before.windows_open_at_end;
        self.windows_opened = difference(self.windows_opened, before.windows_opened);
        self.windows_closed = difference(self.windows_closed, before.windows_closed);
        self.clean_closes = difference(self.clean_closes, before.clean_closes);
    }
}

/// One row of the list of MSRs with its counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MsrRow {
    /// Which MSR.
    pub slot: Slot,
    /// Its counts over all CPUs.
    pub counts: Counts,
    /// Whether KVM loaded a guest's value of it, or tried to, or had at the start; none where that cannot be told.
    pub loaded: Option<bool>,
}

/// One CPU with its counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuRow {
    /// The CPU's number.
    pub cpu: u32,
    /// Its events.
    pub events: Events,
    /// Its counts over all slots.
    pub counts: Counts,
    /// Bit per slot that was dirty when counting began; none where that is not known.
    pub dirty_at_start: Option<u64>,
}

/// The books of one measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// How long it took.
    pub duration: Duration,
    /// What the hooks in use tell.
    pub sight: Sight,
    /// Whether WRMSRs were counted as well.
    pub checked: bool,
    /// Whether closes were timed.
    pub timed: bool,
    /// Events over all CPUs.
    pub events: Events,
    /// Sums over all slots and CPUs.
    pub totals: Counts,
    /// Per slot, in the order of KVM's list.
    pub msrs: Vec<MsrRow>,
    /// Per possible CPU, in ascending order.
    pub cpus: Vec<CpuRow>,
    /// Who is credited with what.
    pub owners: OwnerBooks,
    /// Whether the sums over owners could be held against those over CPUs: not while vCPUs change places too fast.
    pub compared: bool,
    /// How often KVM's vendor module was loaded anew meanwhile. Nothing is lost by that.
    pub reloads: u64,
    /// What could not be counted.
    pub lost: Lost,
    /// Invariants that do not hold, each in a sentence; none when the books reconcile.
    pub violations: Vec<String>,
}

impl Ledger {
    /// Settles a snapshot of a host with this list of MSRs.
    pub fn settle(snapshot: &Snapshot, list: &[Slot]) -> Self {
        let mut owners = OwnerBooks::open(&snapshot.owners);
        let settle = |sample| CpuLedger::settle(sample, snapshot.sight, snapshot.checked, list.len(), &mut owners);
        let cpus: Vec<CpuLedger> = snapshot.cpus.iter().map(settle).collect();
        let mut violations: Vec<String> = cpus.iter().flat_map(|cpu| invariants::violations(cpu, list)).collect();
        if list.is_empty() {
            violations.extend(empty_list::violations(&snapshot.cpus, &cpus));
        }
        let row = |(position, slot): (usize, &Slot)| {
            let mut counts = Counts::ZERO;
            cpus.iter().for_each(|cpu| counts.add(&cpu.counts(position)));
            let loaded = cpus.iter().map(|cpu| cpu.loaded(position)).fold(Some(false), either);
            MsrRow { slot: slot.clone(), counts, loaded }
        };
        let nothing = CpuLedger::nothing(snapshot.sight, snapshot.checked);
        let cpu_row = |cpu: &CpuLedger| {
            let mut counts = nothing;
            (0..list.len()).for_each(|slot| counts.add(&cpu.counts(slot)));
            CpuRow { cpu: cpu.cpu, events: cpu.events(), counts, dirty_at_start: cpu.dirty_at_start() }
        };
        let mut ledger = Self {
            duration: snapshot.duration,
            sight: snapshot.sight,
            checked: snapshot.checked,
            timed: snapshot.timed,
            events: Events::ZERO,
            totals: nothing,
            msrs: list.iter().enumerate().map(row).collect(),
            cpus: cpus.iter().map(cpu_row).collect(),
            owners,
            compared: snapshot.owners.still,
            reloads: snapshot.reloads,
            lost: Lost {
                skipped_runs: snapshot.skipped_runs,
                hooks_off: snapshot.hooks_off,
                list_changes: snapshot.list_changes,
                ..Lost::default()
            },
            violations,
        };
        let banks = || ledger.owners.banks.iter().flat_map(|banks| banks.values()).chain(ledger.owners.stray.values());
        ledger.lost.unread_reasons = banks().map(|bank| bank.unlisted + bank.unread).sum();
        ledger.lost.stray_reasons = ledger.owners.stray.values().map(ReasonCounters::total).sum();
        for cpu in &cpus {
            ledger.events.add(&cpu.events());
            ledger.lost.add(&cpu.lost());
        }
        ledger.violations.extend(invariants::of_hooks(&ledger.lost));
        for row in &ledger.msrs {
            ledger.totals.add(&row.counts);
        }
        let mut sum = nothing;
        ledger.cpus.iter().for_each(|row| sum.add(&row.counts));
        if sum != ledger.totals {
            ledger.violations.push(format!("the sum over CPUs, {sum:?}, is not the sum over MSRs, {:?}", ledger.totals));
        }
        if ledger.compared {
            let violations = attribution::violations(&ledger, &cpus);
            ledger.violations.extend(violations);
        }
        if snapshot.owners.stopped {
            let violations = attribution::of_reasons(&ledger);
            ledger.violations.extend(violations);
            let violations = attribution::of_threads(&ledger, &cpus);
            ledger.violations.extend(violations);
        }
        ledger
    }

    /// What was counted since an earlier look of the same measurement.
    pub fn since(&self, before: &Self) -> Self {
        let mut ledger = self.clone();
        ledger.duration = self.duration.saturating_sub(before.duration);
        ledger.events.subtract(&before.events);
        ledger.totals.subtract(&before.totals);
        ledger.msrs.iter_mut().zip(&before.msrs).for_each(|(row, before)| row.counts.subtract(&before.counts));
        for (row, before) in ledger.cpus.iter_mut().zip(&before.cpus) {
            row.events.subtract(&before.events);
            row.counts.subtract(&before.counts);
        }
        ledger.reloads -= before.reloads;
        ledger.lost.subtract(&before.lost);
        ledger.owners = self.owners.since(&before.owners);
        ledger
    }

    /// Whether the numbers were compared with the kernel's own record of WRMSRs, and agree with it.
    pub fn verified(&self) -> bool {
        self.checked && matches!(self.sight, Sight::Split(_)) && self.reconciled()
    }

    /// Whether all invariants hold.
    pub fn reconciled(&self) -> bool {
        self.violations.is_empty()
    }
}

/// True when either is true; else unknown when either is unknown.
fn either(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    match (left, right) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (Some(false), Some(false)) => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;
