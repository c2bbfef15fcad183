//! What an event means for the state of its CPU: the arithmetic of the kernel-side programs.
//!
//! It is here, and not in the BPF crate, so that user space can do at the end of a measurement exactly what the programs
//! would do at the next event, and so that it can be tested without a kernel.
//!
//! At the entry of every set and close the kernel's structure is read anew. Between two events nothing can change it, so
//! the dirty slots found there are those of the whole time since the event before: exits are settled against them, a
//! write that failed shows itself, and so does an event that was missed.
//!
//! Everything is `inline(always)` and bounded: the BPF verifier follows each path.

use crate::{CpuState, MAX_SLOTS, STRUCTURE_BYTES};

const WORDS: usize = STRUCTURE_BYTES / 8;

/// Where the fields are in [`CpuState::structure`], in bytes, and how many slots count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Slots in KVM's list.
    pub slots: u64,
    /// Offset of `bool registered`.
    pub registered: u64,
    /// Offset of `struct { u64 host; u64 curr; } values[]`, a multiple of 8.
    pub values: u64,
}

impl Shape {
    /// How many bytes of the structure matter.
    #[inline(always)]
    pub const fn length(&self) -> u64 {
        self.values + self.slots * 16
    }

    /// Whether the copy holds all that matters.
    #[inline(always)]
    pub const fn fits(&self) -> bool {
        self.slots <= MAX_SLOTS as u64 && self.length() <= STRUCTURE_BYTES as u64 && self.registered < self.length()
    }
}

/// What [`CpuState::observe`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observation {
    /// The structure is as the last event left it.
    Expected,
    /// It is the first event of this CPU.
    First,
    /// The last write did not reach `curr`: it failed.
    Failed,
    /// Something changed the structure unseen; counted as lost.
    Changed,
    /// It cannot be the structure; counted as lost, and nothing else was accounted.
    Implausible,
}

/// What [`CpuState::set`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetOutcome {
    /// A WRMSR is about to be done.
    Written,
    /// The value is in hardware already.
    Skipped,
    /// KVM has no such slot; counted as lost.
    NoSuchSlot,
}

impl CpuState {
    /// Accounts everything up to now, from the copy of the kernel's structure in `self.structure`: the outcome of the
    /// write before, and the exits since the event before.
    #[inline(always)]
    pub fn observe(&mut self, shape: Shape) -> Observation {
        let word = (shape.registered / 8) as usize;
        if !shape.fits() || word >= WORDS {
            self.implausible += 1;
            return Observation::Implausible;
        }
        let registered = (self.structure[word] >> ((shape.registered % 8) * 8)) & 0xff;
        if registered > 1 {
            self.implausible += 1;
            return Observation::Implausible;
        }
        let mut dirty = 0;
        for slot in 0..MAX_SLOTS as u64 {
            if slot >= shape.slots {
                break;
            }
            let (host, curr) = self.value(shape, slot);
            if host != curr {
                dirty |= 1 << slot;
            }
        }
        let mut observation = Observation::Expected;
        if self.known == 0 {
            self.known = 1;
            self.registered_at_start = registered;
            self.dirty_at_start = dirty;
            observation = Observation::First;
        } else {
            if self.settle_pending(shape) {
                observation = Observation::Failed;
            }
            if self.registered != registered || self.dirty != dirty {
                self.unseen_changes += 1;
                observation = Observation::Changed;
            }
        }
        self.registered = registered;
        self.dirty = dirty;
        self.settle_exits(shape.slots);
        observation
    }

    /// Credits the exits since the last time to the dirty slots.
    #[inline(always)]
    pub fn settle_exits(&mut self, slots: u64) {
        let exits = self.exits - self.settled_exits;
        self.settled_exits = self.exits;
        for slot in 0..MAX_SLOTS {
            if slot as u64 >= slots {
                break;
            }
            if (self.dirty >> slot) & 1 != 0 {
                self.slots[slot].deferred += exits;
            }
        }
    }

    /// Accounts a set at its entry, where `curr` still tells whether a WRMSR will be done. After [`Self::observe`].
    #[inline(always)]
    pub fn set(&mut self, shape: Shape, slot: u64, value: u64, mask: u64) -> SetOutcome {
        if slot >= shape.slots || slot >= MAX_SLOTS as u64 {
            self.implausible += 1;
            return SetOutcome::NoSuchSlot;
        }
        let (host, curr) = self.value(shape, slot);
        // Since 5.5 (de1fca5d6e01, "do not modify masked bits of shared MSRs").
        let wanted = (value & mask) | (host & !mask);
        let counters = &mut self.slots[slot as usize];
        if wanted == curr {
            counters.skipped += 1;
            return SetOutcome::Skipped;
        }
        counters.written += 1;
        self.pending = 1;
        self.pending_slot = slot;
        self.pending_value = wanted;
        self.registered_before = self.registered;
        self.dirty_before = self.dirty;
        let bit = 1 << slot;
        if wanted == host {
            counters.made_clean += 1;
            self.dirty &= !bit;
        } else if curr == host {
            counters.made_dirty += 1;
            self.dirty |= bit;
        }
        if self.registered == 0 {
            self.registered = 1;
            self.windows_opened += 1;
        }
        SetOutcome::Written
    }

    /// Accounts a close at its entry, where `host != curr` still stands for each slot about to be restored. After
    /// [`Self::observe`]. False when no window is open; counted as lost.
    #[inline(always)]
    pub fn close(&mut self, slots: u64) -> bool {
        if self.registered == 0 {
            self.implausible += 1;
            return false;
        }
        for slot in 0..MAX_SLOTS {
            if slot as u64 >= slots {
                break;
            }
            self.slots[slot].performed += (self.dirty >> slot) & 1;
        }
        if self.dirty == 0 {
            self.clean_closes += 1;
        }
        self.windows_closed += 1;
        self.registered = 0;
        self.dirty = 0;
        true
    }

    /// A write is counted at the entry of the setter. When `curr` did not take the value, the WRMSR faulted (since 5.5 the
    /// setter then leaves everything as it was): it is counted as failed instead, and opened nothing. Says whether it
    /// failed. A close that the probes missed right after a write leaves the same traces and is taken for a failure too.
    #[inline(always)]
    fn settle_pending(&mut self, shape: Shape) -> bool {
        if self.pending == 0 {
            return false;
        }
        self.pending = 0;
        let slot = self.pending_slot;
        if slot >= MAX_SLOTS as u64 || self.value(shape, slot).1 == self.pending_value {
            return false;
        }
        let bit = 1 << slot;
        let (before, after) = (self.dirty_before & bit, self.dirty & bit);
        let counters = &mut self.slots[slot as usize];
        counters.written -= 1;
        counters.failed += 1;
        if before < after {
            counters.made_dirty -= 1;
        } else if before > after {
            counters.made_clean -= 1;
        }
        self.windows_opened -= self.registered - self.registered_before;
        self.registered = self.registered_before;
        self.dirty = self.dirty_before;
        true
    }

    /// Host's and current value of `slot` in the structure as last read; zeros beyond its end.
    #[inline(always)]
    fn value(&self, shape: Shape, slot: u64) -> (u64, u64) {
        let word = (shape.values / 8 + slot * 2) as usize;
        if word + 1 >= WORDS {
            return (0, 0);
        }
        (self.structure[word], self.structure[word + 1])
    }
}
