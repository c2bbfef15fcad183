//! This CPU's state: the map, and the way from an event to the accounting in `shared-msr-common`.

use core::{
    arch::asm,
    ffi::c_void,
    ptr::{addr_of_mut, write_volatile},
};

use aya_ebpf::{EbpfContext, Global, helpers::generated::bpf_probe_read_kernel, macros::map, maps::PerCpuArray};
use aya_log_ebpf::{info, warn};
use shared_msr_common::{
    CpuState,
    accounting::{Observation, SetForm, SetOutcome, Shape, Watched, WriteOutcome},
};

/// One value per CPU.
#[map]
pub(crate) static CPU_STATE: PerCpuArray<CpuState> = PerCpuArray::with_max_entries(1, 0);

/// How many slots KVM has on this host. All globals are given by user space before the programs are loaded.
#[unsafe(no_mangle)]
pub(crate) static SLOTS: Global<u64> = Global::new(0);
/// Offset of `registered` in the kernel's structure, in bytes.
#[unsafe(no_mangle)]
static REGISTERED_OFFSET: Global<u64> = Global::new(0);
/// Offset of `values`, in bytes, a multiple of 8. An element is `{ u64 host; u64 curr; }`: user space checked that.
#[unsafe(no_mangle)]
static VALUES_OFFSET: Global<u64> = Global::new(0);
/// Not 0 where the setter is of the form up to 5.4 ([`SetForm::Whole`]).
#[unsafe(no_mangle)]
static SETS_WHOLE: Global<u64> = Global::new(0);
/// Address of `kvm_on_user_return`; with it KVM's notifier is told from any other.
#[unsafe(no_mangle)]
static CLOSER: Global<u64> = Global::new(0);

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
    let state = CPU_STATE.get_ptr_mut(0)?;
    // SAFETY: the map's own memory. KVM calls the probed functions with preemption off, and user space only reads
    // while `running` is set, so this is the only writer but for the exit hook, which cannot interrupt it.
    let state = unsafe { &mut *state };
    if state.running == 0 {
        return None;
    }
    // SAFETY: a field of the state. Volatile and between barriers, because user space watches the order of the writes;
    // x86 itself does not reorder them.
    unsafe { write_volatile(addr_of_mut!(state.begun), state.begun + 1) };
    barrier();
    Some(state)
}

/// Marks the state as whole again.
#[inline(always)]
pub(crate) fn finish(state: &mut CpuState) {
    barrier();
    // SAFETY: as in `begin`.
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
    let shape = shape(Watched::Calls);
    if read(context, state, shape)
        && observe(context, state, shape)
        && state.set(shape, slot, value, mask) == SetOutcome::NoSuchSlot
    {
        warn!(context, "set of slot {}, of which KVM did not tell", slot);
    }
}

/// Accounts a close of the window whose structure is at `structure`.
#[inline(always)]
pub(crate) fn close(context: &impl EbpfContext, state: &mut CpuState, structure: u64, at: CloseAt) {
    let shape = shape(Watched::Calls);
    let before = state.structure_address;
    state.structure_address = structure;
    let is_read = read(context, state, shape);
    if at == CloseAt::Unregister {
        if is_read && state.structure[0] != CLOSER.load() {
            // Another user of the kernel's notifiers; upstream has none but KVM.
            state.structure_address = before;
            return;
        }
        state.mark_registered(shape);
    }
    if before != structure {
        // KVM was loaded anew, or user space was told another address: the kernel's own argument is right.
        info!(context, "structure at {:x}, not at {:x}", structure, before);
    }
    if is_read && observe(context, state, shape) && !state.close(SLOTS.load()) {
        warn!(context, "close without a window");
    }
}

/// Accounts a WRMSR of `slot`, of which neither the set nor the close was seen.
#[inline(always)]
pub(crate) fn write(context: &impl EbpfContext, state: &mut CpuState, slot: u64, value: u64, failed: bool) {
    let shape = shape(Watched::Writes);
    if read(context, state, shape)
        && observe(context, state, shape)
        && state.write(shape, slot, value, failed) == WriteOutcome::Implausible
    {
        warn!(context, "WRMSR of slot {} that KVM's structure does not explain", slot);
    }
}

/// Notes a WRMSR of `slot` for the check.
#[inline(always)]
pub(crate) fn check(state: &mut CpuState, slot: u64, value: u64, failed: bool) {
    let shape = shape(Watched::Writes);
    // Only one that nobody told of asks for a look at the structure; where its address is not known there is none.
    let look = !state.expects(slot) && state.structure_address != 0 && copy(state, shape);
    let curr = if look { Some(state.curr(shape, slot)) } else { None };
    state.check(slot, value, failed, curr);
}

#[inline(always)]
fn shape(watched: Watched) -> Shape {
    let form = if SETS_WHOLE.load() == 0 { SetForm::Merged } else { SetForm::Whole };
    Shape { slots: SLOTS.load(), registered: REGISTERED_OFFSET.load(), values: VALUES_OFFSET.load(), watched, form }
}

/// Copies the structure. False when it could not be had; the loss is counted.
#[inline(always)]
fn read(context: &impl EbpfContext, state: &mut CpuState, shape: Shape) -> bool {
    if !shape.fits() {
        state.implausible += 1;
        return false;
    }
    let copied = copy(state, shape);
    if !copied {
        state.unreadable += 1;
        warn!(context, "structure at {:x} cannot be read", state.structure_address);
    }
    copied
}

/// Copies the structure, if it can.
#[inline(always)]
fn copy(state: &mut CpuState, shape: Shape) -> bool {
    let target = addr_of_mut!(state.structure).cast::<c_void>();
    // SAFETY: `length` bytes fit into `structure`; the helper checks the source.
    shape.fits() && unsafe { bpf_probe_read_kernel(target, shape.length() as u32, state.structure_address as *const c_void) } == 0
}

/// Accounts what the structure tells. False when it cannot be the structure; the loss is counted.
#[inline(always)]
fn observe(context: &impl EbpfContext, state: &mut CpuState, shape: Shape) -> bool {
    match state.observe(shape) {
        Observation::Expected => {}
        Observation::First => {
            info!(context, "first event here: registered {}, dirty set {:x}", state.registered, state.dirty);
        }
        Observation::Failed => warn!(context, "a write failed, dirty set {:x}", state.dirty),
        Observation::Changed => info!(context, "dirty set re-read: {:x}", state.dirty),
        Observation::Implausible => {
            warn!(context, "structure at {:x} is implausible", state.structure_address);
            return false;
        }
    }
    true
}
