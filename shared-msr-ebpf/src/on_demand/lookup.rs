//! Addresses of symbols for user space.

use aya_ebpf::{
    helpers::generated::bpf_kallsyms_lookup_name,
    macros::{map, raw_tracepoint},
    maps::Array,
    programs::RawTracePointContext,
};
use shared_msr_common::lookup::{NAME_BYTES, QUESTIONS, Question};

/// Names to look up, the first empty one ends them; and what was found.
#[map]
static LOOKUP: Array<[Question; QUESTIONS]> = Array::with_max_entries(1, 0);

/// Answers the questions. User space loads it as `BPF_PROG_TYPE_SYSCALL`, the only type that may call the helper; aya-obj knows no
/// section of that kind.
#[raw_tracepoint]
pub(crate) fn shared_msr_lookup(_context: RawTracePointContext) -> i32 {
    let Some(questions) = LOOKUP.get_ptr_mut(0) else { return 0 };
    // SAFETY: the map's own memory, of one process that makes one run at a time.
    let questions = unsafe { &mut *questions };
    for question in questions {
        if question.name[0] == 0 {
            break;
        }
        let mut address = 0;
        // SAFETY: the name is an array of that size, and ends with a zero or is refused; the result is a place of its own.
        question.returned =
            unsafe { bpf_kallsyms_lookup_name(question.name.as_ptr().cast(), NAME_BYTES as i32, 0, &raw mut address) };
        question.address = address;
    }
    0
}
