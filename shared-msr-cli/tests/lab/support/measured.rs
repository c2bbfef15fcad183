//! A report and, of the same time, what the kernel itself counted.

use std::{collections::BTreeMap, fs, path::Path};

use super::{
    Counter, Ended, KernelCounter, Report, Running, arguments, assert_reconciled, close_windows, command, json, wait_for_exits,
};

/// Where the report is written, so that standard output is the measured command's own.
const REPORT: &str = "/tmp/report.json";

/// What one measurement came to.
pub(crate) struct Measured {
    /// The program's ending; its standard output is the measured command's.
    pub(crate) ended: Ended,
    pub(crate) report: Report,
    /// The kernel's counts, by counter and CPU.
    pub(crate) kernel: BTreeMap<Counter, BTreeMap<u32, u64>>,
}

/// Runs a report with the check, with these further arguments (separated by blanks) while `measured` runs.
///
/// The kernel counts WRMSRs of `TSC_AUX` by their value: the host's is the number of the CPU, so that guests' must be larger
/// than 7.
pub(crate) fn measure(words: &str, measured: &[&str]) -> Measured {
    let counters = counters();
    let report = start(words, measured);
    Measured::read(report.wait(), &counters)
}

/// The same without the kernel's counts.
pub(crate) fn report_on(words: &str, measured: &[&str]) -> (Ended, Report) {
    let ended = start(words, measured).wait();
    let report = read(&ended);
    (ended, report)
}

/// A report with the check that ends as Ctrl-C ends it, once there have been so many exits on the host.
pub(crate) fn report_over_exits(words: &str, exits: u64) -> Ended {
    let mut report = Running::start(&mut command(&format!("report --verify --format json {words}")));
    report.wait_until_attached();
    wait_for_exits(exits);
    report.signal(libc::SIGINT);
    let ended = report.wait();
    assert_eq!(ended.status, 0, "{ended:?}");
    ended
}

/// A report with the check that measures until it is told to end, while the kernel counts the same.
pub(crate) struct Measuring {
    counters: Counters,
    report: Running,
}

impl Measuring {
    /// Starts one with these further arguments, separated by blanks, and waits until it measures. No guest may run yet.
    pub(crate) fn start(words: &str) -> Self {
        let counters = counters();
        let mut report = start(words, &[]);
        report.wait_until_attached();
        Self { counters, report }
    }

    /// Ends it as Ctrl-C does. No guest may run any more.
    pub(crate) fn stop(self) -> Measured {
        close_windows();
        self.report.signal(libc::SIGINT);
        Measured::read(self.report.wait(), &self.counters)
    }
}

/// The kernel's counters of what the report counts.
type Counters = [(Counter, KernelCounter); 4];

fn counters() -> Counters {
    [
        (Counter::SetWritten, KernelCounter::start("msr/write_msr", Some("msr == 0xc0000103 && val >= 8"))),
        (Counter::Performed, KernelCounter::start("msr/write_msr", Some("msr == 0xc0000103 && val < 8"))),
        (Counter::Exits, KernelCounter::start("kvm/kvm_exit", None)),
        (Counter::UserspaceExits, KernelCounter::start("kvm/kvm_userspace_exit", None)),
    ]
}

fn start(words: &str, measured: &[&str]) -> Running {
    if Path::new(REPORT).exists() {
        fs::remove_file(REPORT).unwrap();
    }
    let mut command = command("report --verify --format json --output");
    command.arg(REPORT).args(arguments(words));
    if !measured.is_empty() {
        command.arg("--").args(measured);
    }
    Running::start(&mut command)
}

fn read(ended: &Ended) -> Report {
    let text = fs::read_to_string(REPORT).unwrap_or_else(|error| panic!("no report: {error}: {ended:?}"));
    json(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

impl Measured {
    fn read(ended: Ended, counters: &Counters) -> Self {
        counters.iter().for_each(|(_, counter)| counter.stop());
        let kernel = counters.iter().map(|(counter, kernel)| (*counter, kernel.by_cpu())).collect();
        let report = read(&ended);
        Self { ended, report, kernel }
    }

    /// It ended well, adds up, and its totals are the kernel's.
    #[track_caller]
    pub(crate) fn assert_right(&self) {
        // First, because its words say what the status only hints at.
        assert_reconciled(&self.report);
        assert_eq!(self.ended.status, 0, "{:?}", self.ended);
        self.assert_as_the_kernel_counts();
    }

    /// Totals against what the kernel itself counted.
    #[track_caller]
    pub(crate) fn assert_as_the_kernel_counts(&self) {
        for (counter, by_cpu) in &self.kernel {
            let counted: u64 = by_cpu.values().sum();
            assert_eq!(counter.of_totals(&self.report), Some(counted), "{counter:?}: the report and the kernel");
        }
    }
}
