//! The kernel's own record of WRMSRs beside what was accounted.

use crate::{CpuState, MAX_SLOTS};

impl CpuState {
    /// Whether a WRMSR of `slot` was accounted, but not yet seen by the check.
    #[inline(always)]
    pub fn expects(&self, slot: u64) -> bool {
        slot < MAX_SLOTS as u64 && self.expected & (1 << slot) != 0
    }

    /// Whether the last WRMSR of `slot` that the check saw wrote this value, so that it is in the hardware.
    #[inline(always)]
    pub fn wrote_last(&self, slot: u64, value: u64) -> bool {
        slot < MAX_SLOTS as u64 && self.wrmsrs_seen & (1 << slot) != 0 && self.wrmsr_values[slot as usize] == value
    }

    /// Notes a WRMSR that the check saw, whoever did it. `curr` is what was in the hardware before, as KVM's structure has it, if that
    /// can be read.
    #[inline(always)]
    pub fn check(&mut self, slot: u64, value: u64, failed: bool, curr: Option<u64>) {
        if slot >= MAX_SLOTS as u64 {
            return;
        }
        let expected = self.expects(slot);
        let unchanged = curr == Some(value) || self.wrote_last(slot, value);
        if !failed {
            self.wrmsrs_seen |= 1 << slot;
            self.wrmsr_values[slot as usize] = value;
        }
        let counters = &mut self.slots[slot as usize];
        if !expected && unchanged {
            counters.wrmsrs_unchanged += 1;
        } else if !expected && self.known == 0 {
            counters.wrmsrs_unpaired += 1;
        } else if failed {
            counters.wrmsrs_failed += 1;
        } else {
            counters.wrmsrs += 1;
        }
        self.expected &= !(1 << slot);
    }

    /// Notes an exit that the check saw, after it was counted. Whether it is one more of those that were counted.
    #[inline(always)]
    pub fn check_exit(&mut self) -> bool {
        let counted = self.exits - self.exits_checked;
        self.exits_checked = self.exits;
        if counted == 0 {
            self.exits_uncounted += 1;
            return false;
        }
        self.exits_unchecked += counted - 1;
        true
    }
}
