//! What a CPU knows: follows the kernel's per-CPU structure from event to event.
//!
//! At the entry of every set and close the structure is read anew. Between two events nothing can change it, so the
//! dirty slots found there are those of the whole time since the event before: exits are settled against them, a write
//! that failed shows itself, and so does an event that we missed.

use core::{
    ffi::c_void,
    ptr::{addr_of_mut, write_volatile},
};

use aya_ebpf::{Global, helpers::generated::bpf_probe_read_kernel, macros::map, maps::PerCpuArray, programs::ProbeContext};
use aya_log_ebpf::{info, warn};
use shared_msr_common::{CpuState, MAX_SLOTS, STRUCTURE_BYTES};

/// One value per CPU.
#[map]
pub(crate) static CPU_STATE: PerCpuArray<CpuState> = PerCpuArray::with_max_entries(1, 0);

/// How many slots KVM has on this host. All globals are given by user space before the programs are loaded.
#[unsafe(no_mangle)]
static SLOTS: Global<u64> = Global::new(0);
/// Offset of `registered` in the kernel's structure, in bytes.
#[unsafe(no_mangle)]
static REGISTERED_OFFSET: Global<u64> = Global::new(0);
/// Offset of `values`, in bytes, a multiple of 8. An element is `{ u64 host; u64 curr; }`: user space checked that.
#[unsafe(no_mangle)]
static VALUES_OFFSET: Global<u64> = Global::new(0);

const WORDS: usize = STRUCTURE_BYTES / 8;

/// This CPU's state, marked as being changed; none when nothing is being measured.
#[inline(always)]
pub(crate) fn begin() -> Option<&'static mut CpuState> {
    let state = CPU_STATE.get_ptr_mut(0)?;
    // SAFETY: the map's own memory. KVM calls the probed functions with preemption off, and user space only reads
    // while `running` is set, so this is the only writer but for the exit hook, which cannot interrupt it.
    let state = unsafe { &mut *state };
    if state.running == 0 {
        return None;
    }
    // SAFETY: a field of the state. Volatile, because user space watches the order of the writes.
    unsafe { write_volatile(addr_of_mut!(state.begun), state.begun + 1) };
    Some(state)
}

/// Marks the state as whole again.
#[inline(always)]
pub(crate) fn finish(state: &mut CpuState) {
    // SAFETY: as in `begin`.
    unsafe { write_volatile(addr_of_mut!(state.accounted), state.accounted + 1) };
}

/// Accounts a set of `slot`.
#[inline(always)]
pub(crate) fn set(context: &ProbeContext, state: &mut CpuState, slot: u64, value: u64, mask: u64) {
    if !observe(context, state) {
        return;
    }
    if slot >= SLOTS.load() || slot >= MAX_SLOTS as u64 {
        state.implausible += 1;
        warn!(context, "set of slot {}, of which KVM did not tell", slot);
        return;
    }
    let (host, curr) = value_of(state, slot);
    // Since 5.5 (de1fca5d6e01, "do not modify masked bits of shared MSRs").
    let wanted = (value & mask) | (host & !mask);
    let counters = &mut state.slots[slot as usize];
    if wanted == curr {
        counters.skipped += 1;
        return;
    }
    counters.written += 1;
    state.pending = 1;
    state.pending_slot = slot;
    state.pending_value = wanted;
    state.registered_before = state.registered;
    state.dirty_before = state.dirty;
    let bit = 1 << slot;
    if wanted == host {
        counters.made_clean += 1;
        state.dirty &= !bit;
    } else if curr == host {
        counters.made_dirty += 1;
        state.dirty |= bit;
    }
    if state.registered == 0 {
        state.registered = 1;
        state.windows_opened += 1;
    }
}

/// Accounts a close of the window whose structure is at `structure`.
#[inline(always)]
pub(crate) fn close(context: &ProbeContext, state: &mut CpuState, structure: u64) {
    if state.structure_address != structure {
        // KVM was loaded anew, or user space was told another address: the kernel's own argument is right.
        info!(context, "structure at {:x}, not at {:x}", structure, state.structure_address);
        state.structure_address = structure;
    }
    if !observe(context, state) {
        return;
    }
    if state.registered == 0 {
        state.implausible += 1;
        warn!(context, "close without a window");
        return;
    }
    let slots = SLOTS.load();
    let dirty = state.dirty;
    for slot in 0..MAX_SLOTS {
        if slot as u64 >= slots {
            break;
        }
        state.slots[slot].performed += (dirty >> slot) & 1;
    }
    if dirty == 0 {
        state.clean_closes += 1;
    }
    state.windows_closed += 1;
    state.registered = 0;
    state.dirty = 0;
}

