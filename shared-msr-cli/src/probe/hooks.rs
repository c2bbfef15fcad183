//! What the programs of one measurement are attached to.

use serde::{Deserialize, Serialize};

use crate::kernel::kprobes;

/// Which hook observes which event, as `kind:name`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Hooks {
    /// Sets; none where they cannot be told.
    pub set: Option<String>,
    /// Closes; none where they cannot be told.
    pub close: Option<String>,
    /// Exits.
    pub exit: String,
    /// Returns to the VMM.
    pub userspace_exit: String,
    /// WRMSRs, to check the others, or where they cannot be told.
    pub check: Option<String>,
    /// KVM gives a CPU up; none where that cannot be told from a return to user mode.
    pub drop: Option<String>,
    /// The restore of a close is done; none without timing.
    pub restored: Option<String>,
    /// Ends of threads.
    pub thread_end: String,
    /// Threads that execute another program.
    pub exec: String,
    /// vCPUs that are made; none where that is not seen, so that one that KVM puts where another one was can be taken for that.
    pub vcpu_made: Option<String>,
    /// Exits, to check the others.
    pub check_exit: Option<String>,
}

impl Hooks {
    /// All of them, each with what it observes.
    pub fn named(&self) -> [(&'static str, Option<&str>); 11] {
        [
            ("set", self.set.as_deref()),
            ("close", self.close.as_deref()),
            ("exit", Some(&self.exit)),
            ("userspace exit", Some(&self.userspace_exit)),
            ("thread end", Some(&self.thread_end)),
            ("exec", Some(&self.exec)),
            ("vCPU made", self.vcpu_made.as_deref()),
            ("drop", self.drop.as_deref()),
            ("restored", self.restored.as_deref()),
            ("check", self.check.as_deref()),
            ("check of exits", self.check_exit.as_deref()),
        ]
    }

    /// Whether a switch of the host with which hooks on functions are turned off while they stay attached is off, of a kind that is in
    /// use; as far as the switches can be read.
    pub fn are_switched_off(&self) -> bool {
        let uses = |kind: &str| self.named().iter().any(|(_, hook)| hook.is_some_and(|hook| hook.starts_with(kind)));
        let kprobes = uses("kprobe:") || uses("kretprobe:");
        let ftrace = uses("fentry:") || uses("fexit:");
        (kprobes && kprobes::check().is_err()) || (ftrace && kprobes::check_ftrace().is_err())
    }
}
