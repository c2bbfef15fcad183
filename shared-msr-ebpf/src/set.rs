//! Sets: `int kvm_set_user_return_msr(unsigned slot, u64 value, u64 mask)`, before 5.10 `kvm_set_shared_msr`
//! (arch/x86/kvm/x86.c, from 7.3 msrs.c; the signature never changed).

use aya_ebpf::{
    EbpfContext,
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};

use crate::state;

/// Accounts one set at the entry of the setter, where `curr` still tells whether a WRMSR will be done.
#[kprobe]
pub(crate) fn shared_msr_set(context: ProbeContext) -> u32 {
    if let (Some(slot), Some(value), Some(mask)) = (context.arg::<u64>(0), context.arg::<u64>(1), context.arg::<u64>(2)) {
        account(&context, slot, value, mask);
    }
    0
}

/// The same, by fentry.
#[fentry]
pub(crate) fn shared_msr_set_fentry(context: FEntryContext) -> i32 {
    account(&context, context.arg(0), context.arg(1), context.arg(2));
    0
}

#[inline(always)]
fn account(context: &impl EbpfContext, slot: u64, value: u64, mask: u64) {
    if let Some(state) = state::begin() {
        // The kernel's parameter is 32 bits wide; the upper half of the register is not defined.
        state::set(context, state, slot & 0xffff_ffff, value, mask);
        state::finish(state);
    }
}
