//! A made-up KVM drives the state of a CPU as the kernel-side programs do; the ledger must tell what it did.

use std::time::Duration;

use shared_msr_common::{BankKey, CpuState, ReasonCounters, WindowTally, accounting::Watched};

use super::{Events, Ledger};
use crate::{
    kernel::{
        structure::{Structure, tests::structure},
        tables::Slot,
    },
    probe::probes::Sight,
    sample::{CpuSample, Snapshot, owners::Owners},
};

fn list() -> Vec<Slot> {
    vec![Slot { slot: 0, index: 0xc000_0103, name: "TSC_AUX".to_owned() }]
}

fn settle(sample: CpuSample) -> Ledger {
    settle_as(sample, Sight::Split(Watched::Calls), false)
}

fn settle_as(sample: CpuSample, sight: Sight, checked: bool) -> Ledger {
    let snapshot = Snapshot {
        cpus: vec![sample],
        duration: Duration::from_secs(1),
        skipped_runs: None,
        owners: Owners { still: true, ..Owners::default() },
        sight,
        checked,
        timed: false,
        reloads: 0,
        list_changes: 0,
        hooks_off: 0,
    };
    Ledger::settle(&snapshot, &list())
}

fn sample(state: CpuState, registered: u8, host: u64, curr: u64) -> CpuSample {
    CpuSample { cpu: 0, state, structure: Some(structure(registered, host, curr)), unreadable: false, torn: false }
}

/// A window that was opened and closed, and of which it was not seen when.
const ONE_WINDOW: WindowTally = WindowTally { opened: 1, closed: 1, unmeasured: 1, ..WindowTally::EMPTY };

/// One window: opened, 10 exits accounted, still open, 5 more exits.
fn open_window() -> CpuState {
    let windows = WindowTally { opened: 1, ..WindowTally::EMPTY };
    let mut state = CpuState { known: 1, registered: 1, dirty: 1, windows, exits: 15, settled_exits: 10, ..CpuState::EMPTY };
    state.slots[0].written = 1;
    state.slots[0].made_dirty = 1;
    state.slots[0].deferred = 10;
    state
}

#[test]
fn an_empty_list_is_not_believed_where_kvm_is_seen_to_use_one() {
    let settle = |state, structure| {
        let cpus = vec![CpuSample { cpu: 3, state, structure, unreadable: false, torn: false }];
        let owners = Owners { still: true, ..Owners::default() };
        let duration = Duration::from_secs(1);
        let sight = Sight::Split(Watched::Calls);
        let snapshot = Snapshot {
            cpus,
            duration,
            skipped_runs: None,
            owners,
            sight,
            checked: true,
            timed: false,
            reloads: 0,
            list_changes: 0,
            hooks_off: 0,
        };
        Ledger::settle(&snapshot, &[])
    };
    let unused = structure(0, 0, 0);
    assert!(settle(CpuState::EMPTY, Some(unused.clone())).reconciled());
    let sets = CpuState { implausible: 255, ..CpuState::EMPTY };
    let window = CpuState { known: 1, windows: ONE_WINDOW, ..CpuState::EMPTY };
    let used = Structure { notifier: 0xffff_ffff_c054_5f10, ..unused.clone() };
    for (state, structure) in [(sets, unused.clone()), (window, unused), (CpuState::EMPTY, used)] {
        let ledger = settle(state, Some(structure));
        assert!(!ledger.verified() && ledger.violations[0].starts_with("CPU 3: KVM's list of MSRs is empty, but"));
    }
}

#[test]
fn a_structure_that_cannot_be_read_any_more_is_a_loss() {
    let state = CpuState { known: 1, exits: 5, settled_exits: 5, ..CpuState::EMPTY };
    let ledger = settle(CpuSample { cpu: 0, state, structure: None, unreadable: true, torn: false });
    assert_eq!(ledger.lost.unreadable_samples, 1);
    assert_eq!(ledger.since(&ledger).lost.unreadable_samples, 1, "it is no event that is counted once");
}

#[test]
fn exits_since_the_last_event_are_credited_to_dirty_slots() {
    let ledger = settle(sample(open_window(), 1, 0, 0xabc));
    assert_eq!(ledger.violations, Vec::<String>::new());
    assert_eq!(ledger.msrs[0].counts.deferred, Some(15));
    assert_eq!(ledger.totals.avoided, Some(15));
    assert_eq!(ledger.events.windows_open_at_end, Some(1));
    assert!(ledger.lost.is_nothing());
}

