//! Exits by reason.

use crate::{owner::Owner, tally::add_all};

/// Exit reasons up to here are counted each in a place of its own: all of VMX (up to 85 in 7.3), and SVM's of hardware
/// (up to 0xa6).
const LOW_REASONS: usize = 0xc0;
/// SVM's others begin here (nested page fault and later, up to 0x403).
const HIGH_REASONS_START: usize = 0x400;
/// How many of these are counted each in a place of its own.
const HIGH_REASONS: usize = 0x40;
/// Places for single reasons; a power of two, so that the verifier can follow a masked place.
pub const COMMON_REASONS: usize = LOW_REASONS + HIGH_REASONS;

/// No place: the exit's reason is rare, or there was no exit.
pub const NOWHERE: u64 = u64::MAX;

/// How many different rare reasons are told apart.
pub const RARE_REASONS: usize = 8;

/// A reason without a place of its own: failed entries, PVM.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RareReason {
    /// The reason, all 32 bits of it.
    pub reason: u64,
    /// Its exits; 0 in a place that is free.
    pub exits: u64,
}

/// Exits by reason.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReasonCounters {
    /// By place, see [`reason_at`].
    pub common: [u64; COMMON_REASONS],
    /// Of these, by the same place, those after which the vCPU went back to its VMM, as far as that can be told.
    pub returned: [u64; COMMON_REASONS],
    /// By reason, in the order in which they came.
    pub rare: [RareReason; RARE_REASONS],
    /// Exits with yet another rare reason.
    pub unlisted: u64,
    /// Exits whose reason could not be read.
    pub unread: u64,
}

/// The reason that is counted at a place.
pub const fn reason_at(place: usize) -> u32 {
    if place < LOW_REASONS { place as u32 } else { (place - LOW_REASONS + HIGH_REASONS_START) as u32 }
}

/// Where a reason is counted; none for a rare one.
#[inline(always)]
const fn place_of(reason: u32) -> Option<usize> {
    let reason = reason as usize;
    if reason < LOW_REASONS {
        return Some(reason);
    }
    if reason >= HIGH_REASONS_START && reason < HIGH_REASONS_START + HIGH_REASONS {
        return Some(reason - HIGH_REASONS_START + LOW_REASONS);
    }
    None
}

/// Whether a reason is counted in a place of its own, so that its returns to the VMM are counted, too.
pub const fn has_place(reason: u32) -> bool {
    place_of(reason).is_some()
}

impl ReasonCounters {
    /// Nothing counted yet.
    pub const EMPTY: Self = Self {
        common: [0; COMMON_REASONS],
        returned: [0; COMMON_REASONS],
        rare: [RareReason { reason: 0, exits: 0 }; RARE_REASONS],
        unlisted: 0,
        unread: 0,
    };

    /// Counts one exit. Gives what [`Self::count_return`] asks for, [`NOWHERE`] for a rare reason.
    #[inline(always)]
    pub fn count(&mut self, reason: u32) -> u64 {
        if let Some(place) = place_of(reason) {
            // Hidden from the compiler, which would take the mask away again.
            let place = core::hint::black_box(place) & (COMMON_REASONS - 1);
            self.common[place] += 1;
            return place as u64;
        }
        for rare in &mut self.rare {
            if rare.exits == 0 {
                rare.reason = u64::from(reason);
            }
            if rare.reason == u64::from(reason) {
                rare.exits += 1;
                return NOWHERE;
            }
        }
        self.unlisted += 1;
        NOWHERE
    }

    /// Counts that an exit ended in user space.
    #[inline(always)]
    pub fn count_return(&mut self, place: u64) {
        self.returned[core::hint::black_box(place as usize) & (COMMON_REASONS - 1)] += 1;
    }

    /// Adds another one. A rare reason that finds no place any more is still counted.
    pub fn add(&mut self, other: &Self) {
        add_all(&mut self.common, &other.common);
        add_all(&mut self.returned, &other.returned);
        for rare in other.rare.iter().filter(|rare| rare.exits != 0) {
            match self.rare.iter_mut().find(|place| place.exits == 0 || place.reason == rare.reason) {
                Some(place) => (place.reason, place.exits) = (rare.reason, place.exits + rare.exits),
                None => self.unlisted += rare.exits,
            }
        }
        self.unlisted += other.unlisted;
        self.unread += other.unread;
    }

    /// All exits, whatever is known of their reason.
    pub fn total(&self) -> u64 {
        let common: u64 = self.common.iter().sum();
        let rare: u64 = self.rare.iter().map(|rare| rare.exits).sum();
        common + rare + self.unlisted + self.unread
    }
}

/// In [`BankKey::dirty`]: no event was seen on that CPU yet, so the dirty slots are those that it had at the start.
pub const AS_AT_START: u64 = u64::MAX;

/// In [`crate::CpuState::bank_dirty`]: no bank is chosen.
pub const NO_BANK: u64 = u64::MAX - 1;

/// Which exits are counted together by reason: those of one vCPU while the same slots were dirty, with the same owners.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BankKey {
    /// Who made the exits.
    pub owner: Owner,
    /// Owner of the slots in `others`; [`crate::owner::NOBODY`] where they have several.
    pub other: Owner,
    /// The CPU; [`crate::owner::EVERY_CPU`] where CPUs are not told apart, unless `dirty` is [`AS_AT_START`].
    pub cpu: u64,
    /// Bit per dirty slot, or [`AS_AT_START`].
    pub dirty: u64,
    /// Bit per dirty slot whose value is of another owner than `owner`.
    pub others: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rare_reason_has_a_place_of_its_own_and_one_too_many_is_still_counted() {
        let mut counters = ReasonCounters::EMPTY;
        let place = counters.count(10);
        counters.count_return(place);
        assert_eq!(counters.returned[10], 1);
        assert_eq!(counters.count(0x8000_0021), NOWHERE);
        counters.count(0x8000_0021);
        for reason in 0..RARE_REASONS as u32 {
            counters.count(0xf000_0000 + reason);
        }
        assert_eq!(counters.common[10], 1);
        assert_eq!(counters.rare[0], RareReason { reason: 0x8000_0021, exits: 2 });
        assert_eq!(counters.unlisted, 1);
        assert_eq!(counters.total(), 3 + RARE_REASONS as u64);
    }

    #[test]
    fn rare_reasons_are_added_by_what_they_are_not_by_where_they_stand() {
        let (mut left, mut right) = (ReasonCounters::EMPTY, ReasonCounters::EMPTY);
        left.count(0x8000_0021);
        right.count(0x8000_0022);
        right.count(0x8000_0021);
        left.add(&right);
        assert_eq!(left.rare[0], RareReason { reason: 0x8000_0021, exits: 2 });
        assert_eq!(left.rare[1], RareReason { reason: 0x8000_0022, exits: 1 });
        assert_eq!(left.total(), 3);
    }

    #[test]
    fn every_common_reason_is_found_at_its_place() {
        for place in 0..COMMON_REASONS {
            assert_eq!(place_of(reason_at(place)), Some(place));
        }
        assert_eq!((place_of(0x400), place_of(0x403)), (Some(0xc0), Some(0xc3)));
        for rare in [0xc0, 0x3ff, 0x440, 1 << 16, u32::MAX] {
            assert_eq!(place_of(rare), None);
        }
    }
}
