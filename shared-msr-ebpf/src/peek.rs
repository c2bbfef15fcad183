//! Kernel memory for user space: the list of MSRs and the per-CPU structures.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::generated::bpf_probe_read_kernel,
    macros::{map, raw_tracepoint},
    maps::Array,
    programs::RawTracePointContext,
};
use shared_msr_common::{PEEK_BYTES, PeekBuffer};

/// What the last run copied.
#[map]
static PEEK: Array<PeekBuffer> = Array::with_max_entries(1, 0);

/// Copies `arg1` bytes of kernel memory from address `arg0` into `PEEK`. Never attached: user space runs it with
/// `BPF_PROG_TEST_RUN`. Returns 0, or what the helper returned (`-EFAULT` for an address that is not mapped).
#[raw_tracepoint]
pub(crate) fn shared_msr_peek(context: RawTracePointContext) -> i32 {
    let address: u64 = context.arg(0);
    let length: u64 = context.arg(1);
    let Some(buffer) = PEEK.get_ptr_mut(0) else { return -1 };
    if length > PEEK_BYTES as u64 {
        return -1;
    }
    // SAFETY: at most PEEK_BYTES go into a buffer of that size; the helper checks the source.
    let result = unsafe { bpf_probe_read_kernel(buffer.cast::<c_void>(), length as u32, address as *const c_void) };
    result as i32
}
