//! The books of one CPU.

use shared_msr_common::{CpuState, accounting::Shape};

use super::{Counts, Events, Lost};
use crate::{
    kernel::{layout::DOCUMENTED, structure::Structure},
    sample::CpuSample,
};

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
        match &sample.structure {
            Some(structure) => {
                place(&mut state, structure);
                state.observe(shape(slots));
            }
            // The fields of a torn copy are of different moments: nothing can be concluded from them.
            None if sample.torn => {}
            None if state.known == 0 => unsettled_exits = state.exits,
            None => state.settle_exits(slots as u64),
        }
        let bit = |mask: u64, slot: usize| mask >> slot & 1 != 0;
        let slots = (0..slots)
            .map(|slot| {
                let counted = &state.slots[slot];
                SlotLedger {
                    counts: Counts {
                        set_written: counted.written,
                        set_skipped: counted.skipped,
                        set_failed: counted.failed,
                        deferred: counted.deferred,
                        performed: counted.performed,
                        avoided: counted.deferred.cast_signed() - counted.performed.cast_signed(),
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
                unseen_changes: state.unseen_changes,
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

/// Puts the structure where the programs keep their copy, for their own accounting.
pub(super) fn place(state: &mut CpuState, structure: &Structure) {
    state.structure[DOCUMENTED.registered / 8] = u64::from(structure.registered);
    for (slot, value) in structure.values.iter().enumerate() {
        let word = DOCUMENTED.values / 8 + 2 * slot;
        state.structure[word] = value.host;
        state.structure[word + 1] = value.curr;
    }
}

/// Where [`place`] puts the fields.
pub(super) const fn shape(slots: usize) -> Shape {
    Shape { slots: slots as u64, registered: DOCUMENTED.registered as u64, values: DOCUMENTED.values as u64 }
}
