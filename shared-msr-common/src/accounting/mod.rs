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

mod check;
mod ownership;

pub use ownership::Books;

use core::hint::black_box;

use crate::{
    CpuState, MAX_SLOTS, STRUCTURE_BYTES,
    tally::{AGE_BUCKETS, COST_BUCKETS, EXITS_BUCKETS, bucket, is_of_bucket},
};

const WORDS: usize = STRUCTURE_BYTES / 8;

/// Which events the programs are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Calls of the setter and of the restoring function.
    Calls,
    /// The WRMSRs alone, each after it was done and before `curr` follows. A close then shows by `registered`, which the
    /// kernel takes back before it restores (since 4.9, 1650b4ebc99d).
    Writes,
}

/// How the setter judges and writes a value of which `mask` leaves bits out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetForm {
    /// Writes the value with the host's bits outside of the mask, unless `curr` is just that (since 5.5, de1fca5d6e01,
    /// "do not modify masked bits of shared MSRs").
    Merged,
    /// Writes the value as it is, unless `curr` is the same inside of the mask (up to 5.4).
    Whole,
}

/// Where the fields are in [`CpuState::structure`], in bytes, how many slots count, and how to take what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Slots in KVM's list.
    pub slots: u64,
    /// Offset of `bool registered`.
    pub registered: u64,
    /// Offset of `struct { u64 host; u64 curr; } values[]`, a multiple of 8.
    pub values: u64,
    /// Which events there are.
    pub watched: Watched,
    /// What the setter does.
    pub form: SetForm,
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

/// What [`CpuState::write`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// A guest's value was loaded.
    Set,
    /// The WRMSR faulted.
    Failed,
    /// The host's value was put back.
    Restored,
    /// It wrote what was there already, so it was neither.
    Unchanged,
    /// KVM has no such slot, or a restore wrote another value than the host's; counted as lost.
    Implausible,
}

/// 1 if two values differ, else 0. Without a branch: the verifier would follow both ways of it, slot after slot, and all that
/// comes after so often again. (Hidden from the compiler, which would make it one.)
#[inline(always)]
fn differ(left: u64, right: u64) -> u64 {
    let difference = left ^ right;
    (difference | black_box(difference.wrapping_neg())) >> 63
}

/// A slot that was found to be below [`MAX_SLOTS`], after a call: the verifier up to 6.1 or so forgets that of a number that was kept
/// on the stack meanwhile. (Hidden from the compiler, which would take the mask away.)
#[inline(always)]
fn masked(slot: usize) -> usize {
    black_box(slot) & (MAX_SLOTS - 1)
}

impl CpuState {
    /// Accounts everything up to now, from the copy of the kernel's structure in `self.structure`: the outcome of the
    /// write before, and the exits since the event before. `now` is the time of a close that shows only here
    /// ([`Watched::Writes`]), in nanoseconds; 0 where it is not known.
    #[inline(always)]
    pub fn observe(&mut self, shape: Shape, now: u64) -> Observation {
        let registered = self.registered_in_structure(shape);
        if !shape.fits() || registered > 1 {
            self.implausible += 1;
            return Observation::Implausible;
        }
        let dirty = self.dirty_in_structure(shape);
        let mut observation = Observation::Expected;
        if self.known == 0 {
            self.known = 1;
            self.registered_at_start = registered;
            self.dirty_at_start = dirty;
            if shape.watched == Watched::Writes && registered == 0 && dirty != 0 {
                // Counting began in the middle of a close.
                self.registered_at_start = 1;
                self.windows.closed += 1;
                self.windows.unmeasured += 1;
            }
            observation = Observation::First;
        } else {
            if self.settle_pending(shape) {
                observation = Observation::Failed;
            }
            if shape.watched == Watched::Writes && self.registered == 1 && registered == 0 {
                self.count_close(now);
            }
            if self.registered != registered || self.dirty != dirty {
                self.unseen_changes += 1;
                self.opened_at = 0;
                observation = Observation::Changed;
            }
        }
        self.registered = registered;
        self.dirty = dirty;
        self.settle_exits(shape.slots);
        observation
    }

    /// Bit per slot that is dirty in the copy of the structure.
    #[inline(always)]
    fn dirty_in_structure(&self, shape: Shape) -> u64 {
        // AMD has a single slot: no loop, which BPF pays for.
        if shape.slots == 1 {
            let (host, curr) = self.value(shape, 0);
            return differ(host, curr);
        }
        let mut dirty = 0;
        for slot in 0..MAX_SLOTS as u64 {
            if slot >= shape.slots {
                break;
            }
            let (host, curr) = self.value(shape, slot);
            dirty |= differ(host, curr) << slot;
        }
        dirty
    }

