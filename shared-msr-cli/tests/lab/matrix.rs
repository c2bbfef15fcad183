//! Every step of the ladder of hooks on one host: the same known guest, the same numbers, each held against the kernel's own
//! record of WRMSRs and of exits.

use std::sync::OnceLock;

use shared_msr::{commands::inspect::Document, guest::GuestOutcome};

use crate::support::{Ended, Host, KernelCounter, Report, assert_nothing_lost, assert_verified, json, report_on, shared_msr};

/// Exits to user space that the guest makes, and exits that KVM handles before each.
const OUTS: u64 = 60;
const CPUIDS: u64 = 10;

/// What a host is known to do.
struct Expected {
    host: Host,
    hlts: u64,
    /// Whether the guest can have a `TSC_AUX`: the CPU has RDTSCP.
    tsc_aux: bool,
    /// MSRs of which this guest has a value of its own.
    loaded: &'static [&'static str],
    /// MSRs that KVM would load, but of which guest and host have the same value.
    skipped: &'static [&'static str],
    /// MSRs that are listed but never loaded.
    never_loaded: &'static [&'static str],
}

impl Expected {
    /// Of this host, which must be the one that it is said to be.
    fn here() -> Self {
        let host = Host::this();
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert!(release.starts_with(&format!("{}.", host.kernel)), "{release} is not of the series {}", host.kernel);
        match (host.vendor.as_str(), host.cpu_model.as_deref()) {
            // QEMU's AMD CPU: the mechanism has one MSR.
            ("amd", None) => Self { host, hlts: 20, tsc_aux: true, loaded: &["TSC_AUX"], skipped: &[], never_loaded: &[] },
            // Bochs' Haswell: four of six are loaded for a 64-bit guest.
            ("intel", None) => Self {
                host,
                hlts: 1,
                tsc_aux: true,
                loaded: &["STAR", "LSTAR", "SYSCALL_MASK", "TSC_AUX"],
                skipped: &[],
                never_loaded: &["CSTAR", "EFER"],
            },
            // A CPU whose VMCS cannot switch EFER, so that KVM's list is what switches it: our guest's is the host's but for
            // bits that KVM ignores, so it is skipped. It has no RDTSCP.
            ("intel", Some("core2_penryn_t9600")) => Self {
                host,
                hlts: 1,
                tsc_aux: false,
                loaded: &["STAR", "LSTAR", "SYSCALL_MASK"],
                skipped: &["EFER"],
                never_loaded: &["CSTAR"],
            },
            (vendor, model) => panic!("nothing is known of {vendor} {model:?}"),
        }
    }

    /// The guest's command.
    fn guest(&self) -> String {
        let tsc_aux = if self.tsc_aux { " --tsc-aux 0xabc" } else { "" };
        format!("shared-msr guest --format json --outs {OUTS} --cpuids {CPUIDS} --hlts {}{tsc_aux}", self.hlts)
    }

    /// Exits that it makes on purpose.
    fn exits(&self) -> u64 {
        OUTS * (CPUIDS + 1) + self.hlts
    }

    /// A report with the check by one step and with these further arguments, whose exits are those that the kernel itself counted.
    fn report(&self, step: &str, words: &str) -> (Ended, Report) {
        let guest = self.guest();
        let counter = KernelCounter::start("kvm/kvm_exit", None);
        let (ended, report) = report_on(&format!("--probe {step} {words}"), &guest.split(' ').collect::<Vec<_>>());
        counter.stop();
        assert!(report.reconciled, "{step}: {:?}", report.violations);
        assert_eq!(ended.status, 0, "{ended:?}");
        let exits = report.totals.events.exits;
        assert_eq!(exits, counter.count(), "{step}: exits by the kernel's own count");
        assert!(exits >= self.exits(), "{step}: {exits} exits");
        (ended, report)
    }

    /// A report by one step, with the numbers that all steps give.
    #[track_caller]
    fn assert_step(&self, step: &str) -> Report {
        let (ended, report) = self.report(step, "");
        self.assert_numbers(step, &ended, &report);
        report
    }

