//! What user space tells the programs before they are loaded.

use aya_ebpf::Global;
use shared_msr_common::{
    MAX_SLOTS,
    accounting::{SetForm, Shape, Watched},
};

/// How many slots KVM has on this host. These globals are given by user space before the programs are loaded, and never
/// change: the verifier removes what they switch off.
#[unsafe(no_mangle)]
pub(crate) static SLOTS: Global<u64> = Global::new(0);
/// The MSRs to look for, by slot; zeros behind the last.
#[unsafe(no_mangle)]
pub(crate) static MSRS: Global<[u32; MAX_SLOTS]> = Global::new([0; MAX_SLOTS]);
/// Offset of `registered` in the kernel's structure, in bytes.
#[unsafe(no_mangle)]
static REGISTERED_OFFSET: Global<u64> = Global::new(0);
/// Offset of `values`, in bytes, a multiple of 8. An element is `{ u64 host; u64 curr; }`: user space checked that.
#[unsafe(no_mangle)]
static VALUES_OFFSET: Global<u64> = Global::new(0);
/// Not 0 where the setter is of the form up to 5.4 ([`SetForm::Whole`]).
#[unsafe(no_mangle)]
static SETS_WHOLE: Global<u64> = Global::new(0);
/// Not 0 where sets and closes are told from WRMSRs alone ([`Watched::Writes`]).
#[unsafe(no_mangle)]
static WATCHES_WRITES: Global<u64> = Global::new(0);
/// Address of `kvm_on_user_return`; with it KVM's notifier is told from any other.
#[unsafe(no_mangle)]
pub(crate) static CLOSER: Global<u64> = Global::new(0);
/// Address of the pointer to the per-CPU structures (up to 6.18); 0 where they are static.
#[unsafe(no_mangle)]
pub(crate) static STRUCTURES_POINTER: Global<u64> = Global::new(0);
/// The per-CPU variable `kvm_running_vcpu` (virt/kvm/kvm_main.c, since 5.6, 7495e22bb165); 0 where it is not known.
#[unsafe(no_mangle)]
pub(crate) static RUNNING_VCPU: Global<u64> = Global::new(0);
/// Offset of `kvm` in `struct kvm_vcpu`: its first member since 2.6.20, checked where BTF tells.
#[unsafe(no_mangle)]
pub(crate) static VCPU_KVM_OFFSET: Global<u64> = Global::new(0);
/// Offset of `vcpu_id` in `struct kvm_vcpu`; 0 where it is not known.
#[unsafe(no_mangle)]
pub(crate) static VCPU_ID_OFFSET: Global<u64> = Global::new(0);
/// Offset of `arch.last_vmentry_cpu` in `struct kvm_vcpu`; 0 where it is not known.
#[unsafe(no_mangle)]
pub(crate) static LAST_ENTRY_CPU_OFFSET: Global<u64> = Global::new(0);
/// Not 0 where owners are told apart by CPU as well.
#[unsafe(no_mangle)]
static BY_CPU: Global<u64> = Global::new(0);
/// Not 0 where exits are counted by reason.
#[unsafe(no_mangle)]
static BY_REASON: Global<u64> = Global::new(0);
/// Not 0 where closes are timed.
#[unsafe(no_mangle)]
static TIMING: Global<u64> = Global::new(0);
/// Not 0 where each event is sent to user space.
#[unsafe(no_mangle)]
static TRACING: Global<u64> = Global::new(0);

/// The kernel's structure, as the programs have to read it.
#[inline(always)]
pub(crate) fn shape() -> Shape {
    let form = if SETS_WHOLE.load() == 0 { SetForm::Merged } else { SetForm::Whole };
    Shape { slots: SLOTS.load(), registered: REGISTERED_OFFSET.load(), values: VALUES_OFFSET.load(), watched: watched(), form }
}

/// Which events the programs are told of.
#[inline(always)]
pub(crate) fn watched() -> Watched {
    if WATCHES_WRITES.load() == 0 { Watched::Calls } else { Watched::Writes }
}

#[inline(always)]
pub(crate) fn by_cpu() -> bool {
    BY_CPU.load() != 0
}

#[inline(always)]
pub(crate) fn by_reason() -> bool {
    BY_REASON.load() != 0
}

#[inline(always)]
pub(crate) fn timing() -> bool {
    TIMING.load() != 0
}

#[inline(always)]
pub(crate) fn tracing() -> bool {
    TRACING.load() != 0
}
