//! The numbers that change for all CPUs while the programs run: a load, without the lookup that another map would ask for. The first
//! is read on the hot path.

use core::{
    cell::UnsafeCell,
    ptr::{read_volatile, write_volatile},
};

use shared_msr_common::{STOPPED, accounting::Books as _};

use crate::books::Maps;

/// How many threads of vCPUs have ended and vCPUs been made, or at least [`STOPPED`] while nothing is measured. The only value of its
/// map.
///
/// Each exit's vCPU is compared with the last one's, both with this number added: so one comparison finds out whether the vCPU is
/// another one, whether the kernel may have given its memory to another one, and whether exits are counted at all. User space
/// switches counting for all CPUs at once: all kinds of events are counted from one moment to another one.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.epoch")]
static EPOCH: Live = Live(UnsafeCell::new(0));

/// What is added to a CPU's offset to get the address of its structure; 0 where it is not known. KVM's vendor module has its
/// structures elsewhere when it is loaded anew (up to 6.18).
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.base")]
static BASE: Live = Live(UnsafeCell::new(0));

/// A number in a map's value: every CPU sees the same.
#[repr(transparent)]
struct Live(UnsafeCell<u64>);

// SAFETY: an aligned number that is only ever read whole, added to atomically, or written whole by user space.
unsafe impl Sync for Live {}

/// The number itself.
#[inline(always)]
pub(crate) fn epoch() -> u64 {
    // SAFETY: the map's own memory; volatile, because others write it at any time.
    unsafe { read_volatile(EPOCH.0.get()) }
}

/// Whether events are counted.
#[inline(always)]
pub(crate) fn running() -> bool {
    epoch() < STOPPED
}

/// Where the structures are, without a CPU's offset.
#[inline(always)]
pub(crate) fn base() -> u64 {
    // SAFETY: as above.
    unsafe { read_volatile(BASE.0.get()) }
}

/// The structures are elsewhere from now on, on all CPUs.
#[inline(always)]
pub(crate) fn move_base(base: u64) {
    // SAFETY: the map's own memory; an aligned number, written whole.
    unsafe { write_volatile(BASE.0.get(), base) };
}

/// What was found out about vCPUs may not hold any more: all have to be looked up anew.
#[inline(always)]
pub(crate) fn next_epoch() {
    let number = EPOCH.0.get();
    // SAFETY: the map's own memory, changed atomically.
    Maps::add(unsafe { &mut *number }, 1);
}
