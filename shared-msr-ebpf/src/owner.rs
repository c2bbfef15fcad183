//! Who makes exits, sets and returns: which vCPU of which VM, and the thread that runs it.
//!
//! Each CPU keeps which vCPU KVM loaded there last, by which thread, as far as sets and exits told. KVM loads a vCPU before it
//! enters it, and where it sets MSRs at that, each load shows: then an exit needs no look at the thread. A vCPU of which no set was
//! seen (it uses no slot, or sets that write nothing are not seen) has its thread compared at each exit.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint, programs::RawTracePointContext};
use shared_msr_common::{
    CpuState, STOPPED,
    accounting::Watched,
    owner::{Owner, Task, UNKNOWN_ID},
    reasons::NOWHERE,
};

use crate::{
    books::Maps,
    exit_reason,
    globals::{RUNNING_VCPU, SLOTS, STRUCTURES_POINTER, by_reason, watched},
    live::{self, epoch, next_epoch, running},
    memory::read,
    state::{self, CPU_STATE},
    vcpus,
};

/// The argument that is a vCPU's address.
#[inline(always)]
pub(crate) fn vcpu_among(first: u64, second: u64) -> u64 {
    if first >> 32 != 0 { first } else { second }
}

/// The vCPU that KVM has loaded on this CPU; 0 where that is not known.
#[inline(always)]
fn running_vcpu(state: &CpuState) -> u64 {
    let variable = RUNNING_VCPU.load();
    if variable == 0 { 0 } else { read::<u64>(variable.wrapping_add(state.per_cpu_offset)).unwrap_or(0) }
}

/// Makes sure that the exit of this vCPU is counted for whoever makes it. False when nothing is counted.
#[inline(always)]
pub(crate) fn note_exit(state: *mut CpuState, vcpu: u64) -> bool {
    let mark = vcpu.wrapping_add(epoch());
    // SAFETY: the map's own memory.
    if unsafe { (*state).vcpu } == mark {
        return true;
    }
    // Where no set is ever seen that is no rare case. The verifier removes it elsewhere, so that it costs the hot path nothing.
    if watched() == Watched::Writes && !by_reason() {
        // SAFETY: as above; nothing else on this CPU writes it.
        let state = unsafe { &*state };
        if state.loaded == mark && state.exit_due == 0 && state.exit_task == bpf_get_current_pid_tgid() {
            return true;
        }
    }
    look_up(state, vcpu, UNKNOWN_ID) != 0
}

/// The same of an exit whose tracepoint does not tell the vCPU, but its number perhaps.
#[inline(always)]
pub(crate) fn note_exit_of(state: *mut CpuState, id: u64) -> bool {
    look_up(state, 0, id) != 0
}

/// Another vCPU than before makes exits on this CPU, or it has to be looked at more closely. Apart, so that the hot path saves no
/// register for it. 0 when nothing is counted.
#[inline(never)]
fn look_up(state: *mut CpuState, vcpu: u64, known_id: u64) -> u64 {
    let epoch = epoch();
    if epoch >= STOPPED {
        return 0;
    }
    // SAFETY: the map's own memory; KVM tells of exits with preemption off, so nothing else on this CPU writes it.
    let state = unsafe { &mut *state };
    let task = bpf_get_current_pid_tgid();
    let vcpu = if vcpu == 0 { running_vcpu(state) } else { vcpu };
    // A number is to be kept once, or each time where nothing else tells vCPUs apart.
    let told = known_id == UNKNOWN_ID || (vcpu != 0 && state.exit_due == 0);
    let same = state.exit_task == task && state.loaded == vcpu.wrapping_add(epoch) && told;
    if !same || state.exit_due != 0 || (by_reason() && exit_reason::needs_bank(state)) {
        state::mark_begun(state);
        if !same {
            load(state, task, vcpu, known_id);
        }
        if state.exit_due != 0 {
            state.exit_due = 0;
            state.own_unset_slots(&mut Maps, SLOTS.load(), watched());
        }
        if by_reason() && exit_reason::needs_bank(state) {
            exit_reason::choose_bank(state);
        }
        state::finish(state);
    }
    state.vcpu = if state.set_seen == 0 { 0 } else { state.loaded };
    1
}

/// From now on this vCPU is the one that is loaded here, by this thread.
#[inline(always)]
fn load(state: &mut CpuState, task: Task, vcpu: u64, known_id: u64) {
    let owner = vcpus::owner_of(state, task, vcpu, known_id);
    // Afterwards: it may have begun another epoch.
    let epoch = epoch();
    is_loaded(state, task, owner, vcpu.wrapping_add(epoch), epoch);
}

