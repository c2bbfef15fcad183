//! VM-exits: the hot path.

use aya_ebpf::{
    macros::{raw_tracepoint, tracepoint},
    programs::{RawTracePointContext, TracePointContext},
};

use crate::state::CPU_STATE;

/// Counts one exit, if measuring has begun (`running` is 1 or 0: no branch). Which slots were dirty is settled at the next set or close on this CPU, or by user space: nothing
/// between two of these can change it.
#[raw_tracepoint]
pub(crate) fn shared_msr_exit(_context: RawTracePointContext) -> i32 {
    count();
    0
}

/// The same, where the kernel has no raw tracepoints of modules (before 5.0). Costs three times as much.
#[tracepoint]
pub(crate) fn shared_msr_exit_classic(_context: TracePointContext) -> u32 {
    count();
    0
}

#[inline(always)]
fn count() {
    if let Some(state) = CPU_STATE.get_ptr_mut(0) {
        // SAFETY: the map's own memory; tracepoints run with preemption off, so nothing else on this CPU writes it.
        let state = unsafe { &mut *state };
        state.exits += state.running;
    }
}
