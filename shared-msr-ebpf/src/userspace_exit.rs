//! Returns of a vCPU to its VMM.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::state::CPU_STATE;

/// Counts one `KVM_RUN` that came back to user space (virt/kvm/kvm_main.c, `kvm_vcpu_ioctl`), errors included.
#[raw_tracepoint]
pub(crate) fn shared_msr_user(_context: RawTracePointContext) -> i32 {
    if let Some(state) = CPU_STATE.get_ptr_mut(0) {
        // SAFETY: the map's own memory; tracepoints run with preemption off, so nothing else on this CPU writes it.
        let state = unsafe { &mut *state };
        state.userspace_exits += state.running;
    }
    0
}
