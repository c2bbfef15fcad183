//! What the kernel side and the user side of shared-msr share: the value of the per-CPU map, constants, and the
//! arithmetic that both do on that value.
//!
//! Every type here has the same layout on both sides (`repr(C)`, only 64-bit fields, no padding).

#![no_std]

pub mod accounting;

/// The most slots KVM has: `KVM_MAX_NR_USER_RETURN_MSRS` (arch/x86/kvm/x86.c since 5.10; `KVM_NR_SHARED_MSRS` before).
pub const MAX_SLOTS: usize = 16;

/// How many bytes of the kernel's per-CPU structure the programs copy, at most. The structure
/// (`struct kvm_user_return_msrs`, before 5.10 `struct kvm_shared_msrs`) has 288 bytes in Linux 4.4 to 7.3; the rest
/// leaves room for a longer header.
pub const STRUCTURE_BYTES: usize = 320;

/// How many bytes one run of the peek program copies.
pub const PEEK_BYTES: usize = 512;

/// What one CPU counts for one slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotCounters {
    /// Sets that wrote the MSR.
    pub written: u64,
    /// Sets that found the value in hardware already.
    pub skipped: u64,
    /// Sets whose WRMSR faulted.
    pub failed: u64,
    /// Exits that happened while the slot was dirty, up to the last event that was accounted on this CPU.
    pub deferred: u64,
    /// Host values written back when a window closed.
    pub performed: u64,
    /// Writes that made a clean slot dirty.
    pub made_dirty: u64,
    /// Writes that made a dirty slot clean, because the guest's new value is the host's.
    pub made_clean: u64,
    /// WRMSRs that the check saw (the tracepoint `msr:write_msr`), without those below.
    pub wrmsrs: u64,
    /// WRMSRs that the check saw fault.
    pub wrmsrs_failed: u64,
    /// WRMSRs that the check saw before any set or close was accounted on this CPU: those of an event that had begun
    /// before counting did; all of them where only WRMSRs are counted.
    pub wrmsrs_unpaired: u64,
    /// WRMSRs that the check saw write what was in the hardware already. Neither the setter nor a close does that; KVM up to
    /// 5.12 tries its MSRs so when a vCPU is created, and the kernel when a CPU comes online.
    pub wrmsrs_unchanged: u64,
}

impl SlotCounters {
    /// Nothing counted yet.
    pub const EMPTY: Self = Self {
        written: 0,
        skipped: 0,
        failed: 0,
        deferred: 0,
        performed: 0,
        made_dirty: 0,
        made_clean: 0,
        wrmsrs: 0,
        wrmsrs_failed: 0,
        wrmsrs_unpaired: 0,
        wrmsrs_unchanged: 0,
    };
}

/// What one CPU knows and counts: the single value of the per-CPU map.
///
/// User space reads it while the programs run. A copy is whole when [`Self::accounted`], its first field, equals
/// [`Self::begun`], which stands behind all counters: the kernel copies upwards, a program writes `begun` before and
/// `accounted` after everything else. `exits` and `userspace_exits` move on their own; each is right by itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuState {
    /// Sets and closes that are fully accounted below.
    pub accounted: u64,
    /// Where the kernel keeps this CPU's structure. Given by user space, renewed from the argument of a close.
    pub structure_address: u64,
    /// Not 0 once a set or close was seen: the fields below then follow the kernel's structure.
    pub known: u64,
    /// At the first event: 1 when a window was open already.
    pub registered_at_start: u64,
    /// At the first event: bit per dirty slot.
    pub dirty_at_start: u64,
    /// 1 while a window is open, as the last accounted event left it.
    pub registered: u64,
    /// Bit per dirty slot, as the last accounted event left it.
    pub dirty: u64,
    /// `exits` when deferrals were last settled.
    pub settled_exits: u64,
    /// Windows opened.
    pub windows_opened: u64,
    /// Windows closed.
    pub windows_closed: u64,
    /// Windows that closed without a dirty slot.
    pub clean_closes: u64,
    /// The last write, whose outcome shows only at the next event: 1 while it stands open.
    pub pending: u64,
    /// Slot of the pending write.
    pub pending_slot: u64,
    /// Value that the pending write leaves in `curr`, unless it fails.
    pub pending_value: u64,
    /// `registered` before the pending write.
    pub registered_before: u64,
    /// `dirty` before the pending write.
    pub dirty_before: u64,
    /// Bit per slot whose WRMSR was accounted, but not yet seen by the check.
    pub expected: u64,
    /// The structure changed between two events without an event that we saw.
    pub unseen_changes: u64,
    /// Events at which the structure could not be read.
    pub unreadable: u64,
    /// Events at which the structure or the slot number made no sense.
    pub implausible: u64,
    /// Per slot.
    pub slots: [SlotCounters; MAX_SLOTS],
    /// The kernel's structure as it was at entry of the last event.
    pub structure: [u64; STRUCTURE_BYTES / 8],
    /// `kvm_exit` events. With `running` the only fields that the hot path touches: they share a cache line.
    pub exits: u64,
    /// `kvm_userspace_exit` events.
    pub userspace_exits: u64,
    /// Sets and closes begun.
    pub begun: u64,
    /// 1 while measuring, else 0. The last field, so that user space switches it on after all others are in place.
    pub running: u64,
}

