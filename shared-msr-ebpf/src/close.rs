//! Closes: `static void kvm_on_user_return(struct user_return_notifier *urn)` (arch/x86/kvm/x86.c, from 7.3 msrs.c).

use aya_ebpf::{macros::kprobe, programs::ProbeContext};

use crate::state;

/// Accounts one close at entry, before the restores: `host != curr` still stands for each slot about to be restored.
///
/// `urn` is the first member of the per-CPU structure since 2.6.33, so the argument is the structure's address.
#[kprobe]
pub(crate) fn shared_msr_close(context: ProbeContext) -> u32 {
    if let Some(structure) = context.arg::<u64>(0)
        && let Some(state) = state::begin()
    {
        state::close(&context, state, structure);
        state::finish(state);
    }
    0
}
