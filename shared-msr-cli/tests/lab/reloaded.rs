//! A vendor module that is loaded anew in mid-run: KVM's structures are elsewhere then, and the numbers are still the kernel's.

use crate::support::{
    Counter, Measured, WriteRecord, assert_all_attributed, assert_verified, measure, restored, shared_msr, vendor_module,
};

#[test]
fn fentry_counts_across_a_reload() {
    assert_counted_across("fentry");
}

#[test]
fn kprobes_count_across_a_reload() {
    assert_counted_across("kprobe");
}

#[test]
fn tracepoints_count_across_a_reload() {
    assert_counted_across("tracepoint");
}

#[test]
fn the_table_tells_the_reload() {
    let script = Script::new();
    let table = shared_msr(&format!("report --verify -- sh {}", script.path()));
    assert_eq!(table.status, 0, "{table:?}");
    assert!(table.stdout.contains("loaded anew"), "{}", table.stdout);
}

fn assert_counted_across(step: &str) {
    let script = Script::new();
    let record = WriteRecord::start();
    let Measured { ended, report, kernel } = measure(&format!("--probe {step}"), &["sh", script.path()]);
    let restores: u64 = restored(&record.writes()).values().sum();
    assert_eq!(ended.status, 0, "{ended:?}");
    assert_verified(&report);
    assert_all_attributed(&report);
    for counter in [Counter::Exits, Counter::UserspaceExits, Counter::SetWritten] {
        let counted: u64 = kernel[&counter].values().sum();
        assert_eq!(counter.of_totals(&report), Some(counted), "{counter:?}: the report and the kernel");
    }
    // Not all writes of the host's value are restores: a module that is loaded tries the MSR.
    assert!(restores > 150, "60 + 90 KVM_RUN and two that set MSRs: {restores}");
    assert_eq!(report.totals.counts.performed, Some(restores), "performed = the kernel's restores");
    let returns: Vec<u64> = report.vcpus.iter().map(|row| row.numbers.userspace_exits).collect();
    assert_eq!(returns, [60, 90], "both guests ran to their ends");
    assert_eq!(report.reloads, 1);
}

/// A guest before the reload and one after it.
struct Script(tempfile::NamedTempFile);

impl Script {
    fn new() -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        let module = vendor_module();
        let text = format!(
            "set -e\n\
             shared-msr guest --outs 60 --cpuids 20 --tsc-aux 0xa01\n\
             rmmod {module}\n\
             load-kvm\n\
             shared-msr guest --outs 90 --cpuids 10 --tsc-aux 0xb02\n"
        );
        std::fs::write(file.path(), text).unwrap();
        Self(file)
    }

    fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }
}
