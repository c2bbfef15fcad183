//! Single events, sent only while tracing; the verifier removes all of this otherwise.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_ktime_get_ns},
    macros::map,
    maps::{PerCpuArray, RingBuf},
};
use shared_msr_common::{
    CpuState, MAX_SLOTS,
    cause::CauseKey,
    event::{self, Event},
};

use crate::{
    books::{command, this_cpu},
    globals::tracing,
};

/// The events. User space says how large it is.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);
/// Events that found no room, per CPU.
#[map]
static EVENTS_LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// `BPF_RB_NO_WAKEUP` (include/uapi/linux/bpf.h): user space looks from time to time. If each event woke it, its own returns to
/// user mode would be what the trace is full of.
const NO_WAKEUP: u64 = 1;

/// Sends an event with these particulars.
#[inline(always)]
fn send(state: &CpuState, kind: u32, fill: impl FnOnce(&mut Event)) {
    let Some(mut room) = EVENTS.reserve::<Event>(0) else {
        if let Some(lost) = EVENTS_LOST.get_ptr_mut(0) {
            // SAFETY: this CPU's own value; tracing programs do not interrupt each other.
            unsafe { *lost += 1 };
        }
        return;
    };
    let event = room.write(Event {
        time: now(),
        task: bpf_get_current_pid_tgid(),
        owner: state.window_owner,
        kind,
        cpu: this_cpu() as u32,
        dirty: state.dirty,
        command: command(),
        ..Event::default()
    });
    fill(event);
    room.submit(NO_WAKEUP);
}

/// A set, after it was accounted.
#[inline(always)]
pub(crate) fn set(state: &CpuState, written: bool, opens: bool, slot: u64, values: (u64, u64), value: u64) {
    if tracing() {
        send(state, if written { event::SET_WRITTEN } else { event::SET_SKIPPED }, |event| {
            event.slot = slot;
            (event.host, event.curr) = values;
            event.value = value;
            event.window = u64::from(opens);
        });
    }
}

/// The last set has failed.
#[inline(always)]
pub(crate) fn failed(state: &CpuState) {
    if tracing() {
        send(state, event::SET_FAILED, |event| {
            event.slot = state.pending_slot;
            event.value = state.pending_value;
        });
    }
}

/// An exit.
#[inline(always)]
pub(crate) fn exit(state: &CpuState, reason: Option<u32>) {
    if tracing() {
        send(state, event::EXIT, |event| {
            event.owner = state.exit_owner;
            event.code = reason.unwrap_or(u32::MAX);
            event.slot = u64::from(reason.is_some());
        });
    }
}

/// A close, before it is accounted. `slots` of the structure are restored.
#[inline(always)]
pub(crate) fn close(state: &CpuState, cause: &CauseKey, values: impl Fn(u64) -> (u64, u64)) {
    if !tracing() {
        return;
    }
    send(state, event::CLOSE, |event| {
        (event.cause, event.code) = (cause.kind, cause.code);
        if state.opened_at != 0 {
            event.window = event.time - state.opened_at;
            event.exits = state.exits - state.exits_at_open;
        }
    });
    for slot in 0..MAX_SLOTS as u64 {
        if (state.dirty >> slot) & 1 != 0 {
            let (host, curr) = values(slot);
            send(state, event::RESTORE, |event| {
                (event.slot, event.host, event.curr, event.value) = (slot, host, curr, host);
            });
        }
    }
}

/// A `KVM_RUN` that returns.
#[inline(always)]
pub(crate) fn userspace_exit(state: &CpuState) {
    if tracing() {
        send(state, event::USERSPACE_EXIT, |event| {
            event.owner = state.exit_owner;
            event.cause = (state.returning_with >> 32) as u32;
            event.code = state.returning_with as u32;
        });
    }
}

/// Nanoseconds of the monotonic clock.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_ns() }
}
