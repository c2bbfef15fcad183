//! Kernel memory that cannot be read, or is not what it is taken for, because /proc/kallsyms names another address: everything
//! names it, and nothing is called verified.

use std::{fs, path::Path, process::Command};

use crate::support::{Covered, Ended, WithoutKvm, shared_msr};

pub(crate) const USER: &str = "0000000000001000";
pub(crate) const UNMAPPED: &str = "ffff800000000000";
/// Only what matters here, so that it is quick.
const SYMBOLS: [&str; 9] = [
    "uret_msr",
    "user_return",
    "shared_msr",
    "per_cpu",
    "this_cpu_off",
    "kvm_arch_disable",
    "kvm_arch_hardware",
    "linux_banner",
    "empty_zero_page",
];

/// The kernel's lines, as fields: address, kind, name and, perhaps, module. To read them takes long, so each test does it once;
/// not once for all, because modules that are loaded anew are elsewhere.
pub(crate) struct Symbols(Vec<Vec<String>>);

impl Symbols {
    pub(crate) fn read() -> Self {
        let text = fs::read_to_string("/proc/kallsyms").unwrap();
        let wanted = text.lines().filter(|line| SYMBOLS.iter().any(|symbol| line.contains(symbol)));
        Self(wanted.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect())
    }

    /// The variable that says how long KVM's list is.
    pub(crate) fn list(&self) -> &'static str {
        // Since 5.13; before, the length and the list are in one variable.
        let list = "kvm_nr_uret_msrs";
        if self.0.iter().any(|fields| fields[2] == list) { list } else { "user_return_msrs_global" }
    }

    pub(crate) fn address_of(&self, symbol: &str) -> String {
        self.0.iter().find(|fields| fields[2] == symbol).unwrap_or_else(|| panic!("no {symbol}"))[0].clone()
    }

    /// Lets the kernel's symbols name another address for this one.
    pub(crate) fn at(&self, symbol: &str, address: &str) -> Covered {
        let mut symbols = self.0.clone();
        let mut moved = symbols.iter_mut().filter(|fields| fields[2] == symbol).peekable();
        assert!(moved.peek().is_some(), "no {symbol} that could be elsewhere");
        moved.for_each(|fields| address.clone_into(&mut fields[0]));
        let lines: Vec<String> = symbols.iter().map(|fields| fields.join(" ") + "\n").collect();
        Covered::with("/proc/kallsyms", &lines.concat())
    }

    /// The same for the list, which seems to be empty then.
    fn with_empty_list(&self) -> Covered {
        self.at(self.list(), &self.address_of("empty_zero_page"))
    }
}

/// A processor that is said to have no `TSC_AUX`, so that an empty list could be true.
fn without_tsc_aux() -> Covered {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap();
    let without = text.replace(" rdtscp", "").replace(" rdpid", "");
    assert_ne!(text, without);
    Covered::with("/proc/cpuinfo", &without)
}

fn report() -> Ended {
    shared_msr("report --verify -- shared-msr guest --outs 50 --tsc-aux 0xabc")
}

/// All that read kernel memory stop, and say why and what to do.
#[track_caller]
fn assert_named(words: &[&str]) {
    let complete = |text: &str| words.iter().all(|word| text.contains(word));
    for ended in [shared_msr("inspect"), report()] {
        ended.assert_one_sentence(1, "");
        assert!(complete(&ended.stderr) && !ended.stderr.contains("panicked"), "{words:?}: {ended:?}");
        assert_eq!(ended.stdout, "", "nothing else is shown");
    }
    let doctor = shared_msr("doctor");
    assert_eq!(doctor.status, 1, "{words:?}: {doctor:?}");
    let obstacle = |line: &&str| line.starts_with("FAIL") || line.starts_with("no ") || line.trim_start().starts_with("cure: ");
    let obstacles: Vec<&str> = doctor.stdout.lines().filter(obstacle).collect();
    assert!(complete(&obstacles.join("\n")), "{words:?}: {obstacles:?}");
}

/// Any host.
mod wrong_address {
    use super::*;

    #[test]
    fn of_user_memory_is_named() {
        let symbols = Symbols::read();
        for (symbol, name) in [(symbols.list(), "KVM's list of MSRs"), ("__per_cpu_offset", "__per_cpu_offset")] {
            let _covered = symbols.at(symbol, USER);
            assert_named(&[name, "0x1000", "cannot be read"]);
        }
    }

