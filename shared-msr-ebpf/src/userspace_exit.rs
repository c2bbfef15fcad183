//! Returns of a vCPU to its VMM.

use aya_ebpf::{
    macros::{raw_tracepoint, tracepoint},
    programs::{RawTracePointContext, TracePointContext},
};

use crate::state::CPU_STATE;

/// Counts one `KVM_RUN` that came back to user space (virt/kvm/kvm_main.c, `kvm_vcpu_ioctl`), errors included.
#[raw_tracepoint]
pub(crate) fn shared_msr_user(_context: RawTracePointContext) -> i32 {
    count();
    0
}

/// The same, where the kernel has no raw tracepoints of modules (before 5.0).
#[tracepoint]
pub(crate) fn shared_msr_user_classic(_context: TracePointContext) -> u32 {
    count();
    0
}

#[inline(always)]
fn count() {
    if let Some(state) = CPU_STATE.get_ptr_mut(0) {
        // SAFETY: the map's own memory; tracepoints run with preemption off, so nothing else on this CPU writes it.
        let state = unsafe { &mut *state };
        state.userspace_exits += state.running;
    }
}
