//! The return of `kvm_on_user_return`: how long the restore took. Only with timing.

use aya_ebpf::{
    macros::{fexit, kretprobe},
    programs::{FExitContext, RetProbeContext},
};

use crate::state;

/// Ends the timing of a close.
#[kretprobe]
pub(crate) fn shared_msr_restored(_context: RetProbeContext) -> u32 {
    note();
    0
}

/// The same, by fexit.
#[fexit]
pub(crate) fn shared_msr_restored_fexit(_context: FExitContext) -> i32 {
    note();
    0
}

#[inline(always)]
fn note() {
    if let Some(state) = state::begin() {
        state::restored(state);
        state::finish(state);
    }
}
