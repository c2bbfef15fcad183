//! Numbers that change while the programs run, and that the hot path reads: a load, without the lookup that a map would ask for.

use core::{cell::UnsafeCell, ptr::read_volatile};

use shared_msr_common::accounting::Books as _;

use crate::books::Maps;

/// A number in a map's value: every CPU sees the same.
#[repr(transparent)]
pub(crate) struct Live(UnsafeCell<u64>);

// SAFETY: an aligned number that is only ever read whole, added to atomically, or written whole by user space.
unsafe impl Sync for Live {}

/// 1 while measuring, else 0. User space switches it for all CPUs at once, so that all kinds of events are counted from one
/// moment to another one. The only value of its map.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.running")]
static RUNNING: Live = Live(UnsafeCell::new(0));

/// How many vCPU threads have ended: with each, all CPUs look anew at who makes their exits, since the kernel may give the
/// vCPU's memory to another one. The only value of its map.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.ended")]
pub(crate) static ENDED: Live = Live(UnsafeCell::new(0));

impl Live {
    #[inline(always)]
    pub(crate) fn load(&self) -> u64 {
        // SAFETY: the map's own memory; volatile, because others write it at any time.
        unsafe { read_volatile(self.0.get()) }
    }

    #[inline(always)]
    pub(crate) fn increase(&self) {
        let number = self.0.get();
        // SAFETY: the map's own memory, changed atomically.
        Maps::add(unsafe { &mut *number }, 1);
    }
}

/// 1 while measuring, else 0: a number that can be added.
#[inline(always)]
pub(crate) fn running() -> u64 {
    RUNNING.load()
}