    /// What `registered` is in the copy of the structure; a number that it never is where the copy has no such place.
    #[inline(always)]
    pub fn registered_in_structure(&self, shape: Shape) -> u64 {
        let word = (shape.registered / 8) as usize;
        if word >= WORDS { u64::MAX } else { (self.structure[word] >> ((shape.registered % 8) * 8)) & 0xff }
    }

    /// Whether the copy of the structure tells of a close that no event told of: only where just WRMSRs are watched.
    #[inline(always)]
    pub fn shows_a_close(&self, shape: Shape) -> bool {
        let open = self.known == 0 || self.registered == 1;
        shape.watched == Watched::Writes && open && self.registered_in_structure(shape) == 0
    }

    /// Whether the copy of the structure is from the middle of a close: a slot is dirty outside of a window.
    #[inline(always)]
    pub fn shows_a_restore(&self, shape: Shape, slot: u64) -> bool {
        let (host, curr) = self.value(shape, slot);
        self.registered_in_structure(shape) == 0 && host != curr
    }

    /// Counts the close of the open window.
    #[inline(always)]
    fn count_close(&mut self, now: u64) {
        self.registered = 0;
        self.windows.closed += 1;
        if self.dirty == 0 {
            self.windows.clean += 1;
        }
        if self.opened_at == 0 || now < self.opened_at {
            self.windows.unmeasured += 1;
        } else {
            let (exits, age) = (self.exits - self.exits_at_open, now - self.opened_at);
            // To find a bucket costs about 50 instructions, to see that it is the last one's a few.
            if !is_of_bucket(exits, self.exits_bucket) {
                self.exits_bucket = bucket(exits, EXITS_BUCKETS) as u64;
            }
            if !is_of_bucket(age, self.age_bucket) {
                self.age_bucket = bucket(age, AGE_BUCKETS) as u64;
            }
            // Masked for the verifier, and hidden from the compiler, which would take the masks away.
            let exits = black_box(self.exits_bucket as usize) & (EXITS_BUCKETS - 1);
            let age = black_box(self.age_bucket as usize) & (AGE_BUCKETS - 1);
            self.windows.exits_per_window[exits] += 1;
            self.windows.age[age] += 1;
        }
        self.opened_at = 0;
    }

    /// Credits the exits since the last time to the dirty slots.
    #[inline(always)]
    pub fn settle_exits(&mut self, slots: u64) {
        let exits = self.exits - self.settled_exits;
        self.settled_exits = self.exits;
        if exits == 0 {
            return;
        }
        if slots == 1 {
            self.slots[0].deferred += exits * (self.dirty & 1);
            return;
        }
        for slot in 0..MAX_SLOTS {
            if slot as u64 >= slots {
                break;
            }
            // Not a branch, see `differ`.
            self.slots[slot].deferred += exits * ((self.dirty >> slot) & 1);
        }
    }

    /// Marks the copy of the structure as registered. For `user_return_notifier_unregister`, at whose entry the kernel has
    /// just taken that back (since 4.9).
    #[inline(always)]
    pub fn mark_registered(&mut self, shape: Shape) {
        let word = (shape.registered / 8) as usize;
        if word < WORDS {
            self.structure[word] |= 1 << ((shape.registered % 8) * 8);
        }
    }

    /// Accounts a set at its entry, where `curr` still tells whether a WRMSR will be done. After [`Self::observe`]. The time
    /// `now`, in nanoseconds, is asked for only if this opens a window.
    #[inline(always)]
    pub fn set(&mut self, shape: Shape, slot: u64, value: u64, mask: u64, now: impl FnOnce() -> u64) -> SetOutcome {
        if slot >= shape.slots || slot >= MAX_SLOTS as u64 {
            self.implausible += 1;
            return SetOutcome::NoSuchSlot;
        }
        let (host, curr) = self.value(shape, slot);
        let (wanted, skipped) = match shape.form {
            SetForm::Merged => {
                let wanted = (value & mask) | (host & !mask);
                (wanted, wanted == curr)
            }
            SetForm::Whole => (value, (value ^ curr) & mask == 0),
        };
        let counters = &mut self.slots[masked(slot as usize)];
        if skipped {
            counters.skipped += 1;
            return SetOutcome::Skipped;
        }
        self.pending = 1;
        self.pending_slot = slot;
        self.pending_value = wanted;
        self.registered_before = self.registered;
        self.dirty_before = self.dirty;
        self.load(slot, host, curr, wanted, now);
        SetOutcome::Written
    }

