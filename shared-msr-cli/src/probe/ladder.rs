//! Which hooks can observe an event, best first. Which of them this kernel offers, only trying tells.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::fentry::Place;
use crate::{kernel::symbols::CLOSER, obstacle::Obstacle};

/// vmlinux, kernel/user-return-notifier.c; called by `kvm_on_user_return` before it restores (since 4.9).
pub(super) const UNREGISTER: &str = "user_return_notifier_unregister";

/// Follows the tracepoint's arguments to the reason; needs to know the way.
pub(super) const REASON: &str = "shared_msr_reason";

/// Which step of the ladder observes sets and closes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ProbeChoice {
    /// The best that this kernel offers
    #[default]
    Auto,
    /// fentry on KVM's functions, through BTF
    Fentry,
    /// kprobes on KVM's functions
    Kprobe,
    /// No function, only the kernel's tracepoint of WRMSRs
    Tracepoint,
}

/// kernel/exit.c: every thread of the host.
const THREAD_END: &str = "sched_process_exit";

/// fs/exec.c: every program of the host.
const EXEC: &str = "sched_process_exec";

/// arch/x86/kvm: KVM sets the time of each vCPU that it makes.
const VCPU_MADE: &str = "kvm_write_tsc_offset";

/// What the choice of hooks depends on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// Name of KVM's setter; empty where it has none.
    pub(super) setter: &'static str,
    /// Name of the function that gives a CPU up.
    pub(super) dropper: &'static str,
    /// Whether the vCPU is known to be the first argument of `trace_kvm_exit`.
    pub(super) vcpu_is_first: bool,
    /// Whether closes are timed, from the entry of `kvm_on_user_return` on.
    pub(super) timing: bool,
    /// Whether programs on the arguments of tracepoints can be preempted.
    pub(super) preemptible: bool,
}

/// What is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Calls of the setter.
    Set,
    /// Calls of `kvm_on_user_return`.
    Close,
    /// VM-exits.
    Exit,
    /// VM-exits by reason, instead.
    ExitReason,
    /// Returns to the VMM.
    UserspaceExit,
    /// KVM gives a CPU up.
    Drop,
    /// The restore of a close is done.
    Restored,
    /// Ends of threads.
    ThreadEnd,
    /// Threads that execute another program.
    Exec,
    /// vCPUs that are made.
    VcpuMade,
    /// WRMSRs.
    Write,
    /// WRMSRs, to check the others.
    Check,
    /// VM-exits, to check the others.
    CheckExit,
}

impl Event {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Close => "close",
            Self::Exit => "exit",
            Self::ExitReason => "exit's reason",
            Self::UserspaceExit => "userspace exit",
            Self::Drop => "drop",
            Self::Restored => "restored",
            Self::ThreadEnd => "thread end",
            Self::Exec => "exec",
            Self::VcpuMade => "vCPU made",
            Self::Write => "write",
            Self::Check => "check",
            Self::CheckExit => "check of exits",
        }
    }
}

/// A program and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    /// Entry of a function that BTF knows.
    Fentry { program: &'static str, place: Place, function: &'static str },
    /// Return of a function that BTF knows.
    Fexit { program: &'static str, place: Place, function: &'static str },
    /// Entry or, by the program's kind, return of a function that kallsyms knows.
    Kprobe { program: &'static str, function: &'static str },
    /// A tracepoint's arguments as they are.
    Raw { program: &'static str, tracepoint: &'static str },
    /// A tracepoint's record.
    Classic { program: &'static str, category: &'static str, tracepoint: &'static str },
}

impl Hook {
    /// `kind:name`, as reports show it.
    pub(super) fn name(self) -> String {
        match self {
            Self::Fentry { function, .. } => format!("fentry:{function}"),
            Self::Fexit { function, .. } => format!("fexit:{function}"),
            Self::Kprobe { program, function } if program == RESTORED => format!("kretprobe:{function}"),
            Self::Kprobe { function, .. } => format!("kprobe:{function}"),
            Self::Raw { tracepoint, .. } => format!("raw_tracepoint:{tracepoint}"),
            Self::Classic { category, tracepoint, .. } => format!("tracepoint:{category}:{tracepoint}"),
        }
    }
}

/// A hook that could not be had, and why.
#[derive(Clone, Debug)]
pub struct Refused {
    /// For which event.
    pub event: Event,
    /// `kind:name`.
    pub hook: String,
    /// Why not.
    pub why: Obstacle,
}

/// A return probe.
const RESTORED: &str = "shared_msr_restored";