impl CpuState {
    /// Nothing counted yet.
    pub const EMPTY: Self = Self {
        accounted: 0,
        structure_address: 0,
        known: 0,
        registered_at_start: 0,
        dirty_at_start: 0,
        registered: 0,
        dirty: 0,
        settled_exits: 0,
        windows_opened: 0,
        windows_closed: 0,
        clean_closes: 0,
        pending: 0,
        pending_slot: 0,
        pending_value: 0,
        registered_before: 0,
        dirty_before: 0,
        expected: 0,
        unseen_changes: 0,
        unreadable: 0,
        implausible: 0,
        slots: [SlotCounters::EMPTY; MAX_SLOTS],
        structure: [0; STRUCTURE_BYTES / 8],
        exits: 0,
        userspace_exits: 0,
        begun: 0,
        running: 0,
    };
}

/// Exit reasons that are counted each in a place of its own: all of VMX (up to 85 in 7.3) and SVM (up to 0x403). Others are
/// rare: failed entries, mostly.
pub const COMMON_REASONS: usize = 0x404;

/// How many different rare reasons are told apart.
pub const RARE_REASONS: usize = 8;

/// A reason beyond [`COMMON_REASONS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RareReason {
    /// The reason, all 32 bits of it.
    pub reason: u64,
    /// Its exits; 0 in a place that is free.
    pub exits: u64,
}

/// One CPU's exits by reason.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReasonCounters {
    /// By reason.
    pub common: [u64; COMMON_REASONS],
    /// By reason, in the order in which they came.
    pub rare: [RareReason; RARE_REASONS],
    /// Exits with yet another rare reason.
    pub unlisted: u64,
    /// Exits whose reason could not be read.
    pub unread: u64,
}

impl ReasonCounters {
    /// Nothing counted yet.
    pub const EMPTY: Self =
        Self { common: [0; COMMON_REASONS], rare: [RareReason { reason: 0, exits: 0 }; RARE_REASONS], unlisted: 0, unread: 0 };

    /// Counts one exit.
    #[inline(always)]
    pub fn count(&mut self, reason: u32) {
        if let Some(exits) = self.common.get_mut(reason as usize) {
            *exits += 1;
            return;
        }
        for rare in &mut self.rare {
            if rare.exits == 0 {
                rare.reason = u64::from(reason);
            }
            if rare.reason == u64::from(reason) {
                rare.exits += 1;
                return;
            }
        }
        self.unlisted += 1;
    }

    /// All exits, whatever is known of their reason.
    pub fn total(&self) -> u64 {
        let common: u64 = self.common.iter().sum();
        let rare: u64 = self.rare.iter().map(|rare| rare.exits).sum();
        common + rare + self.unlisted + self.unread
    }
}

/// What the peek program copied.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PeekBuffer {
    /// The bytes, from the address that was asked for.
    pub bytes: [u8; PEEK_BYTES],
}

#[cfg(feature = "user")]
mod user {
    // SAFETY: `repr(C)`, only integers, no padding: every bit pattern is a value.
    unsafe impl aya::Pod for super::CpuState {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::ReasonCounters {}
    // SAFETY: an array of bytes.
    unsafe impl aya::Pod for super::PeekBuffer {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rare_reason_has_a_place_of_its_own_and_one_too_many_is_still_counted() {
        let mut counters = ReasonCounters::EMPTY;
        counters.count(10);
        counters.count(0x8000_0021);
        counters.count(0x8000_0021);
        for reason in 0..RARE_REASONS as u32 {
            counters.count(0xf000_0000 + reason);
        }
        assert_eq!(counters.common[10], 1);
        assert_eq!(counters.rare[0], RareReason { reason: 0x8000_0021, exits: 2 });
        assert_eq!(counters.unlisted, 1);
        assert_eq!(counters.total(), 3 + RARE_REASONS as u64);
    }
}