    #[test]
    fn where_nothing_is_mapped_is_named() {
        let symbols = Symbols::read();
        for (symbol, name) in [
            (symbols.list(), "KVM's list of MSRs"),
            ("__per_cpu_offset", "__per_cpu_offset"),
            ("user_return_msrs", "per-CPU structures"),
        ] {
            let _covered = symbols.at(symbol, UNMAPPED);
            assert_named(&[name, "0xffff800000000000", "nothing is mapped there"]);
        }
    }

    /// The kernel's version, and zeros.
    #[test]
    fn of_something_else_is_named() {
        let symbols = Symbols::read();
        for (symbol, other, name) in [
            (symbols.list(), "linux_banner", "KVM's list of MSRs"),
            ("__per_cpu_offset", "linux_banner", "__per_cpu_offset"),
            ("__per_cpu_offset", "empty_zero_page", "__per_cpu_offset"),
        ] {
            let _covered = symbols.at(symbol, &symbols.address_of(other));
            assert_named(&[name]);
        }
    }
}

/// Hosts whose `kvm_amd` uses the mechanism.
mod used {
    use super::*;

    #[test]
    fn the_length_of_the_list_is_a_variable_of_its_own() {
        assert_eq!(Symbols::read().list(), "kvm_nr_uret_msrs");
    }

    #[test]
    fn an_empty_list_is_not_believed_where_the_processor_has_an_msr_for_it() {
        let _covered = Symbols::read().with_empty_list();
        assert_named(&["it is empty", "kvm_amd uses TSC_AUX"]);
    }

    #[test]
    fn an_empty_list_is_not_believed_against_sets_nor_against_a_used_structure() {
        // KVM has not used a structure yet.
        drop(WithoutKvm::new());
        let _symbols = Symbols::read().with_empty_list();
        let _processor = without_tsc_aux();
        let report = report();
        assert_eq!(report.status, 1, "{report:?}");
        let verdict = report.first_line();
        assert!(!verdict.contains("nothing to put off") && verdict.contains("kvm_amd was seen to use"), "{verdict}");
        let why = "NOT RECONCILED: CPU 0: KVM's list of MSRs is empty, but there was ";
        assert!(report.stdout.contains(why), "it is said why: {report:?}");
        let reconciled = |line: &str| line.contains(", reconciled") || line.contains("verified");
        assert!(!report.stdout.lines().any(reconciled), "{report:?}");
        // By now KVM has used one, and that can be seen at the start.
        assert_named(&["per-CPU structure of CPU 0", "KVM's list of MSRs is empty"]);
    }

    #[test]
    fn nothing_is_in_the_way_where_nothing_was_moved() {
        let report = report();
        assert_eq!(report.status, 0, "{report:?}");
        assert!(report.stdout.contains("reconciled, verified"), "{report:?}");
        for words in ["doctor", "inspect"] {
            let ended = shared_msr(words);
            assert_eq!(ended.status, 0, "{ended:?}");
        }
    }
}

/// Hosts whose `kvm_amd` does not use it: an empty list is the truth.
mod unused {
    use super::*;

    #[track_caller]
    fn assert_empty_list_is_the_truth() {
        let report = report();
        assert_eq!(report.status, 0, "{report:?}");
        assert!(report.first_line().contains("does not use"), "{}", report.first_line());
    }

    #[test]
    fn the_list_and_its_length_are_in_one_variable() {
        assert_eq!(Symbols::read().list(), "user_return_msrs_global");
    }

    #[test]
    fn an_empty_list_is_believed() {
        let _symbols = Symbols::read().with_empty_list();
        assert_empty_list_is_the_truth();
        let _processor = without_tsc_aux();
        assert_empty_list_is_the_truth();
        // Nor does the guest that ran by now change that.
        assert_empty_list_is_the_truth();
    }

    #[test]
    fn the_list_is_empty_where_nothing_was_moved() {
        assert_empty_list_is_the_truth();
    }
}

/// A host that is good for nothing else after that: it cannot be taken back.
mod locked_down {
    use super::*;

    const FILE: &str = "/sys/kernel/security/lockdown";

    #[test]
    fn a_locked_down_kernel_is_named() {
        if !Path::new(FILE).exists() {
            let mount = ["-t", "securityfs", "securityfs", "/sys/kernel/security"];
            assert!(Command::new("mount").args(mount).status().unwrap().success());
        }
        fs::write(FILE, "confidentiality").unwrap();
        assert!(fs::read_to_string(FILE).unwrap().contains("[confidentiality]"));
        assert_named(&["lockdown=confidentiality"]);
    }
}