/// The hooks for an event, best first.
pub(super) fn hooks(event: Event, choice: ProbeChoice, known: Known) -> Vec<Hook> {
    let Known { setter, dropper, vcpu_is_first, timing, preemptible } = known;
    let fentry = |program, place, function| Hook::Fentry { program, place, function };
    let raw = |program, tracepoint| Hook::Raw { program, tracepoint };
    let all = match event {
        Event::Set => vec![
            fentry("shared_msr_set_fentry", Place::Kvm, setter),
            Hook::Kprobe { program: "shared_msr_set", function: setter },
        ],
        Event::Close => vec![
            fentry("shared_msr_close_fentry", Place::Kvm, CLOSER),
            fentry("shared_msr_unregister_fentry", Place::Vmlinux, UNREGISTER),
            Hook::Kprobe { program: "shared_msr_close", function: CLOSER },
        ]
        .into_iter()
        // Its entry is not that of the restore.
        .filter(|hook| !timing || !matches!(hook, Hook::Fentry { function: UNREGISTER, .. }))
        .collect(),
        Event::Restored => vec![
            Hook::Fexit { program: "shared_msr_restored_fexit", place: Place::Kvm, function: CLOSER },
            Hook::Kprobe { program: RESTORED, function: CLOSER },
        ],
        Event::Drop => vec![
            fentry("shared_msr_drop_fentry", Place::Kvm, dropper),
            Hook::Kprobe { program: "shared_msr_drop", function: dropper },
        ],
        Event::ThreadEnd => vec![raw("shared_msr_thread_end", THREAD_END)],
        Event::Exec => vec![raw("shared_msr_exec", EXEC)],
        Event::VcpuMade => vec![raw("shared_msr_vcpu_made", VCPU_MADE)],
        Event::Exit => vec![
            raw(if vcpu_is_first { "shared_msr_exit" } else { "shared_msr_exit_any" }, "kvm_exit"),
            Hook::Classic { program: "shared_msr_exit_classic", category: "kvm", tracepoint: "kvm_exit" },
        ],
        Event::ExitReason => vec![
            raw(REASON, "kvm_exit"),
            Hook::Classic { program: "shared_msr_reason_classic", category: "kvm", tracepoint: "kvm_exit" },
        ],
        Event::UserspaceExit => vec![
            raw("shared_msr_user", "kvm_userspace_exit"),
            Hook::Classic { program: "shared_msr_user_classic", category: "kvm", tracepoint: "kvm_userspace_exit" },
        ]
        .into_iter()
        // It is fired with preemption on (virt/kvm/kvm_main.c, `kvm_vcpu_ioctl`), unlike exits and WRMSRs: another return on the same
        // CPU would come in the middle of this one.
        .filter(|hook| !preemptible || !matches!(hook, Hook::Raw { .. }))
        .collect(),
        Event::Write => vec![raw("shared_msr_write", "write_msr")],
        Event::Check => vec![raw("shared_msr_check", "write_msr")],
        Event::CheckExit => vec![raw("shared_msr_check_exit", "kvm_exit")],
    };
    all.into_iter().filter(|hook| fits(*hook, choice)).collect()
}

fn fits(hook: Hook, choice: ProbeChoice) -> bool {
    match hook {
        Hook::Fentry { .. } | Hook::Fexit { .. } => matches!(choice, ProbeChoice::Auto | ProbeChoice::Fentry),
        Hook::Kprobe { .. } => matches!(choice, ProbeChoice::Auto | ProbeChoice::Kprobe),
        // Not functions: they are not what is chosen between.
        Hook::Raw { .. } | Hook::Classic { .. } => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(event: Event, choice: ProbeChoice) -> Vec<String> {
        let known = Known { setter: "kvm_set_shared_msr", dropper: "kvm_arch_hardware_disable", ..Known::default() };
        hooks(event, choice, known).into_iter().map(Hook::name).collect()
    }

    #[test]
    fn the_cheapest_hook_is_tried_first() {
        assert_eq!(names(Event::Set, ProbeChoice::Auto), ["fentry:kvm_set_shared_msr", "kprobe:kvm_set_shared_msr"]);
        let close = ["fentry:kvm_on_user_return", "fentry:user_return_notifier_unregister", "kprobe:kvm_on_user_return"];
        assert_eq!(names(Event::Close, ProbeChoice::Auto), close);
        assert_eq!(names(Event::Exit, ProbeChoice::Auto), ["raw_tracepoint:kvm_exit", "tracepoint:kvm:kvm_exit"]);
    }

    #[test]
    fn a_close_that_is_timed_is_seen_from_its_entry_to_its_return() {
        let known = Known { timing: true, ..Known::default() };
        let close: Vec<String> = hooks(Event::Close, ProbeChoice::Auto, known).into_iter().map(Hook::name).collect();
        assert_eq!(close, ["fentry:kvm_on_user_return", "kprobe:kvm_on_user_return"]);
        assert_eq!(names(Event::Restored, ProbeChoice::Auto), ["fexit:kvm_on_user_return", "kretprobe:kvm_on_user_return"]);
    }

    #[test]
    fn a_return_is_counted_where_nothing_comes_in_between() {
        let raw = "raw_tracepoint:kvm_userspace_exit";
        let classic = "tracepoint:kvm:kvm_userspace_exit";
        assert_eq!(names(Event::UserspaceExit, ProbeChoice::Auto), [raw, classic]);
        let known = Known { preemptible: true, ..Known::default() };
        let hooks: Vec<String> = hooks(Event::UserspaceExit, ProbeChoice::Auto, known).into_iter().map(Hook::name).collect();
        assert_eq!(hooks, [classic]);
    }

    #[test]
    fn a_forced_step_leaves_no_other_function_hook() {
        assert_eq!(names(Event::Set, ProbeChoice::Kprobe), ["kprobe:kvm_set_shared_msr"]);
        assert_eq!(names(Event::Set, ProbeChoice::Tracepoint), [""; 0]);
        assert_eq!(names(Event::Exit, ProbeChoice::Fentry).len(), 2);
    }
}
