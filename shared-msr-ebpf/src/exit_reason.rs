//! VM-exits by reason, only where a report by reason is asked for: reading the reason costs more than counting.
//!
//! Up to 5.15 the reason is an argument of `trace_kvm_exit`; later it has to be read from the vCPU (0a62a0319abb, "KVM: x86:
//! Get exit_reason as part of kvm_x86_ops.get_exit_info"), at places that user space knows from BTF. The classic
//! tracepoint's record has it in all kernels.

use core::ffi::c_void;

use aya_ebpf::{
    Global,
    helpers::generated::bpf_probe_read_kernel,
    macros::{map, raw_tracepoint, tracepoint},
    maps::PerCpuArray,
    programs::{RawTracePointContext, TracePointContext},
};
use shared_msr_common::ReasonCounters;

use crate::state::CPU_STATE;

/// One value per CPU.
#[map]
static REASONS: PerCpuArray<ReasonCounters> = PerCpuArray::with_max_entries(1, 0);

/// Which argument to begin with.
#[unsafe(no_mangle)]
static REASON_ARGUMENT: Global<u64> = Global::new(0);
/// How many of the offsets below to follow: 0 when the argument is the reason itself.
#[unsafe(no_mangle)]
static REASON_STEPS: Global<u64> = Global::new(0);
/// Where to read, from the argument on; the reason itself, or a pointer if there is a second step.
#[unsafe(no_mangle)]
static REASON_FIRST: Global<u64> = Global::new(0);
/// Where to read, from that pointer on.
#[unsafe(no_mangle)]
static REASON_SECOND: Global<u64> = Global::new(0);
/// Where the reason is in the classic tracepoint's record.
#[unsafe(no_mangle)]
static REASON_IN_RECORD: Global<u64> = Global::new(0);

/// Counts one exit, and its reason.
#[raw_tracepoint]
pub(crate) fn shared_msr_reason(context: RawTracePointContext) -> i32 {
    let argument: u64 = if REASON_ARGUMENT.load() == 0 { context.arg(0) } else { context.arg(1) };
    count(|| match REASON_STEPS.load() {
        0 => Some(argument as u32),
        1 => read::<u32>(argument + REASON_FIRST.load()),
        _ => read::<u32>(read::<u64>(argument + REASON_FIRST.load())? + REASON_SECOND.load()),
    });
    0
}

/// The same, from the classic tracepoint's record.
#[tracepoint]
pub(crate) fn shared_msr_reason_classic(context: TracePointContext) -> u32 {
    // SAFETY: the kernel checks the read against the record's size.
    count(|| unsafe { context.read_at::<u32>(REASON_IN_RECORD.load() as usize) }.ok());
    0
}

#[inline(always)]
fn count(reason: impl FnOnce() -> Option<u32>) {
    let Some(state) = CPU_STATE.get_ptr_mut(0) else { return };
    // SAFETY: the map's own memory; tracepoints run with preemption off, so nothing else on this CPU writes it.
    let state = unsafe { &mut *state };
    if state.running == 0 {
        return;
    }
    state.exits += 1;
    let Some(reasons) = REASONS.get_ptr_mut(0) else { return };
    // SAFETY: as above.
    let reasons = unsafe { &mut *reasons };
    match reason() {
        Some(reason) => reasons.count(reason),
        None => reasons.unread += 1,
    }
}

#[inline(always)]
fn read<T: Default>(address: u64) -> Option<T> {
    let mut value = T::default();
    let target = (&raw mut value).cast::<c_void>();
    // SAFETY: room for a T; the helper checks the source.
    let result = unsafe { bpf_probe_read_kernel(target, size_of::<T>() as u32, address as *const c_void) };
    (result == 0).then_some(value)
}