    /// What must come of it, whichever hooks it used: all steps say the same.
    #[track_caller]
    fn assert_numbers(&self, step: &str, ended: &Ended, report: &Report) {
        assert_verified(report);
        assert_eq!(report.totals.counts.set_failed, Some(0));
        let guest: GuestOutcome = json(&ended.stdout).unwrap();
        let runs = guest.kvm_runs;
        assert_eq!(runs, OUTS + self.hlts, "KVM_RUN calls = OUT + HLT");
        for name in self.loaded {
            let counts = row(report, name).counts;
            assert_eq!(counts.performed, Some(runs + 1), "{name}: performed = KVM_RUN calls + the call that sets MSRs");
            assert_eq!(counts.set_written, counts.performed, "{name}: written = performed");
            assert_eq!(counts.wrmsrs, Some(2 * (runs + 1)), "{name}: WRMSRs by the kernel's own record");
            assert!(counts.deferred.unwrap() >= OUTS * (CPUIDS + 1), "{name}: {counts:?}");
        }
        for name in self.skipped {
            let counts = row(report, name).counts;
            assert_eq!(counts.set_written, Some(0), "{name}");
            // Where only WRMSRs are watched, a set that was skipped leaves no trace.
            assert_eq!(counts.set_skipped.is_none(), step == "tracepoint", "{name}: {counts:?}");
            assert!(counts.set_skipped.is_none_or(|skipped| skipped >= runs), "{name} is skipped at every load: {counts:?}");
        }
        for name in self.never_loaded {
            let row = row(report, name);
            let counts = row.counts;
            let numbers = [counts.set_written, counts.deferred, counts.performed, counts.wrmsrs];
            assert_eq!(numbers, [Some(0); 4], "{name}: {counts:?}");
            assert_ne!(row.loaded, Some(true), "{name}");
        }
        let (events, counts) = (&report.totals.events, &report.totals.counts);
        assert_eq!(events.windows_opened, Some(runs + 1), "windows opened = KVM_RUN calls + 1");
        assert_eq!((events.windows_closed, events.clean_closes), (Some(runs + 1), Some(0)));
        let all = Some(u64::try_from(self.loaded.len()).unwrap() * (runs + 1));
        assert_eq!((counts.performed, counts.set_written), (all, all), "no other MSR was written");
    }
}

fn row<'a>(report: &'a Report, name: &str) -> &'a shared_msr::report::json::document::Msr<'static> {
    report.msrs.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no row of {name} in {:?}", report.msrs))
}

#[track_caller]
fn assert_hook(hook: Option<&str>, kind: &str) {
    assert!(hook.is_some_and(|hook| hook.starts_with(kind)), "{kind}: {hook:?}");
}

/// Sets and closes were observed by this kind of hook.
#[track_caller]
fn assert_hooks(report: &Report, kind: &str) {
    assert_hook(report.host.hooks.set.as_deref(), kind);
    assert_hook(report.host.hooks.close.as_deref(), kind);
}

/// Hosts whose KVM uses the mechanism.
mod used {
    use super::*;

