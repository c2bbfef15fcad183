//! What the kernel side and the user side of shared-msr share: keys and values of the maps, constants, and the arithmetic
//! that both do on them.
//!
//! Every type here has the same layout on both sides (`repr(C)`, only 64-bit fields, no padding).

#![no_std]

pub mod accounting;
pub mod cause;
mod cpu_state;
pub mod event;
pub mod lookup;
pub mod owner;
pub mod reasons;
pub mod tally;

pub use cause::{CauseKey, CauseTally};
pub use cpu_state::{CpuState, SlotCounters};
pub use owner::{Owner, TallyKey, Task, Thread, Vcpu, VcpuKey};
pub use reasons::{BankKey, ReasonCounters};
pub use tally::{SlotTally, Tally, WindowTally};

/// The most slots KVM has: `KVM_MAX_NR_USER_RETURN_MSRS` (arch/x86/kvm/x86.c since 5.10; `KVM_NR_SHARED_MSRS` before).
pub const MAX_SLOTS: usize = 16;

/// At and above this the programs count nothing, see [`CpuState::vcpu`]: no address of the kernel with it added is one.
pub const STOPPED: u64 = 1 << 62;

/// How many bytes of the kernel's per-CPU structure the programs copy, at most. The structure
/// (`struct kvm_user_return_msrs`, before 5.10 `struct kvm_shared_msrs`) has 288 bytes in Linux 4.4 to 7.3; the rest
/// leaves room for a longer header.
pub const STRUCTURE_BYTES: usize = 320;

/// How many bytes one run of the peek programs copies.
pub const PEEK_BYTES: usize = 512;

/// What a peek program is to copy, where it cannot be given arguments.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PeekQuestion {
    /// The number of the run that answers it. One that has been answered is not answered again.
    pub run: u64,
    /// From where.
    pub address: u64,
    /// How many bytes.
    pub length: u64,
}

/// What a peek program copied, and how that went.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PeekBuffer {
    /// The number of the run that wrote this, as user space gave it: a run that did not happen leaves another one.
    pub run: u64,
    /// The address that was asked for.
    pub address: u64,
    /// 0, or what the helper returned: a negative errno. The helper zeroes the bytes when it fails.
    pub status: i64,
    /// The bytes, from the address that was asked for.
    pub bytes: [u8; PEEK_BYTES],
}

#[cfg(feature = "user")]
mod user {
    // SAFETY: `repr(C)`, only integers, no padding: every bit pattern is a value.
    unsafe impl aya::Pod for super::CpuState {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::ReasonCounters {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::BankKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::VcpuKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Vcpu {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Thread {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::TallyKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Tally {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::CauseKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::CauseTally {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::event::Event {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::PeekQuestion {}
    // SAFETY: as above; the bytes fill whole words.
    unsafe impl aya::Pod for super::PeekBuffer {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::lookup::Question {}
}
