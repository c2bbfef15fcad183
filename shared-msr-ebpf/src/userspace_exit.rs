//! Returns of a vCPU to its VMM: `trace_kvm_userspace_exit(u32 reason, int errno)` (virt/kvm/kvm_main.c, `kvm_vcpu_ioctl`;
//! the same in all versions).

use aya_ebpf::{
    macros::{raw_tracepoint, tracepoint},
    programs::{RawTracePointContext, TracePointContext},
};
use shared_msr_common::cause;

use crate::{events, exit_reason, globals::by_reason, live::running, owner, state, state::CPU_STATE};

/// `KVM_EXIT_INTR` (include/uapi/linux/kvm.h): `KVM_RUN` returns -EINTR with it.
const INTERRUPTED: u32 = 10;
const EINTR: u32 = 4;

/// Counts one `KVM_RUN` that came back to user space, errors included.
#[raw_tracepoint]
pub(crate) fn shared_msr_user(context: RawTracePointContext) -> i32 {
    count(context.arg(0), context.arg(1));
    0
}

/// The same, where the kernel has no raw tracepoints of modules (before 5.0).
#[tracepoint]
pub(crate) fn shared_msr_user_classic(context: TracePointContext) -> u32 {
    let field = |offset| {
        // SAFETY: the kernel checks the read against the record's size; offsets as in 4.4 to 7.3.
        unsafe { context.read_at::<u32>(offset) }
    };
    if let (Ok(reason), Ok(error)) = (field(8), field(12)) {
        count(reason, error.cast_signed());
    }
    0
}

#[inline(always)]
fn count(reason: u32, error: i32) {
    if !running() {
        return;
    }
    if let Some(state) = CPU_STATE.get_ptr_mut(0) {
        // SAFETY: the map's own memory; preemption is off, so nothing else on this CPU writes it: the raw tracepoint is taken only where
        // tracepoints turn it off (until 7.0), the classic one does so itself.
        let state = unsafe { &mut *state };
        let task = owner::note_return(state);
        if by_reason() {
            exit_reason::returns(state);
        }
        state.userspace_exits += 1;
        state::check_return(state, task);
        // After an error the reason is of an earlier return, but for this one.
        let error = error.unsigned_abs() * u32::from(error < 0);
        if error == 0 || (error == EINTR && reason == INTERRUPTED) {
            state::returns_with(state, cause::USERSPACE_EXIT, reason);
        } else {
            state::returns_with(state, cause::USERSPACE_ERROR, error);
        }
        events::userspace_exit(state);
    }
}
