//! What must hold on every CPU (the program checks itself in every report).

use shared_msr_common::SlotCounters;

use super::{Lost, cpu::CpuLedger};
use crate::{kernel::tables::Slot, probe::probes::Sight};

/// The invariants that do not hold on this CPU, each in a sentence.
pub(super) fn violations(cpu: &CpuLedger, list: &[Slot]) -> Vec<String> {
    if cpu.sight == Sight::WritesOnly {
        // Nothing is claimed that could be wrong.
        return Vec::new();
    }
    let mut violations = Vec::new();
    let number = cpu.cpu;
    let state = &cpu.state;
    let open = (state.registered_at_start + state.windows.opened).checked_sub(state.windows.closed);
    if open != Some(state.registered) || state.registered > 1 {
        violations.push(format!(
            "CPU {number}: {} windows open at start + {} opened - {} closed is not the {} open at the end",
            state.registered_at_start, state.windows.opened, state.windows.closed, state.registered
        ));
    }
    if state.windows.clean > state.windows.closed {
        violations.push(format!("CPU {number}: {} clean closes of {} closes", state.windows.clean, state.windows.closed));
    }
    for (position, (slot, counted)) in list.iter().zip(&state.slots).enumerate() {
        let place = format!("CPU {number}, {}", slot.name);
        let bit = |mask: u64| mask >> position & 1;
        let into = bit(state.dirty_at_start) + counted.made_dirty;
        let out = counted.performed + counted.made_clean + bit(state.dirty);
        if into != out {
            violations.push(format!(
                "{place}: it became dirty {into} times (at start included), and {out} times clean again or still dirty at \
                 the end"
            ));
        }
        if counted.deferred > state.exits {
            violations.push(format!("{place}: {} deferred of {} exits", counted.deferred, state.exits));
        }
        if counted.made_dirty + counted.made_clean > counted.written {
            violations.push(format!("{place}: more changes than the {} writes", counted.written));
        }
        if counted.performed > state.windows.closed {
            violations.push(format!("{place}: {} performed in {} closes", counted.performed, state.windows.closed));
        }
        if cpu.checked {
            let pending = u64::from(state.pending != 0 && state.pending_slot == position as u64);
            violations.extend(unlike_the_record(counted, bit(state.expected), pending).map(|why| format!("{place}: {why}")));
        }
    }
    violations
}

/// What the kernel's own record of WRMSRs contradicts. `outstanding` is 1 when the CPU was about to do one that is counted
/// already, `pending` when it is not known yet whether the last one faulted.
fn unlike_the_record(counted: &SlotCounters, outstanding: u64, pending: u64) -> Option<String> {
    let SlotCounters { written, performed, failed, wrmsrs, wrmsrs_failed, wrmsrs_unpaired, .. } = counted;
    let all = wrmsrs + wrmsrs_failed + outstanding == written + performed + failed;
    let faults = *wrmsrs_failed <= failed + pending && *failed <= wrmsrs_failed + outstanding;
    if !all || !faults {
        return Some(format!(
            "the kernel's own record has {wrmsrs} WRMSRs and {wrmsrs_failed} that faulted, but {written} were counted as \
             written, {performed} as performed and {failed} as failed"
        ));
    }
    // One that was on its way when counting began.
    (*wrmsrs_unpaired > 1).then(|| {
        format!("the kernel's own record has {wrmsrs_unpaired} WRMSRs on this CPU before any set or close was seen there")
    })
}

/// Why numbers are wrong though all sums agree: events were not heard of. Each in a sentence.
pub(super) fn of_hooks(lost: &Lost) -> Vec<String> {
    let Lost { missed_closes, hooks_off, list_changes, .. } = *lost;
    let sentences = [
        (missed_closes, "at N of the returns to the VMM the window that there must have been had not closed: hooks did not fire"),
        (
            hooks_off,
            "at N of the looks at the host's switches for hooks on functions they were off (kprobes/enabled, ftrace_enabled)",
        ),
        (list_changes, "N times KVM was loaded anew with another list of MSRs, so that slots are other MSRs than before"),
    ];
    let told = sentences.into_iter().filter(|(number, _)| *number > 0);
    told.map(|(number, sentence)| sentence.replacen('N', &number.to_string(), 1)).collect()
}
