//! Which tests run on which emulated host.

use crate::lab::{Accel, Host, Vmm};

/// A host that is started once, and what runs there, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Boot {
    pub(super) host: Host,
    /// What it runs on.
    pub(super) accel: Accel,
    /// If not the host's usual one.
    pub(super) cpu_model: Option<&'static str>,
    /// A series.
    pub(super) kernel: &'static str,
    pub(super) smp: u32,
    /// Whether KVM's modules are there when the first test starts.
    pub(super) load_modules: bool,
    /// What the kernel's command line ends with.
    pub(super) kernel_arguments: &'static str,
    /// Whether time is a count of instructions.
    pub(super) icount: bool,
    /// A real VMM for the tests.
    pub(super) vmm: Option<Vmm>,
    /// Tests, by the paths that lead to them: `exact` are all of that scenario, `shapes::fentry` some of another one.
    pub(super) tests: &'static [&'static str],
    /// Whether `cargo xtask test` starts it, or only `smoke --all`.
    pub(super) usual: bool,
}

impl Boot {
    const fn amd(kernel: &'static str, smp: u32, tests: &'static [&'static str]) -> Self {
        Self {
            host: Host::Amd,
            accel: Accel::Emulator,
            cpu_model: None,
            kernel,
            smp,
            load_modules: true,
            kernel_arguments: "",
            icount: false,
            vmm: None,
            tests,
            usual: true,
        }
    }

    const fn intel(kernel: &'static str, tests: &'static [&'static str]) -> Self {
        Self { host: Host::Intel, ..Self::amd(kernel, 1, tests) }
    }

    const fn with_qemu(self) -> Self {
        Self { vmm: Some(Vmm::Qemu), ..self }
    }

    const fn not_usual(self) -> Self {
        Self { usual: false, ..self }
    }

    /// For people, and for `--only`.
    pub(super) fn place(&self) -> String {
        let host = self.host.name();
        let model = self.cpu_model.map_or_else(String::new, |model| format!(" {model}"));
        let accel = if self.accel == Accel::Kvm { " under KVM" } else { "" };
        let arguments = if self.kernel_arguments.is_empty() { "" } else { " " };
        format!("{host}{model} {}{accel}{arguments}{}", self.kernel, self.kernel_arguments)
    }

    /// The same, and with how many CPUs.
    pub(super) fn place_and_cpus(&self) -> String {
        let place = self.place();
        if self.smp == 1 { place } else { format!("{place}, {} CPUs", self.smp) }
    }

    /// Whether a test runs here.
    pub(super) fn takes(&self, test: &str) -> bool {
        self.tests.iter().any(|path| leads_to(path, test))
    }
}

/// Whether a path leads to a test.
pub(super) fn leads_to(path: &str, test: &str) -> bool {
    test.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// A CPU of Bochs whose VMCS cannot switch EFER, so that KVM's list is what switches it.
const WITHOUT_EFER_CONTROL: &str = "core2_penryn_t9600";

/// What is tried of the shapes of VMMs where one takes minutes.
const TWO_SHAPES: [&str; 2] =
    ["shapes::basic::fentry::two_threads_run_a_vcpu_in_turn", "shapes::basic::fentry::one_thread_runs_three_vcpus_in_turn"];

const WITHOUT_KVM: &str = "errors::obstacles::kvm_that_is_not_loaded_is_named_by_every_command";

/// What every kernel has to show.
const EACH_KERNEL: &[&str] =
    &["exact", "matrix::used", "matrix::module_btf", "timing::module_btf", "timing::used", "trace::module_btf", "trace::used"];
/// The same on Intel, where programs take longer; `exact` is about AMD's one MSR. What keeps restores from being timed is asked
/// before anything of Intel is.
const EACH_INTEL: &[&str] = &[
    "kvm_exits",
    "matrix::used",
    "matrix::module_btf",
    "timing::module_btf",
    "timing::used::kprobe_times_each_restore",
    "top::on_any_host",
    "trace::module_btf",
    "trace::used::kprobe_shows_each_event",
];
/// The same without BTF of modules.
const EACH_OLD_INTEL: &[&str] = &["matrix::used", "matrix::no_module_btf", "timing::used", "trace::used"];

/// All of them; those that take longest first, so that none of these is left alone at the end.
pub(super) fn boots() -> Vec<Boot> {
    let mut boots = usual();
    boots.extend(further().into_iter().map(Boot::not_usual));
    boots
}

/// Those of `cargo xtask test`. On a host its tests run in the order of their names, as libtest has them: what leaves a host good
/// for nothing else (`errors::switches`, `unreadable::locked_down`) comes after the others of its host. Out of that order they
/// would fail.
fn usual() -> Vec<Boot> {
    vec![
        Boot::intel("6.1", EACH_INTEL),
        Boot::amd("6.12", 1, &["capabilities", "errors::usage", "formats", "kvm_exits", "switched_off", "trace::left_out"]),
        Boot::amd("6.12", 2, &["crowd::come_and_go", "filters", "inside", "real_hosts"]),
        Boot::amd("6.12", 1, &["killed", "names"]),
        Boot::amd("6.12", 1, &["reloaded", "stalled", "unreadable::locked_down"]),
        Boot::amd("6.1", 2, &["shapes::basic"]),
        Boot::amd("6.12", 2, &["shapes::basic", "shapes::further::fentry"]),
        Boot::amd("6.1", 1, EACH_KERNEL),
        Boot::amd("6.12", 1, EACH_KERNEL),
        // From 7.0 on programs on tracepoints can be preempted, and another hook of exits is taken.
        Boot::amd("7.3", 1, EACH_KERNEL),
        Boot { icount: true, ..Boot::amd("6.12", 1, &["top"]) },
        Boot::amd("6.12", 2, &["churn", "contention", "migrate", "two_guests", "unplug"]),
        Boot::amd("6.12", 1, &["errors::obstacles", "errors::stepping_down", "errors::switches"]),
        Boot::amd("6.12", 2, &["readers"]),
        Boot::amd("6.1", 2, &["readers"]),
        Boot::amd("6.12", 1, &["unreadable::wrong_address", "unreadable::used"]),
        Boot::amd("5.10", 1, &["unreadable::wrong_address", "unreadable::unused"]),
        Boot::amd("6.12", 2, &["qemu"]).with_qemu(),
        Boot { kernel_arguments: "preempt=full", ..Boot::amd("6.12", 2, &["preempted"]) },
        Boot::amd("5.10", 1, &["unreadable::locked_down"]),
        // The same test again on a kernel that never had KVM.
        Boot { load_modules: false, ..Boot::amd("6.12", 1, &[WITHOUT_KVM]) },
    ]
}

/// What `smoke --all` starts besides.
fn further() -> Vec<Boot> {
    vec![
        // Bochs is slow, and busy guests make it slower.
        Boot::intel("6.1", &["crowd::stay"]),
        Boot::intel("6.1", &TWO_SHAPES),
        // The verifier alone takes more than a minute.
        Boot::intel("6.1", &["timing::used::tracepoint_cannot_and_says_so", "trace::used::tracepoint_shows_each_event"]),
        // Its guest can make a guest of its own on AMD alone.
        Boot::intel("6.1", &["qemu::guests"]).with_qemu(),
        Boot::amd("6.1", 2, &["qemu"]).with_qemu(),
        Boot::amd("7.3", 2, &["qemu"]).with_qemu(),
        Boot::intel("5.10", EACH_OLD_INTEL),
        Boot::intel("6.12", EACH_INTEL),
        Boot::intel("7.2", EACH_INTEL),
        Boot { cpu_model: Some(WITHOUT_EFER_CONTROL), ..Boot::intel("6.1", &["matrix::used", "matrix::module_btf"]) },
        Boot::amd("6.1", 2, &["shapes::further"]),
        Boot::amd("6.12", 2, &["shapes::further::kprobe", "shapes::further::tracepoint"]),
        Boot::amd("6.1", 1, &["unreadable::wrong_address", "unreadable::used"]),
        Boot::amd("6.1", 1, &["unreadable::locked_down"]),
        Boot::amd("6.1", 1, &["reloaded"]),
        Boot::amd("5.10", 1, &["matrix::unused", "matrix::no_module_btf"]),
        Boot::amd("6.16", 1, EACH_KERNEL),
        Boot::amd("6.18", 1, EACH_KERNEL),
        Boot::amd("7.2", 1, EACH_KERNEL),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_takes_all_that_is_below_it_and_nothing_else() {
        let boot = Boot::amd("6.12", 1, &["exact", "shapes::fentry"]);
        for test in ["exact::a", "shapes::fentry::b", "shapes::fentry"] {
            assert!(boot.takes(test), "{test}");
        }
        for test in ["inexact::a", "exactly::a", "shapes::kprobe::b", "shapes"] {
            assert!(!boot.takes(test), "{test}");
        }
    }
}