/// Reads the structure, settles the exits since the event before, and the outcome of the write before. False when the
/// structure could not be had; the loss is counted.
#[inline(always)]
fn observe(context: &ProbeContext, state: &mut CpuState) -> bool {
    let slots = SLOTS.load();
    let length = VALUES_OFFSET.load() + slots * 16;
    if slots > MAX_SLOTS as u64 || length > STRUCTURE_BYTES as u64 {
        state.implausible += 1;
        return false;
    }
    let target = addr_of_mut!(state.structure).cast::<c_void>();
    // SAFETY: `length` bytes fit into `structure`; the helper checks the source.
    let result = unsafe { bpf_probe_read_kernel(target, length as u32, state.structure_address as *const c_void) };
    if result != 0 {
        state.unreadable += 1;
        warn!(context, "structure at {:x} cannot be read: {}", state.structure_address, result);
        return false;
    }
    let offset = REGISTERED_OFFSET.load();
    let word = (offset / 8) as usize;
    if word >= WORDS {
        state.implausible += 1;
        return false;
    }
    let registered = (state.structure[word] >> ((offset % 8) * 8)) & 0xff;
    if registered > 1 {
        state.implausible += 1;
        warn!(context, "structure at {:x} is implausible: registered is {}", state.structure_address, registered);
        return false;
    }
    let mut dirty = 0;
    for slot in 0..MAX_SLOTS as u64 {
        if slot >= slots {
            break;
        }
        let (host, curr) = value_of(state, slot);
        if host != curr {
            dirty |= 1 << slot;
        }
    }
    if state.known == 0 {
        state.known = 1;
        state.registered_at_start = registered;
        state.dirty_at_start = dirty;
        info!(context, "first event here: registered {}, dirty set {:x}", registered, dirty);
    } else {
        settle_pending(context, state);
        if state.registered != registered || state.dirty != dirty {
            state.unseen_changes += 1;
            info!(context, "dirty set re-read: {:x}, was {:x}", dirty, state.dirty);
        }
    }
    state.registered = registered;
    state.dirty = dirty;
    let exits = state.exits - state.settled_exits;
    state.settled_exits = state.exits;
    for slot in 0..MAX_SLOTS {
        if slot as u64 >= slots {
            break;
        }
        if (dirty >> slot) & 1 != 0 {
            state.slots[slot].deferred += exits;
        }
    }
    true
}

/// A write is counted at the entry of the setter. When `curr` did not take the value, the WRMSR faulted (since 5.5 the
/// setter then leaves everything as it was): it is counted as failed instead, and opened nothing.
#[inline(always)]
fn settle_pending(context: &ProbeContext, state: &mut CpuState) {
    if state.pending == 0 {
        return;
    }
    state.pending = 0;
    let slot = state.pending_slot;
    if slot >= MAX_SLOTS as u64 || value_of(state, slot).1 == state.pending_value {
        return;
    }
    let bit = 1 << slot;
    let (before, after) = (state.dirty_before & bit, state.dirty & bit);
    let counters = &mut state.slots[slot as usize];
    counters.written -= 1;
    counters.failed += 1;
    if before < after {
        counters.made_dirty -= 1;
    } else if before > after {
        counters.made_clean -= 1;
    }
    state.windows_opened -= state.registered - state.registered_before;
    state.registered = state.registered_before;
    state.dirty = state.dirty_before;
    warn!(context, "write of slot {} failed", slot);
}

/// Host's and current value of `slot` in the structure as last read; zeros beyond its end.
#[inline(always)]
fn value_of(state: &CpuState, slot: u64) -> (u64, u64) {
    let word = (VALUES_OFFSET.load() / 8 + slot * 2) as usize;
    if word + 1 >= WORDS {
        return (0, 0);
    }
    (state.structure[word], state.structure[word + 1])
}
