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
        let host = format!("{:?}", self.host).to_lowercase();
        let model = self.cpu_model.map_or_else(String::new, |model| format!(" {model}"));
        let accel = if self.accel == Accel::Kvm { " under KVM" } else { "" };
        format!("{host}{model} {}{accel}", self.kernel)
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

/// What is tried of the shapes of VMMs where one takes minutes.
const TWO_SHAPES: [&str; 2] =
    ["shapes::basic::fentry::two_threads_run_a_vcpu_in_turn", "shapes::basic::fentry::one_thread_runs_three_vcpus_in_turn"];

/// All of them; those that take longest first, so that none of these is left alone at the end.
pub(super) fn boots() -> Vec<Boot> {
    vec![
        Boot::intel("6.1", &TWO_SHAPES).not_usual(),
        Boot::amd("6.12", 2, &["shapes::basic", "shapes::further::fentry"]),
        Boot::amd("6.1", 2, &["shapes::basic"]),
        Boot::amd("6.1", 2, &["shapes::further"]).not_usual(),
        Boot::amd("6.12", 2, &["shapes::further::kprobe", "shapes::further::tracepoint"]).not_usual(),
        Boot { icount: true, ..Boot::amd("6.12", 1, &["top"]) },
        Boot::amd("6.12", 2, &["filters", "inside", "real_hosts"]),
        Boot { kernel_arguments: "preempt=full", ..Boot::amd("6.12", 2, &["preempted"]) },
        Boot::amd("6.12", 1, &["exact", "capabilities", "timing", "trace"]),
        Boot::amd("6.1", 1, &["exact", "timing", "trace"]),
        Boot::amd("6.12", 2, &["churn", "contention", "migrate", "two_guests", "unplug"]),
        Boot::amd("6.12", 2, &["qemu"]).with_qemu(),
        Boot::amd("6.1", 2, &["qemu"]).with_qemu().not_usual(),
        Boot::amd("7.3", 2, &["qemu"]).with_qemu().not_usual(),
        Boot::intel("6.1", &["qemu"]).with_qemu().not_usual(),
        Boot::amd("6.16", 1, &["exact"]).not_usual(),
        Boot::amd("6.18", 1, &["exact"]).not_usual(),
        Boot::amd("7.2", 1, &["exact"]).not_usual(),
        Boot::amd("7.3", 1, &["exact"]).not_usual(),
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
