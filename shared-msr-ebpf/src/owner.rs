//! Who makes exits: told by the vCPU on the hot path, kept by the thread that runs it.

use core::{ffi::c_void, ptr::addr_of_mut};

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_probe_read_kernel},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use shared_msr_common::{CpuState, owner::UNKNOWN_ID, reasons::NOWHERE};

use crate::{
    books::{self, Maps},
    exit_reason,
    globals::{SLOTS, VCPU_ID_OFFSET, by_reason, watched},
    live::{epoch, next_epoch, running},
    state,
};

/// By what a vCPU is told from others.
#[derive(Clone, Copy)]
pub(crate) enum Person {
    /// Address of its `struct kvm_vcpu`.
    Vcpu(u64),
    /// The thread that runs; with the vCPU's id.
    Thread(u64),
}

/// The argument that is a vCPU's address.
#[inline(always)]
pub(crate) fn vcpu_among(first: u64, second: u64) -> u64 {
    if first >> 32 != 0 { first } else { second }
}

/// Makes sure that the exit that happens now is counted for the vCPU that makes it. False when nothing is counted.
#[inline(always)]
pub(crate) fn makes_exit(state: *mut CpuState, person: Person) -> bool {
    let (mark, id) = match person {
        Person::Vcpu(vcpu) => (vcpu, UNKNOWN_ID),
        Person::Thread(id) => (bpf_get_current_pid_tgid(), id),
    };
    let mark = mark.wrapping_add(epoch());
    // SAFETY: the map's own memory.
    if unsafe { (*state).vcpu } == mark {
        return true;
    }
    match person {
        Person::Vcpu(vcpu) => change(state, mark, vcpu, id) != 0,
        Person::Thread(_) => change(state, mark, 0, id) != 0,
    }
}

/// Another vCPU than before makes exits on this CPU, or it has to be looked at anew. Apart, so that the hot path saves no
/// register for it. 0 when nothing is counted.
#[inline(never)]
fn change(state: *mut CpuState, mark: u64, vcpu: u64, known_id: u64) -> u64 {
    if !running() {
        return 0;
    }
    // SAFETY: the map's own memory; tracepoints run with preemption off, so nothing else on this CPU writes it.
    let state = unsafe { &mut *state };
    let task = bpf_get_current_pid_tgid();
    let id = if vcpu == 0 { known_id } else { vcpu_id(vcpu) };
    state::mark_begun(state);
    books::meet(state, task, id);
    state.own_exits(&mut Maps, SLOTS.load(), watched(), task);
    if by_reason() {
        exit_reason::choose_bank(state);
    }
    state.vcpu = mark;
    state::finish(state);
    1
}

/// A thread comes back from `KVM_RUN`: it is the one that made this CPU's last exits, or else it becomes that.
#[inline(always)]
pub(crate) fn returns(state: &mut CpuState) {
    let task = bpf_get_current_pid_tgid();
    if state.exit_owner != task {
        state::mark_begun(state);
        books::meet(state, task, UNKNOWN_ID);
        state.own_exits(&mut Maps, SLOTS.load(), watched(), task);
        state.vcpu = 0;
        // It was somebody else's.
        state.exit_place = NOWHERE;
        state::finish(state);
    }
}

fn vcpu_id(vcpu: u64) -> u64 {
    let offset = VCPU_ID_OFFSET.load();
    let mut id = 0_u32;
    let target = addr_of_mut!(id).cast::<c_void>();
    // SAFETY: room for the integer; the helper checks the source.
    if offset == 0 || unsafe { bpf_probe_read_kernel(target, 4, (vcpu + offset) as *const c_void) } != 0 {
        return UNKNOWN_ID;
    }
    u64::from(id)
}

/// Notes the end of a vCPU's thread (kernel/exit.c, `do_exit`), so that its row can be given back.
#[raw_tracepoint]
pub(crate) fn shared_msr_thread_end(_context: RawTracePointContext) -> i32 {
    if running() && books::part(bpf_get_current_pid_tgid()) {
        next_epoch();
    }
    0
}
