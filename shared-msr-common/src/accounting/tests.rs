//! Single steps of the arithmetic, on a made-up structure. Sequences of steps are in the ledger's property test.

use super::*;

const SHAPE: Shape = Shape { slots: 2, registered: 24, values: 32, watched: Watched::Calls, form: SetForm::Merged };
const WRITES: Shape = Shape { watched: Watched::Writes, ..SHAPE };

/// A CPU whose structure says this of slot 0; slot 1 is clean.
fn cpu(registered: u64, host: u64, curr: u64) -> CpuState {
    let mut state = CpuState::EMPTY;
    put(&mut state, registered, host, curr);
    state
}

fn put(state: &mut CpuState, registered: u64, host: u64, curr: u64) {
    state.structure[3] = registered;
    state.structure[4] = host;
    state.structure[5] = curr;
}

/// `host` and `curr` differ outside of the mask; the value is `curr`'s inside of it.
#[test]
fn masked_bits_are_the_hosts_since_5_5_and_the_values_before() {
    let (host, curr, value, mask) = (0xf0, 0x0a, 0x3a, 0x0f);
    let mut state = cpu(1, host, curr);
    state.observe(SHAPE, 0);
    assert_eq!(state.set(SHAPE, 0, value, mask, || 1), SetOutcome::Written);
    assert_eq!(state.pending_value, 0xfa);

    let whole = Shape { form: SetForm::Whole, ..SHAPE };
    let mut state = cpu(1, host, curr);
    state.observe(whole, 0);
    assert_eq!(state.set(whole, 0, value, mask, || 1), SetOutcome::Skipped);
    assert_eq!(state.set(whole, 0, 0x3b, mask, || 1), SetOutcome::Written);
    assert_eq!(state.pending_value, 0x3b);
}

#[test]
fn a_wrmsr_outside_of_a_window_restores_what_is_dirty() {
    let mut state = cpu(1, 7, 9);
    state.observe(WRITES, 0);
    // The kernel takes back `registered`, then restores.
    put(&mut state, 0, 7, 9);
    state.observe(WRITES, 0);
    assert_eq!(state.write(WRITES, 0, 7, false, || 1), WriteOutcome::Restored);
    assert_eq!((state.slots[0].performed, state.windows.closed, state.windows.clean, state.dirty), (1, 1, 0, 0));
}

#[test]
fn a_wrmsr_that_changes_nothing_is_neither_set_nor_restore() {
    let mut state = cpu(0, 7, 7);
    state.observe(WRITES, 0);
    assert_eq!(state.write(WRITES, 0, 7, false, || 1), WriteOutcome::Unchanged);
    assert_eq!((state.slots[0].written, state.windows.opened), (0, 0));
    state.check(0, 7, false, Some(state.curr(WRITES, 0)));
    assert_eq!((state.slots[0].wrmsrs, state.slots[0].wrmsrs_unchanged), (0, 1));
}

#[test]
fn counting_that_begins_in_the_middle_of_a_close_finds_an_open_window() {
    let mut state = cpu(0, 7, 9);
    state.observe(WRITES, 0);
    assert_eq!(state.write(WRITES, 0, 7, false, || 1), WriteOutcome::Restored);
    assert_eq!((state.registered_at_start, state.windows.closed, state.slots[0].performed), (1, 1, 1));
}

#[test]
fn unregistering_is_a_close_though_registered_is_taken_back_already() {
    let mut state = cpu(1, 7, 9);
    state.observe(SHAPE, 0);
    put(&mut state, 0, 7, 9);
    state.mark_registered(SHAPE);
    assert_eq!(state.observe(SHAPE, 0), Observation::Expected);
    assert!(state.close(SHAPE.slots, 9));
    assert_eq!((state.slots[0].performed, state.windows.closed, state.unseen_changes), (1, 1, 0));
}

#[test]
fn a_wrmsr_that_nobody_told_of_is_counted_by_the_check_all_the_same() {
    let mut state = cpu(0, 7, 7);
    state.check(0, 9, false, Some(7));
    assert_eq!(state.slots[0].wrmsrs_unpaired, 1, "before any event");
    state.observe(SHAPE, 0);
    state.check(0, 8, false, Some(7));
    assert_eq!((state.slots[0].wrmsrs, state.expected), (1, 0));
}

#[test]
fn a_wrmsr_of_what_was_written_last_changes_nothing_whatever_the_structure_says() {
    let mut state = cpu(0, 7, 7);
    state.observe(SHAPE, 0);
    state.expected = 1;
    state.check(0, 9, false, None);
    // The vendor module is loaded anew, and tries the MSR; the structure is elsewhere by now.
    state.check(0, 9, false, Some(0));
    state.check(0, 9, false, None);
    assert_eq!((state.slots[0].wrmsrs, state.slots[0].wrmsrs_unchanged), (1, 2));
}

#[test]
fn a_return_after_which_neither_set_nor_close_came_shows_that_they_were_not_heard() {
    let mut books = NoBooks;
    let mut state = cpu(0, 7, 7);
    state.observe(SHAPE, 0);
    state.own_slot(&mut books, 0, 1, 5);
    state.set(SHAPE, 0, 9, u64::MAX, || 1);
    state.exits += 3;
    assert!(!state.note_return(5), "a window is open, so the structure need not be looked at");
    state.exits += 3;
    state.note_return(5);
    assert_eq!(state.missed_closes, 1);
    // Without an exit KVM loaded nothing.
    state.note_return(5);
    assert_eq!(state.missed_closes, 1);
    // A set came: whatever was missed shows in the structure.
    state.exits += 3;
    state.own_slot(&mut books, 0, 1, 5);
    state.note_return(5);
    assert_eq!(state.missed_closes, 1);
}

#[test]
fn a_window_that_no_set_told_of_is_found_at_the_return() {
    let mut state = cpu(0, 7, 7);
    state.observe(SHAPE, 0);
    assert!(state.note_return(5));
    state.found_registered(false);
    assert_eq!(state.missed_closes, 0);
    state.found_registered(true);
    assert_eq!(state.missed_closes, 1);
}

#[test]
fn exits_are_checked_against_those_that_were_counted() {
    let mut state = CpuState::EMPTY;
    assert!(!state.check_exit(), "seen, but not counted");
    state.exits += 1;
    assert!(state.check_exit());
    state.exits += 2;
    assert!(state.check_exit(), "one was not seen");
    assert_eq!((state.exits_uncounted, state.exits_unchecked), (1, 1));
}

/// Nobody has a row.
struct NoBooks;

impl Books for NoBooks {
    fn tally(&mut self, _: u64) -> Option<&mut crate::Tally> {
        None
    }
    fn cause(&mut self, _: &crate::CauseKey, _: &[u8; crate::owner::COMMAND_BYTES]) -> Option<&mut crate::CauseTally> {
        None
    }
    fn add(_: &mut u64, _: u64) {}
}
