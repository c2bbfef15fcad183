//! VM-exits once more, with `--verify`: by the thread that runs alone, without what the other programs know of vCPUs and owners.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{map, raw_tracepoint},
    maps::HashMap,
    programs::RawTracePointContext,
};
use shared_msr_common::Task;

use crate::{books::MAKE, live::running, state::CPU_STATE};

/// Exits by the thread that ran. User space says how many there can be.
#[map]
static THREAD_EXITS: HashMap<Task, u64> = HashMap::with_max_entries(1, 0);

/// Counts one exit, after it was counted by the program that it checks.
#[raw_tracepoint]
pub(crate) fn shared_msr_check_exit(_context: RawTracePointContext) -> i32 {
    if running()
        && let Some(state) = CPU_STATE.get_ptr_mut(0)
        // SAFETY: the map's own memory; KVM tells of exits with preemption off, so nothing else on this CPU writes it.
        && unsafe { &mut *state }.check_exit()
    {
        let task = bpf_get_current_pid_tgid();
        match THREAD_EXITS.get_ptr_mut(task) {
            // SAFETY: the map's own memory. A thread runs on one CPU at a time.
            Some(exits) => unsafe { *exits += 1 },
            // Where there is no place, it is missing in the comparison, and said so.
            None => drop(THREAD_EXITS.insert(task, 1, MAKE)),
        }
    }
    0
}
