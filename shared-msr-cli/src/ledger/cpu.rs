//! The books of one CPU.

use shared_msr_common::{
    CpuState, SlotCounters,
    accounting::{SetForm, Shape, Watched},
};

use super::{Counts, Events, Lost, books::OwnerBooks};
use crate::{
    kernel::{layout::DOCUMENTED, structure::Structure},
    probe::probes::Sight,
    sample::CpuSample,
};

/// One CPU, everything settled.
#[derive(Clone, Debug)]
pub(super) struct CpuLedger {
    pub(super) cpu: u32,
    pub(super) state: CpuState,
    pub(super) sight: Sight,
    pub(super) checked: bool,
    unsettled_exits: u64,
    unreadable: bool,
    torn: bool,
}

impl CpuLedger {
    /// Does what the programs would do at the next event of this CPU: settles the exits since the last one, and the
    /// outcome of the last write.
    pub(super) fn settle(sample: &CpuSample, sight: Sight, checked: bool, slots: usize, books: &mut OwnerBooks) -> Self {
        let mut state = sample.state;
        let mut unsettled_exits = 0;
        books.turn_to(sample.cpu);
        match (sight, &sample.structure) {
            // Nothing is said of dirty slots.
            (Sight::WritesOnly, _) => {}
            (Sight::Split(watched), Some(structure)) => {
                place(&mut state, structure);
                let shape = shape(slots, watched);
                if state.known != 0 && state.shows_a_close(shape) {
                    let cause = state.unknown_cause(books.cpu());
                    state.blame(books, cause, Default::default);
                }
                state.observe(shape, 0);
            }
            // The fields of a torn copy are of different moments: nothing can be concluded from them.
            (_, None) if sample.torn => {}
            (_, None) if state.known == 0 => unsettled_exits = state.exits,
            (_, None) => state.settle_exits(slots as u64),
        }
        state.credit_all(books);
        Self { cpu: sample.cpu, state, sight, checked, unsettled_exits, unreadable: sample.unreadable, torn: sample.torn }
    }

    /// What `slot` counted.
    pub(super) fn counts(&self, slot: usize) -> Counts {
        tell(&self.state.slots[slot], self.sight, self.checked)
    }

    /// A row that counted nothing, with what these hooks cannot tell unknown.
    pub(super) fn nothing(sight: Sight, checked: bool) -> Counts {
        tell(&SlotCounters::EMPTY, sight, checked)
    }

    /// Whether a guest's value of `slot` was loaded.
    pub(super) fn loaded(&self, slot: usize) -> Option<bool> {
        let counted = &self.state.slots[slot];
        let seen = counted.written + counted.failed > 0 || self.state.dirty_at_start >> slot & 1 != 0;
        match self.sight {
            Sight::Split(Watched::Calls) => Some(seen || counted.skipped > 0),
            // A set that was skipped left no trace.
            Sight::Split(Watched::Writes) => seen.then_some(true),
            Sight::WritesOnly => None,
        }
    }

    /// What is not counted per slot.
    pub(super) fn events(&self) -> Events {
        let state = &self.state;
        let told = |number: u64| matches!(self.sight, Sight::Split(_)).then_some(number);
        Events {
            exits: state.exits,
            userspace_exits: state.userspace_exits,
            windows_open_at_start: told(state.registered_at_start),
            windows_opened: told(state.windows.opened),
            windows_closed: told(state.windows.closed),
            windows_open_at_end: told(state.registered),
            clean_closes: told(state.windows.clean),
        }
    }

    /// Bit per slot that was dirty when counting began; none where that is not known.
    pub(super) fn dirty_at_start(&self) -> Option<u64> {
        (self.state.known != 0).then_some(self.state.dirty_at_start)
    }

    /// What could not be counted.
    pub(super) fn lost(&self) -> Lost {
        Lost {
            unseen_changes: self.state.unseen_changes,
            unreadable_structures: self.state.unreadable,
            implausible_structures: self.state.implausible,
            missed_closes: self.state.missed_closes,
            unsettled_exits: self.unsettled_exits,
            unreadable_samples: u64::from(self.unreadable),
            torn_samples: u64::from(self.torn),
            uncredited: self.state.uncredited,
            refused_vcpus: self.state.vcpus_refused,
            ..Lost::default()
        }
    }
}

fn tell(counted: &SlotCounters, sight: Sight, checked: bool) -> Counts {
    let told = |number: u64| matches!(sight, Sight::Split(_)).then_some(number);
    let checked = |number: u64| checked.then_some(number);
    Counts {
        set_written: told(counted.written),
        set_skipped: (sight == Sight::Split(Watched::Calls)).then_some(counted.skipped),
        set_failed: told(counted.failed),
        deferred: told(counted.deferred),
        performed: told(counted.performed),
        avoided: told(0).map(|_| counted.deferred.cast_signed() - counted.performed.cast_signed()),
        wrmsrs: checked(match sight {
            Sight::Split(_) => counted.wrmsrs,
            // There is no set or close to pair them with.
            Sight::WritesOnly => counted.wrmsrs + counted.wrmsrs_unpaired,
        }),
        wrmsrs_failed: checked(counted.wrmsrs_failed),
        wrmsrs_unchanged: checked(0).and_then(|_| told(counted.wrmsrs_unchanged)),
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

/// Where [`place`] puts the fields. The form of the setter does not matter here: only the programs see sets.
pub(super) const fn shape(slots: usize, watched: Watched) -> Shape {
    Shape {
        slots: slots as u64,
        registered: DOCUMENTED.registered as u64,
        values: DOCUMENTED.values as u64,
        watched,
        form: SetForm::Merged,
    }
}
