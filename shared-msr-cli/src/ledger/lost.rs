//! What could not be counted.

use serde::{Deserialize, Serialize};

use super::difference;

/// What could not be counted. All 0 when nothing was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Lost {
    /// A CPU's structure changed between two events without an event that the programs saw.
    pub unseen_changes: u64,
    /// Events at which a CPU's structure could not be read.
    pub unreadable_structures: u64,
    /// Events at which a CPU's structure, or the slot, made no sense.
    pub implausible_structures: u64,
    /// Exits of which it is not known whether a slot was dirty.
    pub unsettled_exits: u64,
    /// CPUs whose structure could not be read beside their counters, though it could when the host was surveyed.
    #[serde(default)]
    pub unreadable_samples: u64,
    /// CPUs whose counters could be copied only in the middle of an event.
    pub torn_samples: u64,
    /// Returns to the VMM without the close of a window that there must have been: hooks did not fire.
    pub missed_closes: u64,
    /// Looks at which hooks that are in use were switched off on the host.
    pub hooks_off: u64,
    /// How often KVM's list of MSRs was found to be another one, after its vendor module was loaded anew.
    pub list_changes: u64,
    /// Exits whose reason could not be read, or was one too many to tell apart.
    pub unread_reasons: u64,
    /// Exits by reason of which it is not known whose they were and which slots were dirty.
    pub stray_reasons: u64,
    /// Times that a vCPU found no place in the map of vCPUs, so that what it did is nobody's.
    pub refused_vcpus: u64,
    /// Counts that could be credited to nobody at all.
    pub uncredited: u64,
    /// Runs of a program that the kernel skipped; absent where it does not say (before Linux 5.12).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped_runs: Option<u64>,
}

impl Lost {
    pub(super) fn add(&mut self, other: &Self) {
        self.unseen_changes += other.unseen_changes;
        self.unreadable_structures += other.unreadable_structures;
        self.implausible_structures += other.implausible_structures;
        self.unsettled_exits += other.unsettled_exits;
        self.unreadable_samples += other.unreadable_samples;
        self.torn_samples += other.torn_samples;
        self.missed_closes += other.missed_closes;
        self.hooks_off += other.hooks_off;
        self.list_changes += other.list_changes;
        self.unread_reasons += other.unread_reasons;
        self.stray_reasons += other.stray_reasons;
        self.refused_vcpus += other.refused_vcpus;
        self.uncredited += other.uncredited;
    }

    pub(super) fn subtract(&mut self, before: &Self) {
        self.unseen_changes -= before.unseen_changes;
        self.unreadable_structures -= before.unreadable_structures;
        self.implausible_structures -= before.implausible_structures;
        self.missed_closes -= before.missed_closes;
        self.hooks_off -= before.hooks_off;
        self.list_changes -= before.list_changes;
        self.unread_reasons -= before.unread_reasons;
        self.stray_reasons -= before.stray_reasons;
        self.refused_vcpus -= before.refused_vcpus;
        self.uncredited -= before.uncredited;
        self.skipped_runs = difference(self.skipped_runs, before.skipped_runs);
    }

    /// Whether nothing was lost, as far as the kernel says.
    pub fn is_nothing(&self) -> bool {
        Self { skipped_runs: self.skipped_runs.filter(|runs| *runs != 0), ..*self } == Self::default()
    }

    /// Whether events were not heard of because hooks did not fire, or told of other MSRs.
    pub fn hooks_were_silent(&self) -> bool {
        self.missed_closes + self.hooks_off + self.list_changes > 0
    }

    /// Each counter by its name, for people.
    pub fn named(&self) -> [(&'static str, u64); 14] {
        [
            ("unseen changes", self.unseen_changes),
            ("unreadable structures", self.unreadable_structures),
            ("implausible structures", self.implausible_structures),
            ("unsettled exits", self.unsettled_exits),
            ("structures that could be read at the start and cannot be any more", self.unreadable_samples),
            ("torn samples", self.torn_samples),
            ("closes that were not heard of, because a hook did not fire", self.missed_closes),
            ("looks at which hooks were switched off on this host", self.hooks_off),
            ("KVM was loaded anew with another list of MSRs", self.list_changes),
            ("unread exit reasons", self.unread_reasons),
            ("exits by reason without an owner", self.stray_reasons),
            ("times that a vCPU found the map of vCPUs full (see --max-vcpus), so that it is unattributed", self.refused_vcpus),
            ("uncredited counts", self.uncredited),
            ("skipped runs", self.skipped_runs.unwrap_or(0)),
        ]
    }
}
