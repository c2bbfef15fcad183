//! What one CPU knows and counts.

use crate::{
    MAX_SLOTS, STRUCTURE_BYTES,
    cause::{CauseKey, CauseTally},
    owner::{COMMAND_BYTES, Owner, Task},
    reasons::{NO_BANK, NOWHERE},
    tally::{Tally, WindowTally},
};

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
    /// Sets, closes and changes of owner that are fully accounted below.
    pub accounted: u64,
    /// Where this CPU's structure was, at the last close that found it elsewhere than it was expected.
    pub structure_address: u64,
    /// What is added to a per-CPU variable's address to get this CPU's copy of it. Given by user space.
    pub per_cpu_offset: u64,
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
    /// Times that a `KVM_RUN` came back without a close of the window that it, or the one before, must have had.
    pub missed_closes: u64,
    /// Per slot.
    pub slots: [SlotCounters; MAX_SLOTS],
    /// Per window.
    pub windows: WindowTally,
    /// The kernel's structure as it was at entry of the last event.
    pub structure: [u64; STRUCTURE_BYTES / 8],

    /// Whose value is, or was last, in each slot.
    pub slot_owners: [Owner; MAX_SLOTS],
    /// Who set a slot last, and so has the window.
    pub window_owner: Owner,
    /// The thread that did.
    pub window_task: Task,
    /// What of the counters above was credited to owners already. The rest belongs to the present ones.
    pub credited: Tally,
    /// How often something was credited to an owner's row.
    pub credits: u64,
    /// Counts for which no row could be had, not even nobody's.
    pub uncredited: u64,
    /// How often a vCPU could not be kept, because the map of vCPUs or of threads was full.
    pub vcpus_refused: u64,
    /// How many owners were first met on this CPU; with the CPU it makes their numbers.
    pub owners_met: u64,
    /// When the open window opened, in nanoseconds of the monotonic clock; 0 where that was not seen.
    pub opened_at: u64,
    /// `exits` at that moment.
    pub exits_at_open: u64,
    /// The thread whose `KVM_RUN` returned last on this CPU, if no set came after it.
    pub returning: Task,
    /// `exits` at that moment.
    pub exits_at_return: u64,
    /// What it returned with: one of the kinds in [`crate::cause`], above its code.
    pub returning_with: u64,
    /// 1 from where KVM gives this CPU up until the next set.
    pub dropping: u64,
    /// Why the last window closed.
    pub cause: CauseKey,
    /// Name of the thread that paid for it.
    pub cause_command: [u8; COMMAND_BYTES],
    /// What of the closes was credited to causes already. The rest belongs to `cause`.
    pub credited_causes: CauseTally,
    /// When the close that is running began, in nanoseconds; only with timing.
    pub restoring_since: u64,
    /// How many slots it restores.
    pub restoring_slots: u64,

    /// Bucket of the last window's exits. Most windows are like the one before.
    pub exits_bucket: u64,
    /// Bucket of the last window's age.
    pub age_bucket: u64,

    /// Bit per slot of which the check saw a WRMSR.
    pub wrmsrs_seen: u64,
    /// The value of the last one of each slot: it is in the hardware.
    pub wrmsr_values: [u64; MAX_SLOTS],
    /// `exits`, as the check of exits saw it last. This and the two below only with the check.
    pub exits_checked: u64,
    /// Exits that the check saw and that were not counted, though counting was on. One can be at the start.
    pub exits_uncounted: u64,
    /// Exits that were counted and that the check did not see.
    pub exits_unchecked: u64,

    /// Which bank counts exits by reason now, see [`crate::reasons::BankKey`].
    pub bank: u64,
    /// The dirty slots for which `bank` was chosen; [`crate::reasons::NO_BANK`] when it has to be chosen anew.
    pub bank_dirty: u64,
    /// Where in its bank the last exit was counted, if its vCPU did not go back to its VMM since, see
    /// [`crate::ReasonCounters::count`]. This and the two below only with exits by reason.
    pub exit_place: u64,
    /// That bank.
    pub exit_bank: u64,
    /// Address of the vCPU that made that exit; 0 where it is not known.
    pub exit_vcpu: u64,
    /// `kvm_userspace_exit` events.
    pub userspace_exits: u64,
    /// The vCPU that KVM loaded here last, as far as a set or an exit told: who makes the exits now.
    pub exit_owner: Owner,
    /// The thread that runs it.
    pub exit_task: Task,
    /// That vCPU by the address of its structure, plus `loaded_epoch`; 0 when it has to be looked up anew.
    pub loaded: u64,
    /// How many threads had ended, and vCPUs been made, when it was looked up.
    pub loaded_epoch: u64,
    /// 1 once a set told of this vCPU and this thread. KVM sets MSRs each time it loads such a vCPU, so another thread, or another
    /// vCPU, would show itself.
    pub set_seen: u64,
    /// 1 when it made no exit yet since it was looked up.
    pub exit_due: u64,
    /// 1 when its thread runs several vCPUs.
    pub several: u64,
    /// `loaded`, if an exit of that vCPU can be taken for one of `exit_owner` without asking which thread runs; else 0. With `exits`
    /// the only field that the hot path touches.
    pub vcpu: u64,
    /// `kvm_exit` events.
    pub exits: u64,
    /// Sets, closes and changes of owner begun. The last field, so that a whole copy can be told.
    pub begun: u64,
}

impl CpuState {
    /// Nothing counted yet.
    pub const EMPTY: Self = Self {
        accounted: 0,
        structure_address: 0,
        per_cpu_offset: 0,
        known: 0,
        registered_at_start: 0,
        dirty_at_start: 0,
        registered: 0,
        dirty: 0,
        settled_exits: 0,
        pending: 0,
        pending_slot: 0,
        pending_value: 0,
        registered_before: 0,
        dirty_before: 0,
        expected: 0,
        unseen_changes: 0,
        unreadable: 0,
        implausible: 0,
        missed_closes: 0,
        slots: [SlotCounters::EMPTY; MAX_SLOTS],
        windows: WindowTally::EMPTY,
        structure: [0; STRUCTURE_BYTES / 8],
        slot_owners: [0; MAX_SLOTS],
        window_owner: 0,
        window_task: 0,
        credited: Tally::EMPTY,
        credits: 0,
        uncredited: 0,
        vcpus_refused: 0,
        owners_met: 0,
        opened_at: 0,
        exits_at_open: 0,
        returning: 0,
        exits_at_return: 0,
        returning_with: 0,
        dropping: 0,
        cause: CauseKey::NONE,
        cause_command: [0; COMMAND_BYTES],
        credited_causes: CauseTally::EMPTY,
        restoring_since: 0,
        restoring_slots: 0,
        exits_bucket: 0,
        age_bucket: 0,
        wrmsrs_seen: 0,
        wrmsr_values: [0; MAX_SLOTS],
        exits_checked: 0,
        exits_uncounted: 0,
        exits_unchecked: 0,
        bank: 0,
        bank_dirty: NO_BANK,
        exit_place: NOWHERE,
        exit_bank: 0,
        exit_vcpu: 0,
        userspace_exits: 0,
        exit_owner: 0,
        exit_task: 0,
        loaded: 0,
        loaded_epoch: 0,
        set_seen: 0,
        exit_due: 0,
        several: 0,
        vcpu: 0,
        exits: 0,
        begun: 0,
    };
}
