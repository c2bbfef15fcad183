//! The kernel's own record of WRMSRs beside what was accounted.

use crate::{CpuState, MAX_SLOTS};

impl CpuState {
    /// Whether a WRMSR of `slot` was accounted, but not yet seen by the check.
    #[inline(always)]
    pub fn expects(&self, slot: u64) -> bool {
        slot < MAX_SLOTS as u64 && self.expected & (1 << slot) != 0
    }

    /// Notes a WRMSR that the check saw, whoever did it. `curr` is what was in the hardware before, if that is known.
    #[inline(always)]
    pub fn check(&mut self, slot: u64, value: u64, failed: bool, curr: Option<u64>) {
        if slot >= MAX_SLOTS as u64 {
            return;
        }
        let expected = self.expects(slot);
        let counters = &mut self.slots[slot as usize];
        if !expected && curr == Some(value) {
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
}
