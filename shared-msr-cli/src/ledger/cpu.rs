//! The books of one CPU.

use shared_msr_common::CpuState;

use super::{Counts, Events, Lost};
use crate::{kernel::structure::Structure, sample::CpuSample};

/// One slot on one CPU.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SlotLedger {
    pub(super) counts: Counts,
    pub(super) made_dirty: u64,
    pub(super) made_clean: u64,
    pub(super) dirty_at_start: bool,
    pub(super) dirty_at_end: bool,
}

/// One CPU.
#[derive(Clone, Debug)]
pub(super) struct CpuLedger {
    pub(super) cpu: u32,
    pub(super) events: Events,
    pub(super) lost: Lost,
    pub(super) slots: Vec<SlotLedger>,
}

impl CpuLedger {
    /// Does what the programs would do at the next event of this CPU: settles the exits since the last one, and the
    /// outcome of the last write.
    pub(super) fn settle(sample: &CpuSample, slots: usize) -> Self {
        let mut state = sample.state;
        let mut unsettled_exits = 0;
        let mut unseen_changes = state.unseen_changes;
        match &sample.structure {
            Some(structure) if state.known == 0 => begin_with(&mut state, structure, slots),
            Some(structure) => {
                settle_pending(&mut state, structure);
                if (u64::from(structure.registered), structure.dirty(slots)) != (state.registered, state.dirty) {
                    unseen_changes += 1;
                }
            }
            None if state.known == 0 => unsettled_exits = state.exits - state.settled_exits,
            None => {}
        }
        let bit = |mask: u64, slot: usize| mask >> slot & 1 != 0;
        let since = state.exits - state.settled_exits;
        let slots = (0..slots)
            .map(|slot| {
                let counted = &state.slots[slot];
                let deferred = counted.deferred + if bit(state.dirty, slot) { since } else { 0 };
                SlotLedger {
                    counts: Counts {
                        set_written: counted.written,
                        set_skipped: counted.skipped,
                        set_failed: counted.failed,
                        deferred,
                        performed: counted.performed,
                        avoided: deferred.cast_signed() - counted.performed.cast_signed(),
                    },
                    made_dirty: counted.made_dirty,
                    made_clean: counted.made_clean,
                    dirty_at_start: bit(state.dirty_at_start, slot),
                    dirty_at_end: bit(state.dirty, slot),
                }
            })
            .collect();
        Self {
            cpu: sample.cpu,
            events: Events {
                exits: state.exits,
                userspace_exits: state.userspace_exits,
                windows_open_at_start: state.registered_at_start,
                windows_opened: state.windows_opened,
                windows_closed: state.windows_closed,
                windows_open_at_end: state.registered,
                clean_closes: state.clean_closes,
            },
            lost: Lost {
                unseen_changes,
                unreadable_structures: state.unreadable,
                implausible_structures: state.implausible,
                unsettled_exits,
                torn_samples: u64::from(sample.torn),
                skipped_runs: None,
            },
            slots,
        }
    }
}

/// A CPU without a single set or close: as it is now it was all the time.
fn begin_with(state: &mut CpuState, structure: &Structure, slots: usize) {
    state.registered_at_start = u64::from(structure.registered);
    state.registered = state.registered_at_start;
    state.dirty_at_start = structure.dirty(slots);
    state.dirty = state.dirty_at_start;
}

/// The same as `settle_pending` of the kernel side: a last write that left no trace has failed.
fn settle_pending(state: &mut CpuState, structure: &Structure) {
    let slot = state.pending_slot as usize;
    let Some(value) = structure.values.get(slot) else { return };
    if state.pending == 0 || value.curr == state.pending_value {
        return;
    }
    let bit = 1 << slot;
    let (before, after) = (state.dirty_before & bit, state.dirty & bit);
    let counters = &mut state.slots[slot];
    counters.written -= 1;
    counters.failed += 1;
    counters.made_dirty -= u64::from(before < after);
    counters.made_clean -= u64::from(before > after);
    state.windows_opened -= state.registered - state.registered_before;
    state.registered = state.registered_before;
    state.dirty = state.dirty_before;
}
