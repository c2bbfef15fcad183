//! VM-exits: the hot path.
//!
//! An exit is counted on its CPU and nothing else, as long as the vCPU is the one of the exit before. Which slots were dirty is
//! settled at the next set or close on this CPU, or by user space: nothing between two of these can change it.

use aya_ebpf::{
    macros::{raw_tracepoint, tracepoint},
    programs::{RawTracePointContext, TracePointContext},
};
use shared_msr_common::{CpuState, owner::UNKNOWN_ID};

use crate::{owner, state::CPU_STATE};

/// Counts one exit of the vCPU that is the first argument of `trace_kvm_exit` (from 5.16 on).
#[raw_tracepoint]
pub(crate) fn shared_msr_exit(context: RawTracePointContext) -> i32 {
    count(|state| owner::note_exit(state, context.arg(0)));
    0
}

/// The same, where it is the second (up to 5.15), or where BTF does not tell: the argument before it is 32 bits wide, and no
/// address of the kernel is.
#[raw_tracepoint]
pub(crate) fn shared_msr_exit_any(context: RawTracePointContext) -> i32 {
    count(|state| owner::note_exit(state, owner::vcpu_among(context.arg(0), context.arg(1))));
    0
}

/// The same, where the kernel has no raw tracepoints of modules (before 5.0). Costs more than three times as much.
#[tracepoint]
pub(crate) fn shared_msr_exit_classic(_context: TracePointContext) -> u32 {
    count(|state| owner::note_exit_of(state, UNKNOWN_ID));
    0
}

/// Counts one exit, if `note` says that it is to be counted.
#[inline(always)]
fn count(note: impl FnOnce(*mut CpuState) -> bool) {
    if let Some(state) = CPU_STATE.get_ptr_mut(0)
        && note(state)
    {
        // SAFETY: the map's own memory; KVM tells of exits with preemption off, so nothing else on this CPU writes it.
        unsafe { (*state).exits += 1 };
    }
}
