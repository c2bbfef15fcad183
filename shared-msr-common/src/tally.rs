//! What is counted for one owner of MSR values, and the buckets of its distributions.

use crate::MAX_SLOTS;

/// Buckets of [`WindowTally::exits_per_window`]. All numbers of buckets are powers of two, so that the verifier can follow a
/// masked one.
pub const EXITS_BUCKETS: usize = 32;
/// Buckets of [`WindowTally::age`]; the last begins at 2^62 ns, which is never.
pub const AGE_BUCKETS: usize = 64;
/// Buckets of [`WindowTally::restore_cost`]; the last begins at 2^30 ns, about 1 s.
pub const COST_BUCKETS: usize = 32;

/// The bucket of a number: 0 for 0, else `b` for 2^(b-1) up to 2^b - 1; the last one takes all that is larger.
#[inline(always)]
pub const fn bucket(number: u64, buckets: usize) -> usize {
    // Without a branch: the verifier follows each, and these would multiply.
    let bucket = (u64::BITS - number.leading_zeros()) as usize;
    if bucket < buckets { bucket } else { buckets - 1 }
}

/// Whether a number below 2^63 surely is of this bucket. Not said of 0, nor of all numbers of a last bucket.
#[inline(always)]
pub const fn is_of_bucket(number: u64, bucket: u64) -> bool {
    number >> (bucket.wrapping_sub(1) & 63) == 1
}

/// The smallest number of a bucket.
pub const fn bucket_start(bucket: usize) -> u64 {
    if bucket == 0 { 0 } else { 1 << (bucket - 1) }
}

/// What is credited per slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotTally {
    /// Sets that wrote the MSR.
    pub written: u64,
    /// Sets that found the value in hardware already.
    pub skipped: u64,
    /// Sets whose WRMSR faulted.
    pub failed: u64,
    /// Exits that happened while the slot was dirty.
    pub deferred: u64,
    /// Host values written back when a window closed.
    pub performed: u64,
}

impl SlotTally {
    /// Nothing counted yet.
    pub const EMPTY: Self = Self { written: 0, skipped: 0, failed: 0, deferred: 0, performed: 0 };

    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.written += other.written;
        self.skipped += other.skipped;
        self.failed += other.failed;
        self.deferred += other.deferred;
        self.performed += other.performed;
    }
}

/// What is credited per window. Only 64-bit counters, so that it can be walked as words.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowTally {
    /// Windows opened.
    pub opened: u64,
    /// Windows closed.
    pub closed: u64,
    /// Windows that closed without a dirty slot.
    pub clean: u64,
    /// Windows closed of which it was not seen when they opened: they are in no distribution.
    pub unmeasured: u64,
    /// Windows by how many exits happened in them, see [`bucket`].
    pub exits_per_window: [u64; EXITS_BUCKETS],
    /// Windows by how long they were open, in nanoseconds.
    pub age: [u64; AGE_BUCKETS],
    /// Closes by nanoseconds per restored slot, from entry to return of `kvm_on_user_return`; only with timing.
    pub restore_cost: [u64; COST_BUCKETS],
    /// Nanoseconds of all closes in `restore_cost`.
    pub restore_ns: u64,
    /// Restored slots of all closes in `restore_cost`.
    pub restores_timed: u64,
}

/// How many counters a [`WindowTally`] has.
pub const WINDOW_WORDS: usize = size_of::<WindowTally>() / 8;

impl WindowTally {
    /// Nothing counted yet.
    pub const EMPTY: Self = Self {
        opened: 0,
        closed: 0,
        clean: 0,
        unmeasured: 0,
        exits_per_window: [0; EXITS_BUCKETS],
        age: [0; AGE_BUCKETS],
        restore_cost: [0; COST_BUCKETS],
        restore_ns: 0,
        restores_timed: 0,
    };

    /// All counters.
    #[inline(always)]
    pub fn words(&self) -> &[u64; WINDOW_WORDS] {
        // SAFETY: `repr(C)` of nothing but u64, of exactly this size.
        unsafe { &*(&raw const *self).cast() }
    }

    /// All counters.
    #[inline(always)]
    pub fn words_mut(&mut self) -> &mut [u64; WINDOW_WORDS] {
        // SAFETY: as above; every bit pattern is a value.
        unsafe { &mut *(&raw mut *self).cast() }
    }
}

/// All that is credited to one owner.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Per slot.
    pub slots: [SlotTally; MAX_SLOTS],
    /// Per window.
    pub windows: WindowTally,
    /// `kvm_exit` events.
    pub exits: u64,
    /// `kvm_userspace_exit` events.
    pub userspace_exits: u64,
}

impl Tally {
    /// Nothing counted yet.
    pub const EMPTY: Self =
        Self { slots: [SlotTally::EMPTY; MAX_SLOTS], windows: WindowTally::EMPTY, exits: 0, userspace_exits: 0 };

    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        for (sum, slot) in self.slots.iter_mut().zip(&other.slots) {
            sum.add(slot);
        }
        add_all(self.windows.words_mut(), other.windows.words());
        self.exits += other.exits;
        self.userspace_exits += other.userspace_exits;
    }

    /// All slots together.
    pub fn all_slots(&self) -> SlotTally {
        let mut sum = SlotTally::EMPTY;
        self.slots.iter().for_each(|slot| sum.add(slot));
        sum
    }
}

/// Adds counter by counter.
pub(crate) fn add_all(sums: &mut [u64], counters: &[u64]) {
    sums.iter_mut().zip(counters).for_each(|(sum, counter)| *sum += counter);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_powers_of_two_and_the_last_one_is_open() {
        for (number, expected) in [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (1 << 30, 31), (u64::MAX, 31)] {
            assert_eq!(bucket(number, EXITS_BUCKETS), expected, "{number}");
        }
        assert_eq!(bucket((1 << 62) - 1, AGE_BUCKETS), 62);
        assert_eq!(bucket(1 << 62, AGE_BUCKETS), 63);
        assert_eq!(bucket(u64::MAX, AGE_BUCKETS), 63);
        for buckets in [EXITS_BUCKETS, AGE_BUCKETS, COST_BUCKETS] {
            assert!(buckets.is_power_of_two());
        }
    }

    #[test]
    fn a_number_is_said_to_be_of_a_bucket_only_where_it_is() {
        for number in (0..300).chain((8..63).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1])) {
            for candidate in 0..AGE_BUCKETS as u64 {
                let is = bucket(number, AGE_BUCKETS) as u64 == candidate;
                assert!(is || !is_of_bucket(number, candidate), "{number} in {candidate}");
            }
        }
        assert!(is_of_bucket(1, 1) && is_of_bucket(3, 2) && is_of_bucket(200, 8));
    }

    #[test]
    fn a_bucket_begins_where_the_one_before_ends() {
        for at in 1..AGE_BUCKETS {
            let start = bucket_start(at);
            assert_eq!((bucket(start, AGE_BUCKETS), bucket(start - 1, AGE_BUCKETS)), (at, at - 1));
        }
    }

    #[test]
    fn the_words_of_a_tally_are_its_counters_in_order() {
        let mut tally = WindowTally { opened: 1, restores_timed: 9, ..WindowTally::EMPTY };
        tally.words_mut()[3] = 7;
        assert_eq!((tally.words()[0], tally.unmeasured, tally.words()[WINDOW_WORDS - 1]), (1, 7, 9));
    }
}
