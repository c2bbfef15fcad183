//! What must hold of every report, whoever owned and paid.

use shared_msr::{
    ledger::{Counts, Events, Lost},
    report::json::document::Numbers,
};

use super::Report;

/// What is counted of a CPU as well as of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Counter {
    Exits,
    UserspaceExits,
    WindowsOpened,
    WindowsClosed,
    CleanCloses,
    SetWritten,
    SetSkipped,
    SetFailed,
    Deferred,
    Performed,
}

impl Counter {
    pub(crate) const ALL: [Self; 10] = [
        Self::Exits,
        Self::UserspaceExits,
        Self::WindowsOpened,
        Self::WindowsClosed,
        Self::CleanCloses,
        Self::SetWritten,
        Self::SetSkipped,
        Self::SetFailed,
        Self::Deferred,
        Self::Performed,
    ];

    /// None where the hooks in use cannot tell it.
    pub(crate) fn of(self, numbers: &Numbers) -> Option<u64> {
        match self {
            Self::Exits => Some(numbers.exits),
            Self::UserspaceExits => Some(numbers.userspace_exits),
            Self::WindowsOpened => numbers.windows_opened,
            Self::WindowsClosed => numbers.windows_closed,
            Self::CleanCloses => numbers.clean_closes,
            Self::SetWritten => numbers.set_written,
            Self::SetSkipped => numbers.set_skipped,
            Self::SetFailed => numbers.set_failed,
            Self::Deferred => numbers.deferred,
            Self::Performed => numbers.performed,
        }
    }

    /// The same of a CPU, or of all of them.
    pub(crate) fn counted(self, events: &Events, counts: &Counts) -> Option<u64> {
        match self {
            Self::Exits => Some(events.exits),
            Self::UserspaceExits => Some(events.userspace_exits),
            Self::WindowsOpened => events.windows_opened,
            Self::WindowsClosed => events.windows_closed,
            Self::CleanCloses => events.clean_closes,
            Self::SetWritten => counts.set_written,
            Self::SetSkipped => counts.set_skipped,
            Self::SetFailed => counts.set_failed,
            Self::Deferred => counts.deferred,
            Self::Performed => counts.performed,
        }
    }

    /// The report's total.
    pub(crate) fn of_totals(self, report: &Report) -> Option<u64> {
        self.counted(&report.totals.events, &report.totals.counts)
    }
}

/// A report under `--verify`: nothing is missing and everything adds up.
#[track_caller]
pub(crate) fn assert_verified(report: &Report) {
    assert_reconciled(report);
    assert!(report.verified, "not verified: {:?}", report.host.hooks);
    assert_nothing_lost(report);
    assert!(matches!(report.totals.counts.set_failed, None | Some(0)), "a set failed: {:?}", report.totals);
}

/// Nothing was lost.
#[track_caller]
pub(crate) fn assert_nothing_lost(report: &Report) {
    let nothing = Lost { skipped_runs: report.lost.skipped_runs.map(|_| 0), ..Lost::default() };
    assert_eq!(report.lost, nothing);
}

/// The same without asking for completeness: what was lost may be missing in rows, but in no sum.
#[track_caller]
pub(crate) fn assert_reconciled(report: &Report) {
    assert!(report.reconciled && report.violations.is_empty(), "not reconciled: {:?}", report.violations);
    assert_adds_up(report);
}

/// Adds up anew what the program says that it has added up.
#[track_caller]
pub(crate) fn assert_adds_up(report: &Report) {
    let unattributed = &report.unattributed;
    for counter in Counter::ALL {
        let Some(total) = counter.of_totals(report) else { continue };
        let sum = |numbers: &mut dyn Iterator<Item = &Numbers>| -> u64 {
            numbers
                .map(|numbers| counter.of(numbers).unwrap_or_else(|| panic!("{counter:?} has a total but not in each row")))
                .sum()
        };
        let nobody = counter.of(unattributed).unwrap();
        assert_eq!(
            sum(&mut report.vcpus.iter().map(|row| &row.numbers)) + nobody,
            total,
            "{counter:?} over vcpus + unattributed"
        );
        assert_eq!(sum(&mut report.vms.iter().map(|row| &row.numbers)) + nobody, total, "{counter:?} over vms + unattributed");
        let cpus: u64 = report.cpus.iter().map(|row| counter.counted(&row.events, &row.counts).unwrap()).sum();
        assert_eq!(cpus, total, "{counter:?} over cpus");
    }
    let (events, counts) = (&report.totals.events, &report.totals.counts);
    let sum = |of: fn(&shared_msr::report::json::document::CausePart) -> u64| Some(report.causes.iter().map(of).sum());
    assert_eq!(sum(|row| row.closes), events.windows_closed, "closes over causes");
    assert_eq!(sum(|row| row.clean_closes), events.clean_closes, "clean closes over causes");
    assert_eq!(sum(|row| row.performed), counts.performed, "performed over causes");
}

/// Nothing is nobody's.
#[track_caller]
pub(crate) fn assert_all_attributed(report: &Report) {
    let nobody = &report.unattributed;
    // Some steps cannot tell every counter.
    for counter in Counter::ALL {
        assert!(matches!(counter.of(nobody), None | Some(0)), "{counter:?} is nobody's: {nobody:?}");
    }
}
