//! Who is credited with what a CPU counts.
//!
//! Each CPU counts for itself, and remembers what of that was credited to owners already. As long as the owner of a slot, of
//! the window or of the exits stays the same, nothing more has to be done; when it changes, the difference goes to the row
//! of the one before. Exits stand apart from slots: a vCPU can make exits while another one's value is in a slot.

use super::{Watched, masked};
use crate::{
    CauseTally, CpuState, MAX_SLOTS, Tally,
    cause::{CauseKey, DROP, FOREIGN, OTHER_CALL, UNKNOWN},
    owner::{COMMAND_BYTES, NO_TASK, NOBODY, Owner, Task},
    reasons::NO_BANK,
    tally::WINDOW_WORDS,
};

/// Where counts are credited to.
pub trait Books {
    /// The row of an owner, or nobody's where it can have none.
    fn tally(&mut self, owner: Owner) -> Option<&mut Tally>;
    /// The row of a cause, with the name of the thread that pays if it has to be made.
    fn cause(&mut self, key: &CauseKey, command: &[u8; COMMAND_BYTES]) -> Option<&mut CauseTally>;
    /// Adds to a counter of a row.
    fn add(counter: &mut u64, number: u64);
}

impl CpuState {
    /// Credits what a slot counted to its owner.
    #[inline(always)]
    pub fn credit_slot<B: Books>(&mut self, books: &mut B, slot: usize) {
        if slot >= MAX_SLOTS {
            return;
        }
        let counted = &self.slots[slot];
        let credited = &mut self.credited.slots[slot];
        let row = books.tally(self.slot_owners[slot]);
        let mut row = row.map(|row| &mut row.slots[masked(slot)]);
        let mut uncredited = 0;
        // Wrapping: a write that turns out to have failed is taken back after it was credited.
        macro_rules! credit {
            ($($counter:ident)*) => {$(
                let difference = counted.$counter.wrapping_sub(credited.$counter);
                credited.$counter = counted.$counter;
                if difference != 0 {
                    match &mut row {
                        Some(row) => B::add(&mut row.$counter, difference),
                        None => uncredited += difference,
                    }
                }
            )*};
        }
        credit!(written skipped failed deferred performed);
        self.credits += 1;
        self.uncredited += uncredited;
    }

    /// Credits what was counted per window to the window's owner.
    #[inline(always)]
    pub fn credit_window<B: Books>(&mut self, books: &mut B) {
        let mut row = books.tally(self.window_owner);
        for word in 0..WINDOW_WORDS {
            let counted = self.windows.words()[word];
            let credited = &mut self.credited.windows.words_mut()[word];
            let difference = counted.wrapping_sub(*credited);
            if difference != 0 {
                *credited = counted;
                match &mut row {
                    Some(row) => B::add(&mut row.windows.words_mut()[word], difference),
                    None => self.uncredited += difference,
                }
            }
        }
        self.credits += 1;
    }

    /// Credits exits to the vCPU that made them.
    #[inline(always)]
    pub fn credit_exits<B: Books>(&mut self, books: &mut B) {
        let exits = self.exits - self.credited.exits;
        let userspace_exits = self.userspace_exits - self.credited.userspace_exits;
        self.credited.exits = self.exits;
        self.credited.userspace_exits = self.userspace_exits;
        match books.tally(self.exit_owner) {
            Some(row) => {
                B::add(&mut row.exits, exits);
                B::add(&mut row.userspace_exits, userspace_exits);
            }
            None => self.uncredited += exits + userspace_exits,
        }
        self.credits += 1;
    }

    /// Credits closes to the cause of the last one.
    #[inline(always)]
    pub fn credit_cause<B: Books>(&mut self, books: &mut B) {
        let closed = self.windows.closed - self.credited_causes.closed;
        let clean = self.windows.clean - self.credited_causes.clean;
        self.credited_causes.closed = self.windows.closed;
        self.credited_causes.clean = self.windows.clean;
        let mut row = books.cause(&self.cause, &self.cause_command);
        match &mut row {
            Some(row) => {
                B::add(&mut row.closed, closed);
                B::add(&mut row.clean, clean);
            }
            None => self.uncredited += closed,
        }
        for slot in 0..MAX_SLOTS {
            let performed = self.slots[slot].performed - self.credited_causes.performed[slot];
            if performed != 0 {
                self.credited_causes.performed[slot] = self.slots[slot].performed;
                match &mut row {
                    Some(row) => B::add(&mut row.performed[slot], performed),
                    None => self.uncredited += performed,
                }
            }
        }
        self.credits += 1;
    }

