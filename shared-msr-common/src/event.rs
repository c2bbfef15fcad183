//! Single events, as the kernel-side programs send them while they trace.

use crate::owner::{COMMAND_BYTES, Owner, Task};

/// A set that is about to do a WRMSR.
pub const SET_WRITTEN: u32 = 1;
/// A set that found the value in hardware already.
pub const SET_SKIPPED: u32 = 2;
/// The last set of this CPU turned out to have failed.
pub const SET_FAILED: u32 = 3;
/// A VM-exit; `code` is the reason.
pub const EXIT: u32 = 4;
/// A window closes.
pub const CLOSE: u32 = 5;
/// A slot is restored by that close.
pub const RESTORE: u32 = 6;
/// A `KVM_RUN` returns to the VMM.
pub const USERSPACE_EXIT: u32 = 7;
/// A vCPU's thread has ended.
pub const THREAD_END: u32 = 8;

/// One event.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds of the monotonic clock.
    pub time: u64,
    /// The thread that runs.
    pub task: Task,
    /// Whose values are in the hardware.
    pub owner: Owner,
    /// One of the constants above.
    pub kind: u32,
    /// The CPU.
    pub cpu: u32,
    /// Exit reason, KVM_EXIT_*, or errno.
    pub code: u32,
    /// One of the kinds of [`crate::cause`], for a close or a return.
    pub cause: u32,
    /// The slot.
    pub slot: u64,
    /// The host's value of it.
    pub host: u64,
    /// The value in hardware before.
    pub curr: u64,
    /// The value in hardware after.
    pub value: u64,
    /// Set: 1 when it opens the window. Close: nanoseconds since it was opened, 0 when that was not seen.
    pub window: u64,
    /// Close: exits since the window was opened.
    pub exits: u64,
    /// Bit per dirty slot after a set, at an exit, and before a close.
    pub dirty: u64,
    /// Name of the thread that runs.
    pub command: [u8; COMMAND_BYTES],
}
