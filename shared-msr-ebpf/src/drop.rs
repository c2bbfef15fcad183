//! KVM gives a CPU up: `kvm_arch_disable_virtualization_cpu`, up to 6.11 `kvm_arch_hardware_disable` (arch/x86/kvm/x86.c).
//! It drops the notifier, so that the close is nobody's return to user mode: the CPU goes offline, the last VM is gone, the
//! host suspends or shuts down.

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};

use crate::state;

/// Notes it at the entry of the function.
#[kprobe]
pub(crate) fn shared_msr_drop(_context: ProbeContext) -> u32 {
    note();
    0
}

/// The same, by fentry.
#[fentry]
pub(crate) fn shared_msr_drop_fentry(_context: FEntryContext) -> i32 {
    note();
    0
}

#[inline(always)]
fn note() {
    if let Some(state) = state::begin() {
        state::drops(state);
        state::finish(state);
    }
}