    /// From now on the value in a slot is this owner's, and so is the window. To be told before a set is accounted. `task` is the
    /// thread that sets.
    #[inline(always)]
    pub fn own_slot<B: Books>(&mut self, books: &mut B, slot: u64, owner: Owner, task: Task) {
        let slot = slot as usize;
        if slot < MAX_SLOTS && self.slot_owners[masked(slot)] != owner {
            self.credit_slot(books, masked(slot));
            self.slot_owners[masked(slot)] = owner;
            self.bank_dirty = NO_BANK;
        }
        if self.window_owner != owner {
            self.credit_window(books);
            self.window_owner = owner;
        }
        self.window_task = task;
        self.returning = NO_TASK;
        self.dropping = 0;
    }

    /// From now on exits, and returns to the VMM, are this owner's, whose thread is `task`.
    #[inline(always)]
    pub fn own_exits<B: Books>(&mut self, books: &mut B, owner: Owner, task: Task) {
        if self.exit_owner != owner {
            self.credit_exits(books);
            self.exit_owner = owner;
            self.bank_dirty = NO_BANK;
        }
        self.exit_task = task;
    }

    /// The owner of exits makes its first one here since it became that.
    ///
    /// Values that were in the hardware before anything was seen here become its own: KVM had loaded its values on the way to
    /// this exit. Where sets that write nothing leave no trace ([`Watched::Writes`]) the same is concluded at every change.
    #[inline(always)]
    pub fn own_unset_slots<B: Books>(&mut self, books: &mut B, slots: u64, watched: Watched) {
        let owner = self.exit_owner;
        let all = watched == Watched::Writes && self.known != 0;
        if all && self.window_owner != owner {
            self.settle_exits(slots);
        }
        for slot in 0..MAX_SLOTS {
            if slot as u64 >= slots {
                break;
            }
            let before = self.slot_owners[slot];
            if before != owner && (all || before == NOBODY) {
                self.credit_slot(books, slot);
                self.slot_owners[slot] = owner;
                self.bank_dirty = NO_BANK;
            }
        }
        if self.window_owner != owner && (all || self.window_owner == NOBODY) {
            self.credit_window(books);
            self.window_owner = owner;
            self.window_task = self.exit_task;
        }
    }

    /// A `KVM_RUN` of `task` comes back here, on its way to user mode. Whether [`Self::found_registered`] has to be told what the
    /// kernel's structure says: no window is open, as far as was seen.
    ///
    /// What it left in the hardware must be gone when it comes back the next time: it was in user mode in between, and each load
    /// sets MSRs. If neither a set nor a close came, they were not heard of.
    #[inline(always)]
    pub fn note_return(&mut self, task: Task) -> bool {
        let made_exits = self.exits != self.exits_at_return;
        if self.returning == task && self.dirty != 0 && made_exits {
            self.missed_closes += 1;
        }
        self.returning = task;
        self.exits_at_return = self.exits;
        self.known != 0 && self.registered == 0
    }

    /// At a return: what the kernel says of whether a window is open, of which no set told.
    #[inline(always)]
    pub fn found_registered(&mut self, registered: bool) {
        self.missed_closes += u64::from(registered);
    }

    /// The cause of a close that happens now, while `current` runs.
    #[inline(always)]
    pub fn cause_of_close(&self, current: Task, cpu: u64) -> CauseKey {
        let its_own = current == self.window_task || (self.window_owner == NOBODY && self.returning == current);
        let (kind, code) = if self.dropping != 0 {
            (DROP, 0)
        } else if its_own && self.returning == current {
            ((self.returning_with >> 32) as u32, self.returning_with as u32)
        } else if its_own {
            (OTHER_CALL, 0)
        } else if self.window_owner == NOBODY {
            (UNKNOWN, 0)
        } else {
            (FOREIGN, 0)
        };
        CauseKey { owner: self.window_owner, payer: current >> 32, cpu, kind, code }
    }

    /// The cause of a close that left no trace of its own.
    #[inline(always)]
    pub fn unknown_cause(&self, cpu: u64) -> CauseKey {
        CauseKey { owner: self.window_owner, payer: 0, cpu, kind: UNKNOWN, code: 0 }
    }

    /// The close that is accounted next has this cause. `command` names the thread that pays, and is asked for only if it
    /// matters.
    #[inline(always)]
    pub fn blame<B: Books>(&mut self, books: &mut B, cause: CauseKey, command: impl FnOnce() -> [u8; COMMAND_BYTES]) {
        if self.cause != cause {
            if self.windows.closed != self.credited_causes.closed {
                self.credit_cause(books);
            }
            self.cause = cause;
            self.cause_command = command();
        }
    }

    /// Credits all that is left. For user space at the end, on a copy.
    pub fn credit_all<B: Books>(&mut self, books: &mut B) {
        for slot in 0..MAX_SLOTS {
            self.credit_slot(books, slot);
        }
        self.credit_window(books);
        self.credit_exits(books);
        self.credit_cause(books);
    }
}
