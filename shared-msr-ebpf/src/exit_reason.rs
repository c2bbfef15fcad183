//! VM-exits by reason, only where a report by reason is asked for: reading the reason costs more than counting.
//!
//! Up to 5.15 the reason is an argument of `trace_kvm_exit`; later it has to be read from the vCPU (0a62a0319abb, "KVM: x86:
//! Get exit_reason as part of kvm_x86_ops.get_exit_info"), at places that user space knows from BTF. The classic
//! tracepoint's record has it in all kernels.
//!
//! Exits are counted in banks: one for each vCPU and each set of dirty slots it had, so that every exit is known to have been
//! put off or not, slot by slot.

use aya_ebpf::{
    Global,
    macros::{map, raw_tracepoint, tracepoint},
    maps::{Array, HashMap, Queue},
    programs::{RawTracePointContext, TracePointContext},
};
use shared_msr_common::{
    BankKey, CpuState, MAX_SLOTS, ReasonCounters,
    owner::{NOBODY, UNKNOWN_ID},
    reasons::{AS_AT_START, NOWHERE},
};

use crate::{
    books::{MAKE, cpu_of_key, this_cpu},
    events,
    globals::{LAST_ENTRY_CPU_OFFSET, SLOTS},
    memory::read,
    owner,
    state::CPU_STATE,
};

/// The banks. The first ones are one for each CPU, for exits that find no bank of their own.
#[map]
static REASONS: Array<ReasonCounters> = Array::with_max_entries(1, 0);
/// Which bank is whose.
#[map]
static BANKS: HashMap<BankKey, u32> = HashMap::with_max_entries(1, 0);
/// Banks that are nobody's yet; filled by user space.
#[map]
static FREE_BANKS: Queue<u32> = Queue::with_max_entries(1, 0);

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
/// Where `vcpu_id` is in the classic tracepoint's record; 0 where it has none (before 5.4).
#[unsafe(no_mangle)]
static VCPU_ID_IN_RECORD: Global<u64> = Global::new(0);

/// Counts one exit, and its reason.
#[raw_tracepoint]
pub(crate) fn shared_msr_reason(context: RawTracePointContext) -> i32 {
    let (first, second): (u64, u64) = (context.arg(0), context.arg(1));
    let argument = if REASON_ARGUMENT.load() == 0 { first } else { second };
    let vcpu = owner::vcpu_among(first, second);
    count(
        vcpu,
        |state| owner::note_exit(state, vcpu),
        || match REASON_STEPS.load() {
            0 => Some(argument as u32),
            1 => read::<u32>(argument + REASON_FIRST.load()),
            _ => read::<u32>(read::<u64>(argument + REASON_FIRST.load())? + REASON_SECOND.load()),
        },
    );
    0
}

/// The same, from the classic tracepoint's record.
#[tracepoint]
pub(crate) fn shared_msr_reason_classic(context: TracePointContext) -> u32 {
    let field = |offset: u64| {
        // SAFETY: the kernel checks the read against the record's size.
        unsafe { context.read_at::<u32>(offset as usize) }.ok()
    };
    let id = match VCPU_ID_IN_RECORD.load() {
        0 => UNKNOWN_ID,
        offset => field(offset).map_or(UNKNOWN_ID, u64::from),
    };
    count(0, |state| owner::note_exit_of(state, id), || field(REASON_IN_RECORD.load()));
    0
}

/// Counts one exit of a vCPU (0 where the tracepoint does not tell), if `note` says that it is to be counted.
#[inline(always)]
fn count(vcpu: u64, note: impl FnOnce(*mut CpuState) -> bool, reason: impl FnOnce() -> Option<u32>) {
    let Some(state) = CPU_STATE.get_ptr_mut(0) else { return };
    if !note(state) {
        return;
    }
    // SAFETY: the map's own memory; KVM tells of exits with preemption off, so nothing else on this CPU writes it.
    let state = unsafe { &mut *state };
    state.exits += 1;
    let reason = reason();
    events::exit(state, reason);
    let bank = state.bank;
    let Some(reasons) = REASONS.get_ptr_mut(bank as u32) else { return };
    // SAFETY: the map's own memory; a bank is of one vCPU, which runs on one CPU at a time, or of one CPU.
    let reasons = unsafe { &mut *reasons };
    state.exit_place = match reason {
        Some(reason) => reasons.count(reason),
        None => {
            reasons.unread += 1;
            NOWHERE
        }
    };
    state.exit_bank = bank;
    state.exit_vcpu = vcpu;
}

/// The thread that runs goes back to its VMM. Counts that for the reason of its last exit, if that was on this CPU: the kernel
/// keeps where a vCPU was entered last (arch/x86/kvm/x86.c, `vcpu_enter_guest`; 1aa561b1a4c0, Linux 5.9). A thread that was moved
/// in between is not counted.
#[inline(always)]
pub(crate) fn returns(state: &mut CpuState) {
    let place = state.exit_place;
    // So that a KVM_RUN that ends without an exit is not taken for the end of an earlier one's.
    state.exit_place = NOWHERE;
    let offset = LAST_ENTRY_CPU_OFFSET.load();
    if place == NOWHERE || offset == 0 || state.exit_vcpu == 0 {
        return;
    }
    if read::<u32>(state.exit_vcpu + offset) != Some(this_cpu() as u32) {
        return;
    }
    if let Some(reasons) = REASONS.get_ptr_mut(state.exit_bank as u32) {
        // SAFETY: as above.
        unsafe { &mut *reasons }.count_return(place);
    }
}

/// Whether other slots are dirty than those for which the bank was chosen, or whether it is somebody else's.
#[inline(always)]
pub(crate) fn needs_bank(state: &CpuState) -> bool {
    state.bank_dirty != dirty(state)
}

#[inline(always)]
fn dirty(state: &CpuState) -> u64 {
    if state.known == 0 { AS_AT_START } else { state.dirty }
}

/// Finds the bank for this CPU's next exits. Their vCPU is known.
#[inline(always)]
pub(crate) fn choose_bank(state: &mut CpuState) {
    let cpu = this_cpu();
    state.bank_dirty = dirty(state);
    let key = key(state, cpu);
    state.bank = match BANKS.get_ptr(key) {
        // SAFETY: the map's own memory, written once.
        Some(bank) => u64::from(unsafe { *bank }),
        None => match FREE_BANKS.pop() {
            Ok(Some(bank)) if BANKS.insert(key, bank, MAKE).is_ok() => u64::from(bank),
            _ => cpu,
        },
    };
}

#[inline(always)]
fn key(state: &CpuState, cpu: u64) -> BankKey {
    let exits = state.exit_owner;
    if state.known == 0 {
        // All slots have the same owner: who made the first exit here.
        let other = if state.slot_owners[0] == exits { NOBODY } else { state.slot_owners[0] };
        let others = if other == NOBODY { 0 } else { u64::MAX };
        return BankKey { owner: exits, other, cpu, dirty: AS_AT_START, others };
    }
    let (mut other, mut others, mut several) = (NOBODY, 0, false);
    for slot in 0..MAX_SLOTS {
        if slot as u64 >= SLOTS.load() {
            break;
        }
        let owner = state.slot_owners[slot];
        if (state.dirty >> slot) & 1 != 0 && owner != exits {
            several |= others != 0 && other != owner;
            other = owner;
            others |= 1 << slot;
        }
    }
    let other = if several { NOBODY } else { other };
    BankKey { owner: exits, other, cpu: cpu_of_key(), dirty: state.dirty, others }
}
