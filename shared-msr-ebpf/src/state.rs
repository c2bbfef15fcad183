//! This CPU's state: the map, and the way from an event to the accounting in `shared-msr-common`.

use core::{
    arch::asm,
    ffi::c_void,
    ptr::{addr_of_mut, read_volatile, write_volatile},
};

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_pid_tgid, generated::bpf_probe_read_kernel},
    macros::map,
    maps::PerCpuArray,
};
use aya_log_ebpf::{info, warn};
use shared_msr_common::{
    CpuState,
    accounting::{Observation, SetOutcome, Shape, Watched, WriteOutcome},
    owner::Task,
};

use crate::{
    books::{self, Maps},
    events::{self, now},
    globals::{CLOSER, SLOTS, by_reason, shape, timing, watched},
    live::{self, running},
    memory, owner,
};

/// One value per CPU.
#[map]
pub(crate) static CPU_STATE: PerCpuArray<CpuState> = PerCpuArray::with_max_entries(1, 0);

/// Which function's entry tells of a close.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseAt {
    /// `kvm_on_user_return`.
    Closer,
    /// `user_return_notifier_unregister`: anybody may call it, and `registered` is taken back already.
    Unregister,
}

/// This CPU's state, marked as being changed; none when nothing is being measured.
#[inline(always)]
pub(crate) fn begin() -> Option<&'static mut CpuState> {
    if !running() {
        return None;
    }
    let state = CPU_STATE.get_ptr_mut(0)?;
    // SAFETY: the map's own memory. KVM calls the probed functions with preemption off, and user space only reads
    // while measuring, so this is the only writer but for the exit hook, which cannot interrupt it.
    let state = unsafe { &mut *state };
    mark_begun(state);
    Some(state)
}

/// Marks the state as being changed.
#[inline(always)]
pub(crate) fn mark_begun(state: &mut CpuState) {
    // SAFETY: a field of the state. Volatile and between barriers, because user space watches the order of the writes;
    // x86 itself does not reorder them.
    unsafe { write_volatile(addr_of_mut!(state.begun), state.begun + 1) };
    barrier();
}

/// Marks the state as whole again.
#[inline(always)]
pub(crate) fn finish(state: &mut CpuState) {
    barrier();
    // SAFETY: as in `mark_begun`.
    unsafe { write_volatile(addr_of_mut!(state.accounted), state.accounted + 1) };
}

/// Keeps the compiler from moving memory accesses across. LLVM's BPF backend has no `compiler_fence`.
#[inline(always)]
fn barrier() {
    // SAFETY: no instruction at all.
    unsafe { asm!("", options(nostack, preserves_flags)) };
}

/// Accounts a set of `slot`.
#[inline(always)]
pub(crate) fn set(context: &impl EbpfContext, state: &mut CpuState, slot: u64, value: u64, mask: u64) {
    let shape = shape();
    let address = structure_address(state);
    if !(read(context, state, shape, address) && observe(context, state, shape, 0)) {
        return;
    }
    own(state, slot, bpf_get_current_pid_tgid());
    let registered = state.registered;
    let outcome = state.set(shape, slot, value, mask, now);
    let written = outcome == SetOutcome::Written;
    match outcome {
        SetOutcome::NoSuchSlot => warn!(context, "set of slot {}, of which KVM did not tell", slot),
        SetOutcome::Written | SetOutcome::Skipped => {
            let values = state.value(shape, slot);
            let value = if written { state.pending_value } else { values.1 };
            events::set(state, written, registered != state.registered, slot, values, value);
        }
    }
}

/// The slot becomes that of the vCPU that is loaded here by this thread.
#[inline(always)]
fn own(state: &mut CpuState, slot: u64, task: Task) {
    owner::note_set(state, task);
    state.own_slot(&mut Maps, slot, state.exit_owner, task);
    may_need_another_bank(state);
}

/// Another set of slots is dirty, maybe.
#[inline(always)]
fn may_need_another_bank(state: &mut CpuState) {
    if by_reason() {
        state.vcpu = 0;
    }
}

/// Where this CPU's structure is; 0 where that is not known.
#[inline(always)]
fn structure_address(state: &CpuState) -> u64 {
    let base = live::base();
    if base == 0 { 0 } else { base.wrapping_add(state.per_cpu_offset) }
}

/// Accounts a close of the window whose structure is at `structure`.
#[inline(always)]
pub(crate) fn close(context: &impl EbpfContext, state: &mut CpuState, structure: u64, at: CloseAt) {
    let shape = shape();
    let is_read = read(context, state, shape, structure);
    if at == CloseAt::Unregister {
        if is_read && state.structure[0] != CLOSER.load() {
            // Another user of the kernel's notifiers; upstream has none but KVM.
            return;
        }
        state.mark_registered(shape);
    }
    let before = structure_address(state);
    if before != structure {
        // KVM was loaded anew, or user space was told another address: the kernel's own argument is right.
        info!(context, "structure at {:x}, not at {:x}", structure, before);
        let address = addr_of_mut!(state.structure_address);
        // SAFETY: a field of the state. Volatile, because only what was stored is a number for the verifier: of an argument of type
        // pointer nothing can be subtracted.
        unsafe { write_volatile(address, structure) };
        // SAFETY: as above.
        let structure = unsafe { read_volatile(address) };
        live::move_base(structure.wrapping_sub(state.per_cpu_offset));
    }
    if !(is_read && observe(context, state, shape, 0)) {
        return;
    }
    blame(state, shape);
    let now = now();
    if timing() {
        (state.restoring_since, state.restoring_slots) = (now, u64::from(state.dirty.count_ones()));
    }
    if !state.close(SLOTS.load(), now) {
        warn!(context, "close without a window");
    }
    may_need_another_bank(state);
}

