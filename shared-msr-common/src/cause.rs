//! Why windows close, and who pays.

use crate::{
    MAX_SLOTS,
    owner::{COMMAND_BYTES, Owner},
    tally::add_all,
};

/// The owner's thread went back to its VMM; the code is `run->exit_reason`, KVM_EXIT_*.
pub const USERSPACE_EXIT: u32 = 1;
/// The owner's thread went back to its VMM because `KVM_RUN` failed; the code is the errno.
pub const USERSPACE_ERROR: u32 = 2;
/// The owner's thread went back to user mode without a `KVM_RUN` that returned on this CPU: another ioctl, mostly.
pub const OTHER_CALL: u32 = 3;
/// Another task went back to user mode on that CPU.
pub const FOREIGN: u32 = 4;
/// Nobody went back to user mode: KVM gave the CPU up (offline, last VM gone, suspend).
pub const DROP: u32 = 5;
/// It is not known: the close left no trace of its own, or nobody knows whose values they were.
pub const UNKNOWN: u32 = 6;

/// Why one CPU's window closed. Also key of the map of causes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CauseKey {
    /// Whose values were in the hardware.
    pub owner: Owner,
    /// The process that ran the restore (tgid); 0 where that was not seen.
    pub payer: u64,
    /// The CPU, or [`crate::owner::EVERY_CPU`].
    pub cpu: u64,
    /// One of the constants above.
    pub kind: u32,
    /// KVM_EXIT_* or errno, else 0.
    pub code: u32,
}

impl CauseKey {
    /// Before the first close.
    pub const NONE: Self = Self { owner: 0, payer: 0, cpu: 0, kind: 0, code: 0 };

    /// The process that ran the restore; 0 where that was not seen.
    pub const fn payer_process(&self) -> u32 {
        // A tgid has 22 bits at most.
        self.payer as u32
    }
}

/// What is counted for one cause.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CauseTally {
    /// Windows closed.
    pub closed: u64,
    /// Those that closed without a dirty slot.
    pub clean: u64,
    /// Host values written back, per slot.
    pub performed: [u64; MAX_SLOTS],
    /// Name of the thread that paid, when the row was made.
    pub command: [u8; COMMAND_BYTES],
}

impl CauseTally {
    /// Nothing counted yet.
    pub const EMPTY: Self = Self { closed: 0, clean: 0, performed: [0; MAX_SLOTS], command: [0; COMMAND_BYTES] };

    /// Adds another one; the name stays, unless there is none yet.
    pub fn add(&mut self, other: &Self) {
        self.closed += other.closed;
        self.clean += other.clean;
        add_all(&mut self.performed, &other.performed);
        if self.command == [0; COMMAND_BYTES] {
            self.command = other.command;
        }
    }
}