    /// One report for the two tests that want the hooks of `auto`, one to see them and their numbers, the other one the rows by
    /// reason that come with these.
    fn by_auto() -> &'static (Ended, Report) {
        static BY_AUTO: OnceLock<(Ended, Report)> = OnceLock::new();
        BY_AUTO.get_or_init(|| Expected::here().report("auto", "--by reason"))
    }

    #[test]
    fn auto_takes_the_best_hooks_that_there_are() {
        let expected = Expected::here();
        let (ended, report) = by_auto();
        expected.assert_numbers("auto", ended, report);
        assert_hook(report.host.hooks.set.as_deref(), if expected.host.has_module_btf() { "fentry:" } else { "kprobe:" });
        assert_hook(report.host.hooks.close.as_deref(), "fentry:");
    }

    #[test]
    fn kprobes_give_the_same_numbers() {
        assert_hooks(&Expected::here().assert_step("kprobe"), "kprobe:kvm_");
    }

    #[test]
    fn the_tracepoint_of_wrmsrs_gives_the_same_numbers() {
        assert_hooks(&Expected::here().assert_step("tracepoint"), "raw_tracepoint:write_msr");
    }

    #[test]
    fn exits_by_reason_are_those_that_the_guest_makes() {
        let expected = Expected::here();
        let (_, report) = by_auto();
        assert!(report.reconciled, "{:?}", report.violations);
        assert_nothing_lost(report);
        let kind = if expected.host.has_module_btf() { "raw_tracepoint:kvm_exit" } else { "tracepoint:kvm:kvm_exit" };
        assert_hook(Some(&report.host.hooks.exit), kind);
        let rows = report.reasons.as_deref().unwrap();
        assert_eq!(rows.iter().map(|row| row.exits).sum::<u64>(), report.totals.events.exits, "the sum is all exits");
        // arch/x86/include/uapi/asm/vmx.h and svm.h: CPUID, IO, HLT.
        let (isa, reasons) = if expected.host.vendor == "intel" { ("vmx", [10, 30, 12]) } else { ("svm", [0x72, 0x7b, 0x78]) };
        for (reason, number) in reasons.into_iter().zip([OUTS * CPUIDS, OUTS, expected.hlts]) {
            let row = rows.iter().find(|row| row.reason == Some(reason)).unwrap_or_else(|| panic!("no {reason} in {rows:?}"));
            assert_eq!((&*row.isa, row.exits), (isa, number), "{row:?}");
        }
    }

    #[test]
    fn the_table_names_what_is_never_loaded_and_that_it_is_verified() {
        let expected = Expected::here();
        let table = shared_msr(&format!("report --verify -- {}", expected.guest()));
        assert_eq!(table.status, 0, "{table:?}");
        let listed = table.stdout.lines().find(|line| line.starts_with("Never loaded on this host"));
        assert_eq!(listed.is_some(), !expected.never_loaded.is_empty(), "{listed:?}");
        for name in expected.never_loaded {
            assert!(listed.is_some_and(|listed| listed.contains(name)), "{name} in {listed:?}");
        }
        assert!(table.stdout.contains("verified by the kernel's record of WRMSRs"), "{}", table.stdout);
    }

    #[test]
    fn inspect_lists_the_msrs_and_doctor_finds_nothing_in_the_way() {
        let expected = Expected::here();
        let ended = shared_msr("inspect --format json");
        assert_eq!(ended.status, 0, "{ended:?}");
        let inspect: Document<'_> = json(&ended.stdout).unwrap();
        for name in [expected.loaded, expected.skipped, expected.never_loaded].concat() {
            assert!(inspect.slots.iter().any(|slot| slot.name == name), "{name} in {:?}", inspect.slots);
        }
        let doctor = shared_msr("doctor");
        assert_eq!(doctor.status, 0, "{doctor:?}");
    }
}

/// Hosts whose kernel has BTF of its modules.
mod module_btf {
    use super::*;

    #[test]
    fn fentry_gives_the_same_numbers() {
        assert_hooks(&Expected::here().assert_step("fentry"), "fentry:kvm_");
    }
}

/// Hosts whose kernel has none.
mod no_module_btf {
    use super::*;

    #[test]
    fn fentry_is_not_to_be_had_and_it_is_said_why() {
        let report = shared_msr(&format!("report --probe fentry --verify --format json -- {}", Expected::here().guest()));
        report.assert_one_sentence(1, "shared-msr: each set cannot be observed by fentry:");
        assert_eq!(report.stdout, "", "no report");
        let doctor = shared_msr("doctor");
        assert!(doctor.stdout.lines().any(|line| line.contains("not by fentry:")), "doctor says why not: {doctor:?}");
    }
}

/// Hosts whose vendor module does not use the mechanism.
mod unused {
    use super::*;

    fn assert_step(step: &str) {
        let (_, report) = Expected::here().report(step, "");
        let (events, counts) = (&report.totals.events, &report.totals.counts);
        assert_eq!((events.windows_opened, events.windows_closed), (Some(0), Some(0)), "{step}");
        assert_eq!((counts.performed, counts.set_written), (Some(0), Some(0)), "{step}");
    }

    #[test]
    fn auto_counts_exits_and_nothing_else() {
        assert_step("auto");
    }

    #[test]
    fn kprobes_count_exits_and_nothing_else() {
        assert_step("kprobe");
    }

    #[test]
    fn the_tracepoint_of_wrmsrs_counts_exits_and_nothing_else() {
        assert_step("tracepoint");
    }

    #[test]
    fn the_report_says_that_nothing_is_put_off() {
        let table = shared_msr(&format!("report --verify -- {}", Expected::here().guest()));
        assert!(table.stdout.contains("this kernel's kvm_amd does not use user-return MSRs"), "{}", table.first_line());
    }
}