#[test]
fn a_cpu_without_events_was_all_the_time_as_it_is_now() {
    let state = CpuState { exits: 1000, ..CpuState::EMPTY };
    let inside = settle(sample(state, 1, 0, 0xabc));
    assert_eq!(inside.totals.deferred, Some(1000));
    assert_eq!((inside.events.windows_open_at_start, inside.events.windows_open_at_end), (Some(1), Some(1)));
    assert!(inside.reconciled() && inside.lost.is_nothing());
    let outside = settle(sample(state, 0, 0, 0));
    assert_eq!(outside.totals.deferred, Some(0));
}

#[test]
fn exits_of_a_cpu_whose_structure_is_unknown_are_a_loss() {
    let state = CpuState { exits: 1000, ..CpuState::EMPTY };
    let ledger = settle(CpuSample { cpu: 0, state, structure: None, unreadable: false, torn: false });
    assert_eq!(ledger.lost.unsettled_exits, 1000);
    assert_eq!(ledger.totals.deferred, Some(0));
}

#[test]
fn a_last_write_that_left_no_trace_has_failed() {
    let mut state = open_window();
    state.exits = 10;
    state.pending = 1;
    state.pending_value = 0xabc;
    state.slots[0].deferred = 0;
    state.settled_exits = 10;
    let ledger = settle(sample(state, 0, 0, 0));
    assert_eq!((ledger.totals.set_written, ledger.totals.set_failed), (Some(0), Some(1)));
    assert_eq!(ledger.events.windows_opened, Some(0));
    assert_eq!(ledger.violations, Vec::<String>::new());
}

#[test]
fn a_window_that_closes_without_an_exit_makes_avoided_negative() {
    let mut state = CpuState { known: 1, windows: ONE_WINDOW, ..CpuState::EMPTY };
    state.slots[0].written = 1;
    state.slots[0].made_dirty = 1;
    state.slots[0].performed = 1;
    let ledger = settle(sample(state, 0, 0, 0));
    assert_eq!(ledger.totals.avoided, Some(-1));
    assert!(ledger.reconciled());
}

#[test]
fn a_missed_close_breaks_the_invariants_and_is_counted() {
    let ledger = settle(sample(open_window(), 0, 0, 0));
    assert_eq!(ledger.lost.unseen_changes, 1);
    let mut state = open_window();
    state.windows.opened = 2;
    assert!(!settle(sample(state, 1, 0, 0xabc)).reconciled());
}

#[test]
fn a_restore_that_nobody_wrote_for_breaks_the_invariants() {
    let mut state = CpuState { known: 1, windows: ONE_WINDOW, ..CpuState::EMPTY };
    state.slots[0].performed = 1;
    let ledger = settle(sample(state, 0, 0, 0));
    assert!(!ledger.reconciled());
    assert!(ledger.violations[0].contains("TSC_AUX"), "{:?}", ledger.violations);
}

/// One window, opened and closed, and what the check saw of it.
fn closed_window(wrmsrs: u64) -> CpuSample {
    let mut state = CpuState { known: 1, windows: ONE_WINDOW, exits: 3, ..CpuState::EMPTY };
    state.slots[0].written = 1;
    state.slots[0].made_dirty = 1;
    state.slots[0].performed = 1;
    state.slots[0].wrmsrs = wrmsrs;
    sample(state, 0, 0, 0)
}

#[test]
fn a_count_that_the_kernels_record_contradicts_is_not_reconciled() {
    let check = |wrmsrs| settle_as(closed_window(wrmsrs), Sight::Split(Watched::Calls), true);
    assert!(check(2).reconciled() && check(2).verified());
    for wrmsrs in [0, 1, 3] {
        let ledger = check(wrmsrs);
        assert!(!ledger.reconciled() && ledger.violations[0].contains("own record"), "{:?}", ledger.violations);
    }
    assert!(settle(closed_window(3)).reconciled(), "without the check nothing is compared");
}

#[test]
fn a_wrmsr_that_the_cpu_is_about_to_do_is_no_contradiction() {
    let mut sample = closed_window(1);
    sample.state.expected = 1;
    assert!(settle_as(sample, Sight::Split(Watched::Calls), true).reconciled());
}

