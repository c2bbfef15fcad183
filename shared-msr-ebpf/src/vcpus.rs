//! Which owners there are: vCPUs of VMs, each with a thread that runs it. Only the rare paths come here.

use aya_ebpf::{macros::map, maps::HashMap};
use shared_msr_common::{
    CpuState, Thread, Vcpu, VcpuKey,
    owner::{NOBODY, Owner, REFUSED, SEVERAL_IDS, Task, UNKNOWN_ID},
};

use crate::{
    books::{ANY, MAKE, command, this_cpu},
    events::now,
    globals::{VCPU_ID_OFFSET, VCPU_KVM_OFFSET},
    live::next_epoch,
    memory::read,
};

/// The owners. User space says how many there can be.
#[map]
static VCPUS: HashMap<VcpuKey, Vcpu> = HashMap::with_max_entries(1, 0);
/// When the vCPU was made that is at an address.
#[map]
static MADE: HashMap<u64, u64> = HashMap::with_max_entries(1, 0);
/// What is known of their threads.
#[map]
static THREADS: HashMap<Task, Thread> = HashMap::with_max_entries(1, 0);

/// The owner that the thread that runs is while it runs this vCPU (0: any); made if need be. `known_id` is the vCPU's number where a
/// tracepoint's record tells it.
#[inline(always)]
pub(crate) fn owner_of(state: &mut CpuState, task: Task, vcpu: u64, known_id: u64) -> Owner {
    let Some(thread) = thread(task) else {
        state.vcpus_refused += 1;
        return REFUSED;
    };
    let key = VcpuKey { task, incarnation: thread.incarnation, vcpu, made: made_at(vcpu), kvm: kvm_of(vcpu), id: id_of(vcpu) };
    let owner = match VCPUS.get_ptr_mut(key) {
        Some(found) => {
            // SAFETY: the map's own memory. Only the thread itself writes what is of its vCPUs.
            let found = unsafe { &mut *found };
            if known_id != UNKNOWN_ID && found.id != known_id {
                found.id = if found.id == UNKNOWN_ID { known_id } else { SEVERAL_IDS };
            }
            found.owner
        }
        None => make(state, thread, key, known_id),
    };
    thread.current = owner;
    state.several = u64::from(thread.vcpus > 1);
    owner
}

/// An owner that was not there yet.
#[inline(always)]
fn make(state: &mut CpuState, thread: &mut Thread, key: VcpuKey, known_id: u64) -> Owner {
    if key.vcpu != 0 {
        thread.vcpus += 1;
        if thread.vcpus == 2 {
            // Every CPU has to know that this thread runs several.
            next_epoch();
        }
    }
    state.owners_met += 1;
    let owner = (this_cpu() + 1) << 32 | state.owners_met;
    let id = if key.id == UNKNOWN_ID { known_id } else { key.id };
    if VCPUS.insert(key, Vcpu { owner, id }, MAKE).is_err() {
        state.vcpus_refused += 1;
        return REFUSED;
    }
    owner
}

/// Which owner a thread is that comes back from `KVM_RUN`, or that sets an MSR of a vCPU that cannot be told. `forget` where it is to
/// be found out anew the next time, if the thread runs several vCPUs.
#[inline(always)]
pub(crate) fn last_owner_of(state: &mut CpuState, task: Task, forget: bool) -> Owner {
    let known = THREADS.get_ptr_mut(task).map_or(NOBODY, |thread| {
        // SAFETY: as above.
        let thread = unsafe { &*thread };
        state.several = u64::from(thread.vcpus > 1);
        if thread.ended == 0 { thread.current } else { NOBODY }
    });
    // Not known of a thread that runs several, if it loaded none since the last time.
    let owner = if known == NOBODY { owner_of(state, task, 0, UNKNOWN_ID) } else { known };
    if forget && state.several != 0 {
        is_now(task, NOBODY);
    }
    owner
}

/// Keeps which owner a thread is that runs several vCPUs.
#[inline(always)]
pub(crate) fn is_now(task: Task, owner: Owner) {
    if let Some(thread) = THREADS.get_ptr_mut(task) {
        // SAFETY: as above.
        unsafe { (*thread).current = owner };
    }
}

/// A thread ends, or is another program from now on. Whether it ever ran a vCPU.
#[inline(always)]
pub(crate) fn end(task: Task) -> bool {
    let Some(thread) = THREADS.get_ptr_mut(task) else { return false };
    // SAFETY: as above.
    unsafe { (*thread).ended = 1 };
    true
}

/// What is known of a thread; made if need be.
#[inline(always)]
fn thread(task: Task) -> Option<&'static mut Thread> {
    if THREADS.get_ptr(task).is_none() {
        let new = Thread { command: command(), ..Thread::default() };
        let _ = THREADS.insert(task, new, MAKE);
    }
    // SAFETY: as above.
    let thread = unsafe { &mut *THREADS.get_ptr_mut(task)? };
    if thread.ended != 0 {
        // Another thread has its number, or it is another program.
        let incarnation = thread.incarnation + 1;
        *thread = Thread { incarnation, command: command(), ..Thread::default() };
    }
    Some(thread)
}

/// A vCPU is made at this address.
#[inline(always)]
pub(crate) fn make_at(vcpu: u64) {
    if vcpu != 0 {
        let _ = MADE.insert(vcpu, now(), ANY);
    }
}

/// When the vCPU at this address was made; 0 where that was not seen.
#[inline(always)]
fn made_at(vcpu: u64) -> u64 {
    // SAFETY: the map's own memory, written before the vCPU can run.
    MADE.get_ptr(vcpu).map_or(0, |made| unsafe { *made })
}

/// Address of the VM of a vCPU; 0 where it cannot be read.
#[inline(always)]
fn kvm_of(vcpu: u64) -> u64 {
    if vcpu == 0 { 0 } else { read::<u64>(vcpu + VCPU_KVM_OFFSET.load()).unwrap_or(0) }
}

/// KVM's number of a vCPU.
#[inline(always)]
fn id_of(vcpu: u64) -> u64 {
    let offset = VCPU_ID_OFFSET.load();
    if vcpu == 0 || offset == 0 { UNKNOWN_ID } else { read::<u32>(vcpu + offset).map_or(UNKNOWN_ID, u64::from) }
}