/// Finds out why a window closes now, and who pays.
#[inline(always)]
fn blame(state: &mut CpuState, shape: Shape) {
    let cause = state.cause_of_close(bpf_get_current_pid_tgid(), books::cpu_of_key());
    events::close(state, &cause, |slot| state.value(shape, slot));
    state.blame(&mut Maps, cause, books::command);
}

/// Accounts a WRMSR of `slot`, of which neither the set nor the close was seen.
#[inline(always)]
pub(crate) fn write(context: &impl EbpfContext, state: &mut CpuState, slot: u64, value: u64, failed: bool) {
    let shape = shape();
    let address = structure_address(state);
    if !read(context, state, shape, address) {
        return;
    }
    let mut closed_at = 0;
    if state.shows_a_close(shape) {
        if state.shows_a_restore(shape, slot) {
            closed_at = now();
            blame(state, shape);
        } else {
            let cause = state.unknown_cause(books::cpu_of_key());
            state.blame(&mut Maps, cause, Default::default);
        }
    }
    if !observe(context, state, shape, closed_at) {
        return;
    }
    let values = state.value(shape, slot);
    if !state.shows_a_restore(shape, slot) && values.1 != value {
        own(state, slot, bpf_get_current_pid_tgid());
    }
    let registered = state.registered;
    match state.write(shape, slot, value, failed, now) {
        WriteOutcome::Implausible => {
            warn!(context, "WRMSR of slot {} that KVM's structure does not explain", slot);
        }
        WriteOutcome::Set => events::set(state, true, registered != state.registered, slot, values, value),
        WriteOutcome::Failed | WriteOutcome::Restored | WriteOutcome::Unchanged => {}
    }
    may_need_another_bank(state);
}

/// Notes a WRMSR of `slot` for the check.
#[inline(always)]
pub(crate) fn check(state: &mut CpuState, slot: u64, value: u64, failed: bool) {
    let shape = shape();
    // Only one that nobody told of asks for a look at the structure; where its address is not known there is none.
    let address = structure_address(state);
    let look = !state.expects(slot) && !state.wrote_last(slot, value) && address != 0 && copy(state, shape, address);
    let curr = if look { Some(state.curr(shape, slot)) } else { None };
    state.check(slot, value, failed, curr);
}

/// Copies the structure. False when it could not be had; the loss is counted.
#[inline(always)]
fn read(context: &impl EbpfContext, state: &mut CpuState, shape: Shape, address: u64) -> bool {
    if !shape.fits() {
        state.implausible += 1;
        return false;
    }
    let copied = copy(state, shape, address);
    if !copied {
        state.unreadable += 1;
        warn!(context, "structure at {:x} cannot be read", address);
    }
    copied
}

/// Copies the structure, if it can.
#[inline(always)]
fn copy(state: &mut CpuState, shape: Shape, address: u64) -> bool {
    let target = addr_of_mut!(state.structure).cast::<c_void>();
    // SAFETY: `length` bytes fit into `structure`; the helper checks the source.
    shape.fits() && unsafe { bpf_probe_read_kernel(target, shape.length() as u32, address as *const c_void) } == 0
}

/// Accounts what the structure tells. False when it cannot be the structure; the loss is counted.
#[inline(always)]
fn observe(context: &impl EbpfContext, state: &mut CpuState, shape: Shape, closed_at: u64) -> bool {
    match state.observe(shape, closed_at) {
        Observation::Expected => {}
        Observation::First => {
            info!(context, "first event here: registered {}, dirty set {:x}", state.registered, state.dirty);
        }
        Observation::Failed => {
            events::failed(state);
            warn!(context, "a write failed, dirty set {:x}", state.dirty);
        }
        Observation::Changed => info!(context, "dirty set re-read: {:x}", state.dirty),
        Observation::Implausible => {
            warn!(context, "the structure is implausible");
            return false;
        }
    }
    true
}

/// Notes that KVM is about to give this CPU up.
#[inline(always)]
pub(crate) fn drops(state: &mut CpuState) {
    state.dropping = 1;
}

/// Ends the timing of a close.
#[inline(always)]
pub(crate) fn restored(state: &mut CpuState) {
    if state.restoring_since != 0 {
        state.time_restore(now());
    }
}

/// A `KVM_RUN` of the thread that runs comes back: looks for windows that nobody told of.
#[inline(always)]
pub(crate) fn check_return(state: &mut CpuState, task: Task) {
    if watched() == Watched::Writes {
        // Sets that write nothing are not seen, nor closes of windows without a dirty slot.
        state.returning = task;
    } else if state.note_return(task) {
        let address = structure_address(state);
        match memory::read::<u8>(address + shape().registered) {
            Some(registered) => state.found_registered(registered != 0),
            None => state.unreadable += 1,
        }
    }
}

/// Keeps with what a `KVM_RUN` of the thread that runs came back.
#[inline(always)]
pub(crate) fn returns_with(state: &mut CpuState, kind: u32, code: u32) {
    state.returning_with = (u64::from(kind) << 32) | u64::from(code);
}