#[inline(always)]
fn is_loaded(state: &mut CpuState, task: Task, owner: Owner, loaded: u64, epoch: u64) {
    state.own_exits(&mut Maps, owner, task);
    (state.loaded, state.loaded_epoch) = (loaded, epoch);
    (state.vcpu, state.set_seen, state.exit_due) = (0, 0, 1);
    // The exit before was somebody else's.
    state.exit_place = NOWHERE;
}

/// The thread that runs sets an MSR of a vCPU.
#[inline(always)]
pub(crate) fn note_set(state: &mut CpuState, task: Task) {
    let (vcpu, epoch) = (running_vcpu(state), epoch());
    let same =
        if vcpu == 0 { state.loaded_epoch == epoch && state.several == 0 } else { state.loaded == vcpu.wrapping_add(epoch) };
    if !(same && state.exit_task == task) {
        set_by_another(state, task, vcpu);
    } else if state.several != 0 {
        vcpus::is_now(task, state.exit_owner);
    }
    if watched() == Watched::Calls {
        state.set_seen = 1;
    }
}

/// Another vCPU than before is loaded here, or another thread loads it.
#[inline(always)]
fn set_by_another(state: &mut CpuState, task: Task, vcpu: u64) {
    if vcpu != 0 {
        load(state, task, vcpu, UNKNOWN_ID);
    } else {
        let owner = vcpus::last_owner_of(state, task, false);
        is_loaded(state, task, owner, 0, epoch());
    }
}

/// A thread comes back from `KVM_RUN`: the vCPU that it ran is the one that is loaded here, or else becomes that. Gives the thread.
#[inline(always)]
pub(crate) fn note_return(state: &mut CpuState) -> Task {
    let task = bpf_get_current_pid_tgid();
    if state.exit_task != task || state.loaded_epoch != epoch() || state.several != 0 {
        returned_elsewhere(state, task);
    }
    task
}

/// It is not known that this CPU's exits are those of the vCPU that comes back.
#[inline(never)]
fn returned_elsewhere(state: *mut CpuState, task: Task) -> u64 {
    // SAFETY: as in `look_up`.
    let state = unsafe { &mut *state };
    let owner = vcpus::last_owner_of(state, task, true);
    if state.exit_owner != owner || state.exit_task != task {
        state::mark_begun(state);
        is_loaded(state, task, owner, 0, epoch());
        state.exit_due = 0;
        state.own_unset_slots(&mut Maps, SLOTS.load(), watched());
        state::finish(state);
    }
    0
}

/// Notes the end of a vCPU's thread (kernel/exit.c, `do_exit`), so that its rows can be given back.
#[raw_tracepoint]
pub(crate) fn shared_msr_thread_end(_context: RawTracePointContext) -> i32 {
    ends(bpf_get_current_pid_tgid());
    0
}

/// Notes that a thread executes another program: `trace_sched_process_exec(task, old_pid, bprm)` (fs/exec.c, `exec_binprm`). It has
/// the leader's number from now on, and its old one is nobody's.
#[raw_tracepoint]
pub(crate) fn shared_msr_exec(context: RawTracePointContext) -> i32 {
    let before: u32 = context.arg(1);
    ends(bpf_get_current_pid_tgid() & !0xffff_ffff | u64::from(before));
    0
}

#[inline(always)]
fn ends(task: Task) {
    if running() && vcpus::end(task) {
        next_epoch();
    }
}

/// Notes that a vCPU is made, maybe where another one was: `trace_kvm_write_tsc_offset(vcpu_id, previous, next)`, of which KVM's
/// first one comes from `kvm_arch_vcpu_postcreate` (arch/x86/kvm/x86.c), with nothing before it.
///
/// KVM has loaded it on this CPU to set its time, so its address is known.
///
/// A vendor module that was loaded anew, with its structures elsewhere, has to make a vCPU before it can set any MSR.
#[raw_tracepoint]
pub(crate) fn shared_msr_vcpu_made(context: RawTracePointContext) -> i32 {
    if running() && context.arg::<u64>(1) == 0 {
        let pointer = STRUCTURES_POINTER.load();
        if pointer != 0
            && let Some(base) = read::<u64>(pointer)
            && base != 0
            && base != live::base()
        {
            live::move_base(base);
        }
        if let Some(state) = CPU_STATE.get_ptr(0) {
            // SAFETY: the map's own memory; this field is never changed.
            vcpus::make_at(running_vcpu(unsafe { &*state }));
        }
        next_epoch();
    }
    0
}
