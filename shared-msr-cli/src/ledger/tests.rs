//! A made-up KVM drives the state of a CPU as the kernel-side programs do; the ledger must tell what it did.

use std::time::Duration;

use shared_msr_common::CpuState;

use super::Ledger;
use crate::{
    kernel::{structure::tests::structure, tables::Slot},
    sample::{CpuSample, Snapshot},
};

fn list() -> Vec<Slot> {
    vec![Slot { slot: 0, index: 0xc000_0103, name: "TSC_AUX".to_owned() }]
}

fn settle(sample: CpuSample) -> Ledger {
    Ledger::settle(&Snapshot { cpus: vec![sample], duration: Duration::from_secs(1), skipped_runs: None }, &list())
}

fn sample(state: CpuState, registered: u8, host: u64, curr: u64) -> CpuSample {
    CpuSample { cpu: 0, state, structure: Some(structure(registered, host, curr)), torn: false }
}

/// One window: opened, 10 exits accounted, still open, 5 more exits.
fn open_window() -> CpuState {
    let mut state =
        CpuState { known: 1, registered: 1, dirty: 1, windows_opened: 1, exits: 15, settled_exits: 10, ..CpuState::EMPTY };
    state.slots[0].written = 1;
    state.slots[0].made_dirty = 1;
    state.slots[0].deferred = 10;
    state
}

#[test]
fn exits_since_the_last_event_are_credited_to_dirty_slots() {
    let ledger = settle(sample(open_window(), 1, 0, 0xabc));
    assert_eq!(ledger.violations, Vec::<String>::new());
    assert_eq!(ledger.msrs[0].counts.deferred, 15);
    assert_eq!(ledger.totals.avoided, 15);
    assert_eq!(ledger.events.windows_open_at_end, 1);
    assert!(ledger.lost.is_nothing());
}

#[test]
fn a_cpu_without_events_was_all_the_time_as_it_is_now() {
    let state = CpuState { exits: 1000, ..CpuState::EMPTY };
    let inside = settle(sample(state, 1, 0, 0xabc));
    assert_eq!(inside.totals.deferred, 1000);
    assert_eq!((inside.events.windows_open_at_start, inside.events.windows_open_at_end), (1, 1));
    assert!(inside.reconciled() && inside.lost.is_nothing());
    let outside = settle(sample(state, 0, 0, 0));
    assert_eq!(outside.totals.deferred, 0);
}

#[test]
fn exits_of_a_cpu_whose_structure_is_unknown_are_a_loss() {
    let state = CpuState { exits: 1000, ..CpuState::EMPTY };
    let ledger = settle(CpuSample { cpu: 0, state, structure: None, torn: false });
    assert_eq!(ledger.lost.unsettled_exits, 1000);
    assert_eq!(ledger.totals.deferred, 0);
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
    assert_eq!((ledger.totals.set_written, ledger.totals.set_failed), (0, 1));
    assert_eq!(ledger.events.windows_opened, 0);
    assert_eq!(ledger.violations, Vec::<String>::new());
}

#[test]
fn a_window_that_closes_without_an_exit_makes_avoided_negative() {
    let mut state = CpuState { known: 1, windows_opened: 1, windows_closed: 1, ..CpuState::EMPTY };
    state.slots[0].written = 1;
    state.slots[0].made_dirty = 1;
    state.slots[0].performed = 1;
    let ledger = settle(sample(state, 0, 0, 0));
    assert_eq!(ledger.totals.avoided, -1);
    assert!(ledger.reconciled());
}

#[test]
fn a_missed_close_breaks_the_invariants_and_is_counted() {
    let ledger = settle(sample(open_window(), 0, 0, 0));
    assert_eq!(ledger.lost.unseen_changes, 1);
    let mut state = open_window();
    state.windows_opened = 2;
    assert!(!settle(sample(state, 1, 0, 0xabc)).reconciled());
}

#[test]
fn a_restore_that_nobody_wrote_for_breaks_the_invariants() {
    let mut state = CpuState { known: 1, windows_opened: 1, windows_closed: 1, ..CpuState::EMPTY };
    state.slots[0].performed = 1;
    let ledger = settle(sample(state, 0, 0, 0));
    assert!(!ledger.reconciled());
    assert!(ledger.violations[0].contains("TSC_AUX"), "{:?}", ledger.violations);
}
