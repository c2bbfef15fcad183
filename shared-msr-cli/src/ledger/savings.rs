//! What putting restores off has saved, each number with what it is compared with.

use super::Ledger;

/// Savings compared with one baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saving {
    /// WRMSRs.
    pub wrmsrs: i64,
    /// The same in nanoseconds, at the cost of a restored slot as measured on this host; none where that was not measured.
    pub nanoseconds: Option<i64>,
}

/// What was saved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Savings {
    /// Compared with restoring the host's values at every exit and loading the guest's at every entry: an upper bound that no
    /// KVM ever was. `2 * deferred - performed - set_written`.
    pub eager: Saving,
    /// Compared with switching whenever a vCPU leaves its CPU, as KVM did before 2.6.33: the sets that found their value in the
    /// hardware. None where these cannot be told.
    pub preemption: Option<Saving>,
    /// Nanoseconds per restored slot on this host; none where that was not measured.
    pub restore_ns: Option<f64>,
}

impl Ledger {
    /// What was saved; none where sets and closes cannot be told.
    pub fn savings(&self) -> Option<Savings> {
        let totals = &self.totals;
        let (deferred, performed, written) = (totals.deferred?, totals.performed?, totals.set_written?);
        let windows = self.windows();
        let timed = windows.restores_timed;
        let restore_ns = (self.timed && timed > 0).then(|| windows.restore_ns as f64 / timed as f64);
        let saving = |wrmsrs: i64| Saving { wrmsrs, nanoseconds: restore_ns.map(|cost| (wrmsrs as f64 * cost) as i64) };
        let wrmsrs = 2 * deferred.cast_signed() - performed.cast_signed() - written.cast_signed();
        let preemption = totals.set_skipped.map(|skipped| saving(skipped.cast_signed()));
        Some(Savings { eager: saving(wrmsrs), preemption, restore_ns })
    }
}