#[test]
fn hooks_that_never_fire_are_found_out() {
    let mut state = CpuState::EMPTY;
    state.slots[0].wrmsrs_unpaired = 500;
    let ledger = settle_as(sample(state, 0, 0, 0), Sight::Split(Watched::Calls), true);
    assert!(!ledger.reconciled(), "{:?}", ledger.totals);
    state.slots[0].wrmsrs_unpaired = 1;
    assert!(settle_as(sample(state, 0, 0, 0), Sight::Split(Watched::Calls), true).reconciled());
}

#[test]
fn where_only_wrmsrs_are_counted_everything_else_is_unknown() {
    let mut state = CpuState { exits: 10, userspace_exits: 2, ..CpuState::EMPTY };
    state.slots[0].wrmsrs_unpaired = 4;
    let ledger = settle_as(CpuSample { cpu: 0, state, structure: None, unreadable: false, torn: false }, Sight::WritesOnly, true);
    let counts = ledger.msrs[0].counts;
    assert_eq!((counts.wrmsrs, counts.set_written, counts.deferred, counts.performed), (Some(4), None, None, None));
    let Events { exits, windows_opened, .. } = ledger.events;
    assert_eq!((exits, windows_opened, ledger.msrs[0].loaded), (10, None, None));
    assert!(ledger.lost.is_nothing() && ledger.reconciled() && !ledger.verified());
}

#[test]
fn a_slot_without_any_set_was_never_loaded() {
    let state = CpuState { known: 1, ..CpuState::EMPTY };
    assert_eq!(settle(sample(state, 0, 0, 0)).msrs[0].loaded, Some(false));
    assert_eq!(settle(closed_window(0)).msrs[0].loaded, Some(true));
}

#[test]
fn a_fault_that_the_kernels_record_does_not_know_is_not_reconciled() {
    let mut sample = closed_window(3);
    sample.state.slots[0].failed = 1;
    assert!(!settle_as(sample.clone(), Sight::Split(Watched::Calls), true).reconciled());
    sample.state.slots[0].wrmsrs = 2;
    sample.state.slots[0].wrmsrs_failed = 1;
    assert!(settle_as(sample, Sight::Split(Watched::Calls), true).reconciled());
}

#[test]
fn what_nobody_is_known_for_is_nobodys_and_still_in_the_sums() {
    let ledger = settle(closed_window(0));
    let nobodys = ledger.unattributed();
    assert_eq!((nobodys.exits, nobodys.windows.closed, nobodys.slots[0].performed), (3, 1, 1));
    assert!(ledger.vcpus().is_empty() && ledger.reconciled(), "{:?}", ledger.violations);
}

#[test]
fn reasons_are_held_against_exits_only_once_counting_has_stopped() {
    let mut reasons = ReasonCounters::EMPTY;
    reasons.common[10] = 2;
    let bank = BankKey { dirty: 0, ..BankKey::default() };
    let snapshot = |stopped| Snapshot {
        cpus: vec![closed_window(0)],
        duration: Duration::from_secs(1),
        skipped_runs: None,
        owners: Owners { still: true, stopped, banks: Some([(bank, reasons)].into()), ..Owners::default() },
        sight: Sight::Split(Watched::Calls),
        checked: false,
        timed: false,
        reloads: 0,
        list_changes: 0,
        hooks_off: 0,
    };
    assert_eq!(Ledger::settle(&snapshot(true), &list()).violations, ["2 exits by reason, but 3 in all"]);
    assert!(Ledger::settle(&snapshot(false), &list()).reconciled());
}

#[test]
fn rows_that_do_not_add_up_to_the_cpus_counts_are_a_violation() {
    let mut state = closed_window(0).state;
    // Credited, but in no row.
    state.credited.exits = 2;
    let sample = |still| Snapshot {
        cpus: vec![sample(state, 0, 0, 0)],
        duration: Duration::from_secs(1),
        skipped_runs: None,
        owners: Owners { still, ..Owners::default() },
        sight: Sight::Split(Watched::Calls),
        checked: false,
        timed: false,
        reloads: 0,
        list_changes: 0,
        hooks_off: 0,
    };
    let found = Ledger::settle(&sample(true), &list()).violations;
    assert_eq!(found, ["exits: 1 over all owners, but 3 over all CPUs"]);
    assert!(Ledger::settle(&sample(false), &list()).reconciled(), "while rows change they cannot be compared");
}
