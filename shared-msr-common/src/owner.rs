//! Whose MSR values they are: the keys and values of the maps of owners.
//!
//! An owner is a vCPU of a VM, as one thread runs it: a thread that runs three vCPUs is three owners, a vCPU that two threads run
//! is two. Owners are numbered, and no number is used again. 0 is nobody: it stands for what cannot be attributed.

/// A thread: `tgid << 32 | tid`, as `bpf_get_current_pid_tgid` returns it.
pub type Task = u64;

/// No thread, or not known.
pub const NO_TASK: Task = 0;

/// Number of an owner.
pub type Owner = u64;

/// Nobody, or not known.
pub const NOBODY: Owner = 0;

/// Somebody who found no place in the map of vCPUs: what is counted for it is nobody's, but it is not the same as not to know.
pub const REFUSED: Owner = u64::MAX;

/// In [`TallyKey::cpu`] and [`crate::CauseKey::cpu`] where CPUs are not told apart.
pub const EVERY_CPU: u64 = u64::MAX;

/// In [`Vcpu::id`] while it is not known.
pub const UNKNOWN_ID: u64 = u64::MAX;

/// In [`Vcpu::id`] where vCPUs of different numbers cannot be told apart otherwise.
pub const SEVERAL_IDS: u64 = u64::MAX - 1;

/// Bytes of a thread's name (`TASK_COMM_LEN`, include/linux/sched.h).
pub const COMMAND_BYTES: usize = 16;

/// Key of the map of vCPUs: what tells an owner from others.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VcpuKey {
    /// The thread.
    pub task: Task,
    /// Which of the threads that had this number, or of the programs that the thread executed: [`Thread::incarnation`].
    pub incarnation: u64,
    /// Address of its `struct kvm_vcpu`; 0 where it is not known which vCPU it is.
    pub vcpu: u64,
    /// When that vCPU was made, in nanoseconds of the monotonic clock; 0 where it was there before counting began, or that was not
    /// seen. KVM puts vCPUs where others were before.
    pub made: u64,
    /// Address of its `struct kvm`; 0 where it is not known.
    pub kvm: u64,
    /// `vcpu->vcpu_id`; [`UNKNOWN_ID`] where it cannot be read.
    pub id: u64,
}

/// Value of the map of vCPUs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vcpu {
    /// The number of this owner.
    pub owner: Owner,
    /// `vcpu->vcpu_id`, [`UNKNOWN_ID`] or [`SEVERAL_IDS`].
    pub id: u64,
}

/// What is known of a thread that ran a vCPU, or set its MSRs. Value of the map of threads, by [`Task`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// How many threads of this number, and programs of theirs, have ended before.
    pub incarnation: u64,
    /// 1 once the thread has ended, or executes another program.
    pub ended: u64,
    /// How many vCPUs it ran.
    pub vcpus: u64,
    /// The owner that it is now; [`NOBODY`] where that is not known, of a thread that runs several.
    pub current: Owner,
    /// The thread's name when it was first seen.
    pub command: [u8; COMMAND_BYTES],
}

/// Key of the map of tallies.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TallyKey {
    /// The owner.
    pub owner: Owner,
    /// The CPU, or [`EVERY_CPU`].
    pub cpu: u64,
}
