//! Kernel memory for user space: the list of MSRs and the per-CPU structures.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::generated::bpf_probe_read_kernel,
    macros::{map, perf_event, raw_tracepoint},
    maps::Array,
    programs::{PerfEventContext, RawTracePointContext},
};
use shared_msr_common::{PEEK_BYTES, PeekBuffer, PeekQuestion};

/// What the last run copied.
#[map]
static PEEK: Array<PeekBuffer> = Array::with_max_entries(1, 0);
/// What the next run is to copy, if it is not told by arguments.
#[map]
static PEEK_QUESTION: Array<PeekQuestion> = Array::with_max_entries(1, 0);

/// `E2BIG` (include/uapi/asm-generic/errno-base.h).
const E2BIG: i64 = 7;

/// Copies `arg1` bytes of kernel memory from address `arg0` into `PEEK`, as run number `arg2`. Never attached: user space runs it
/// with `BPF_PROG_TEST_RUN`.
///
/// The outcome travels in the buffer: `#[raw_tracepoint]` of aya-ebpf-macros drops what this function returns and returns 0.
#[raw_tracepoint]
pub(crate) fn shared_msr_peek(context: RawTracePointContext) -> i32 {
    let Some(buffer) = PEEK.get_ptr_mut(0) else { return 0 };
    // SAFETY: the map's own memory, of one process that makes one run at a time.
    let buffer = unsafe { &mut *buffer };
    answer(buffer, PeekQuestion { run: context.arg(2), address: context.arg(0), length: context.arg(1) });
    0
}

/// The same as `PEEK_QUESTION` says, when a page fault comes in the thread that asks.
///
/// Other faults of that thread come here as well: what has been answered stays as it is.
#[perf_event]
pub(crate) fn shared_msr_peek_fault(_context: PerfEventContext) -> u32 {
    let (Some(question), Some(buffer)) = (PEEK_QUESTION.get(0), PEEK.get_ptr_mut(0)) else { return 0 };
    // SAFETY: the map's own memory; the one thread that reads it is the one that this interrupts.
    let buffer = unsafe { &mut *buffer };
    if buffer.run != question.run {
        answer(buffer, *question);
    }
    0
}

/// Copies, and says how that went.
#[inline(always)]
fn answer(buffer: &mut PeekBuffer, question: PeekQuestion) {
    let PeekQuestion { run, address, length } = question;
    buffer.status = if length > PEEK_BYTES as u64 {
        -E2BIG
    } else {
        let bytes = buffer.bytes.as_mut_ptr().cast::<c_void>();
        // SAFETY: at most PEEK_BYTES go into an array of that size; the helper checks the source.
        unsafe { bpf_probe_read_kernel(bytes, length as u32, address as *const c_void) }
    };
    buffer.address = address;
    buffer.run = run;
}
