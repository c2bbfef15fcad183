//! WRMSRs: the raw tracepoint `write_msr(unsigned msr, u64 val, int failed)` (arch/x86/lib/msr.c; there since 4.9). It fires
//! for every WRMSR of the host, after it was done.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use shared_msr_common::MAX_SLOTS;

use crate::{
    globals::{MSRS, SLOTS},
    state,
};

/// Accounts one WRMSR, where no function of KVM can be observed.
#[raw_tracepoint]
pub(crate) fn shared_msr_write(context: RawTracePointContext) -> i32 {
    if let Some(slot) = slot_of(context.arg(0))
        && let Some(state) = state::begin()
    {
        state::write(&context, state, slot, context.arg(1), context.arg::<i32>(2) != 0);
        state::finish(state);
    }
    0
}

/// Counts one WRMSR, to check what the other programs have counted, or where nothing more can be told.
#[raw_tracepoint]
pub(crate) fn shared_msr_check(context: RawTracePointContext) -> i32 {
    if let Some(slot) = slot_of(context.arg(0))
        && let Some(state) = state::begin()
    {
        state::check(state, slot, context.arg(1), context.arg::<i32>(2) != 0);
        state::finish(state);
    }
    0
}

/// The slot of an MSR; none for the many others that a host writes.
#[inline(always)]
fn slot_of(msr: u32) -> Option<u64> {
    let msrs = MSRS.load();
    let slots = SLOTS.load();
    (0..MAX_SLOTS as u64).find(|slot| *slot < slots && msrs[*slot as usize] == msr)
}
