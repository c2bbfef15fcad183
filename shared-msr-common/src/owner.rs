//! Whose MSR values they are: the keys and values of the maps of owners.
//!
//! An owner is told by the thread that runs its vCPU: `tgid << 32 | tid`, as `bpf_get_current_pid_tgid` returns it. 0 is
//! nobody: it stands for what cannot be attributed.

/// The thread that runs a vCPU: `tgid << 32 | tid`.
pub type Task = u64;

/// Nobody, or not known.
pub const NOBODY: Task = 0;

/// In [`TallyKey::cpu`] and [`crate::CauseKey::cpu`] where CPUs are not told apart.
pub const EVERY_CPU: u64 = u64::MAX;

/// In [`Vcpu::id`] while no exit of it was seen, or where it cannot be read.
pub const UNKNOWN_ID: u64 = u64::MAX;

/// Bytes of a thread's name (`TASK_COMM_LEN`, include/linux/sched.h).
pub const COMMAND_BYTES: usize = 16;

/// What is known of a vCPU's thread. Value of the map of vCPUs, by [`Task`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vcpu {
    /// `vcpu->vcpu_id`, or [`UNKNOWN_ID`].
    pub id: u64,
    /// 1 once the thread has ended.
    pub exited: u64,
    /// The thread's name when it was first seen.
    pub command: [u8; COMMAND_BYTES],
}

/// Key of the map of tallies.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TallyKey {
    /// The owner.
    pub task: Task,
    /// The CPU, or [`EVERY_CPU`].
    pub cpu: u64,
}
