//! VM-exits: the hot path.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::state::CPU_STATE;

/// Counts one exit, if measuring has begun (`running` is 1 or 0: no branch). Which slots were dirty is settled at the next set or close on this CPU, or by user space: nothing
/// between two of these can change it.
#[raw_tracepoint]
pub(crate) fn shared_msr_exit(_context: RawTracePointContext) -> i32 {
    if let Some(state) = CPU_STATE.get_ptr_mut(0) {
        // SAFETY: the map's own memory; tracepoints run with preemption off, so nothing else on this CPU writes it.
        let state = unsafe { &mut *state };
        state.exits += state.running;
    }
    0
}