    /// Accounts that `curr` of a slot becomes `wanted`. The slot was checked by the caller.
    #[inline(always)]
    fn load(&mut self, slot: u64, host: u64, curr: u64, wanted: u64, now: impl FnOnce() -> u64) {
        let bit = 1 << slot;
        let counters = &mut self.slots[masked(slot as usize)];
        counters.written += 1;
        if wanted == host && curr != host {
            counters.made_clean += 1;
            self.dirty &= !bit;
        } else if wanted != host && curr == host {
            counters.made_dirty += 1;
            self.dirty |= bit;
        }
        self.expected |= bit;
        if self.registered == 0 {
            self.registered = 1;
            self.windows.opened += 1;
            self.opened_at = now();
            self.exits_at_open = self.exits;
        }
    }

    /// Accounts a WRMSR of which neither the set nor the close was seen. After [`Self::observe`].
    #[inline(always)]
    pub fn write(&mut self, shape: Shape, slot: u64, value: u64, failed: bool, now: impl FnOnce() -> u64) -> WriteOutcome {
        if slot >= shape.slots || slot >= MAX_SLOTS as u64 {
            self.implausible += 1;
            return WriteOutcome::Implausible;
        }
        let (host, curr) = self.value(shape, slot);
        let bit = 1 << slot;
        if self.registered == 0 && host != curr {
            // Only in the middle of a close is a slot dirty outside of a window.
            if value != host {
                self.implausible += 1;
                return WriteOutcome::Implausible;
            }
            self.slots[slot as usize].performed += 1;
            self.dirty &= !bit;
            self.expected |= bit;
            return WriteOutcome::Restored;
        }
        if value == curr {
            return WriteOutcome::Unchanged;
        }
        if failed {
            self.slots[slot as usize].failed += 1;
            self.expected |= bit;
            return WriteOutcome::Failed;
        }
        self.load(slot, host, curr, value, now);
        WriteOutcome::Set
    }

    /// What is in the hardware, by the copy of the structure as last read: the setter and the restoring function write the
    /// MSR first, and `curr` then.
    #[inline(always)]
    pub fn curr(&self, shape: Shape, slot: u64) -> u64 {
        self.value(shape, slot).1
    }

    /// Accounts a close at its entry, where `host != curr` still stands for each slot about to be restored. After
    /// [`Self::observe`]. False when no window is open; counted as lost. `now` in nanoseconds.
    #[inline(always)]
    pub fn close(&mut self, slots: u64, now: u64) -> bool {
        if self.registered == 0 {
            self.implausible += 1;
            return false;
        }
        if slots == 1 {
            self.slots[0].performed += self.dirty & 1;
        } else {
            for slot in 0..MAX_SLOTS {
                if slot as u64 >= slots {
                    break;
                }
                self.slots[slot].performed += (self.dirty >> slot) & 1;
            }
        }
        self.expected |= self.dirty;
        self.count_close(now);
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
        if self.registered != self.registered_before {
            self.windows.opened -= 1;
            self.opened_at = 0;
        }
        self.registered = self.registered_before;
        self.dirty = self.dirty_before;
        true
    }

    /// The close that began at `restoring_since` has ended.
    #[inline(always)]
    pub fn time_restore(&mut self, now: u64) {
        let (took, slots) = (now.wrapping_sub(self.restoring_since), self.restoring_slots);
        self.restoring_since = 0;
        if slots == 0 {
            return;
        }
        let cost = black_box(bucket(took / slots, COST_BUCKETS)) & (COST_BUCKETS - 1);
        self.windows.restore_cost[cost] += 1;
        self.windows.restore_ns += took;
        self.windows.restores_timed += slots;
    }

    /// Host's and current value of `slot` in the structure as last read; zeros beyond its end.
    #[inline(always)]
    pub fn value(&self, shape: Shape, slot: u64) -> (u64, u64) {
        let word = (shape.values / 8 + slot * 2) as usize;
        if word + 1 >= WORDS {
            return (0, 0);
        }
        (self.structure[word], self.structure[word + 1])
    }
}

#[cfg(test)]
mod tests;
