//! Closes: `static void kvm_on_user_return(struct user_return_notifier *urn)` (arch/x86/kvm/x86.c, from 7.3 msrs.c), and
//! `void user_return_notifier_unregister(struct user_return_notifier *urn)` (kernel/user-return-notifier.c), which it calls
//! before it restores.
//!
//! `urn` is the first member of the per-CPU structure since 2.6.33, so the argument is the structure's address.

use aya_ebpf::{
    EbpfContext,
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};

use crate::state::{self, CloseAt};

/// Accounts one close at entry, before the restores: `host != curr` still stands for each slot about to be restored.
#[kprobe]
pub(crate) fn shared_msr_close(context: ProbeContext) -> u32 {
    if let Some(structure) = context.arg::<u64>(0) {
        account(&context, structure, CloseAt::Closer);
    }
    0
}

/// The same, by fentry.
#[fentry]
pub(crate) fn shared_msr_close_fentry(context: FEntryContext) -> i32 {
    account(&context, context.arg(0), CloseAt::Closer);
    0
}

/// The same one call later, where KVM's own functions have no BTF.
#[fentry]
pub(crate) fn shared_msr_unregister_fentry(context: FEntryContext) -> i32 {
    account(&context, context.arg(0), CloseAt::Unregister);
    0
}

#[inline(always)]
fn account(context: &impl EbpfContext, structure: u64, at: CloseAt) {
    if let Some(state) = state::begin() {
        state::close(context, state, structure, at);
        state::finish(state);
    }
}
