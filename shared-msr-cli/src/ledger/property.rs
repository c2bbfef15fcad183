//! Any sequence of events: a made-up KVM does what KVM does, the accounting sees only what the probes see, and the ledger
//! must tell what really happened.

use std::time::Duration;

use proptest::prelude::*;
use shared_msr_common::{CpuState, accounting::Shape};

use super::{
    Counts, Ledger,
    cpu::{place, shape},
};
use crate::{
    kernel::{
        structure::{Structure, Value},
        tables::Slot,
    },
    sample::{CpuSample, Snapshot},
};

const SLOTS: usize = 3;
const SHAPE: Shape = shape(SLOTS);

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A set of a slot to a value; `fails` makes its WRMSR fault.
    Set { slot: usize, value: u64, fails: bool },
    /// A return to user mode: closes the window if there is one.
    UserReturn,
    /// Exits.
    Exits(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        // Few values, so that sets often meet the host's value or the current one. The host's value of slot n is n.
        4 => (0..SLOTS, 0..4u64, prop::bool::weighted(0.1)).prop_map(|(slot, value, fails)| Event::Set { slot, value, fails }),
        2 => Just(Event::UserReturn),
        2 => (0..50u64).prop_map(Event::Exits),
    ]
}

/// One CPU of the made-up KVM, and what it really did since the hooks were attached.
struct Kvm {
    registered: bool,
    values: [Value; SLOTS],
    truth: [Counts; SLOTS],
    exits: u64,
    opened: u64,
    closed: u64,
}

impl Kvm {
    fn new() -> Self {
        let values = std::array::from_fn(|slot| Value { host: slot as u64, curr: slot as u64 });
        Self { registered: false, values, truth: [Counts::default(); SLOTS], exits: 0, opened: 0, closed: 0 }
    }

    fn forget(&mut self) {
        *self = Self { registered: self.registered, values: self.values, ..Self::new() };
    }

    /// `kvm_set_user_return_msr`, `kvm_on_user_return` and `trace_kvm_exit`.
    fn step(&mut self, event: Event) {
        match event {
            Event::Set { slot, value, .. } if value == self.values[slot].curr => self.truth[slot].set_skipped += 1,
            Event::Set { slot, fails: true, .. } => self.truth[slot].set_failed += 1,
            Event::Set { slot, value, .. } => {
                self.truth[slot].set_written += 1;
                self.values[slot].curr = value;
                self.opened += u64::from(!self.registered);
                self.registered = true;
            }
            Event::UserReturn if self.registered => {
                self.registered = false;
                self.closed += 1;
                for (value, truth) in self.values.iter_mut().zip(&mut self.truth) {
                    truth.performed += u64::from(value.host != value.curr);
                    value.curr = value.host;
                }
            }
            Event::UserReturn => {}
            Event::Exits(exits) => {
                self.exits += exits;
                for (value, truth) in self.values.iter().zip(&mut self.truth) {
                    truth.deferred += if value.host == value.curr { 0 } else { exits };
                }
            }
        }
    }

    fn structure(&self) -> Structure {
        let mut values = [Value { host: 0, curr: 0 }; shared_msr_common::MAX_SLOTS];
        values[..SLOTS].copy_from_slice(&self.values);
        Structure { notifier: 0, registered: u8::from(self.registered), values }
    }
}

/// What the kernel-side programs do at the entry of the event's function, before KVM acts.
fn probe(state: &mut CpuState, kvm: &Kvm, event: Event) {
    match event {
        Event::Set { slot, value, .. } => {
            place(state, &kvm.structure());
            state.observe(SHAPE);
            state.set(SHAPE, slot as u64, value, u64::MAX);
        }
        Event::UserReturn if kvm.registered => {
            place(state, &kvm.structure());
            state.observe(SHAPE);
            assert!(state.close(SHAPE.slots));
        }
        Event::UserReturn => {}
        Event::Exits(exits) => state.exits += exits,
    }
}

fn settle(state: CpuState, kvm: &Kvm) -> Ledger {
    let list: Vec<Slot> = (0..SLOTS).map(|slot| Slot { slot, index: 0, name: format!("slot {slot}") }).collect();
    let sample = CpuSample { cpu: 0, state, structure: Some(kvm.structure()), torn: false };
    Ledger::settle(&Snapshot { cpus: vec![sample], duration: Duration::ZERO, skipped_runs: None }, &list)
}

proptest! {
    #[test]
    fn the_ledger_tells_what_kvm_did(before in prop::collection::vec(event(), 0..10), during in prop::collection::vec(event(), 0..60)) {
        let mut kvm = Kvm::new();
        for event in before {
            kvm.step(event);
        }
        let open_at_start = u64::from(kvm.registered);
        kvm.forget();
        let mut state = CpuState::EMPTY;
        for event in during {
            probe(&mut state, &kvm, event);
            kvm.step(event);
        }
        let ledger = settle(state, &kvm);
        prop_assert_eq!(&ledger.violations, &Vec::<String>::new());
        prop_assert!(ledger.lost.is_nothing(), "{:?}", ledger.lost);
        prop_assert_eq!(ledger.events.exits, kvm.exits);
        prop_assert_eq!(ledger.events.windows_open_at_start, open_at_start);
        prop_assert_eq!((ledger.events.windows_opened, ledger.events.windows_closed), (kvm.opened, kvm.closed));
        for (row, truth) in ledger.msrs.iter().zip(&kvm.truth) {
            let avoided = truth.deferred.cast_signed() - truth.performed.cast_signed();
            prop_assert_eq!(row.counts, Counts { avoided, ..*truth });
        }
    }

    /// A close that the probes missed changes `registered`, so the next look at the structure finds it. Right after a write
    /// it leaves the same traces as if that write had failed, and is counted as such.
    #[test]
    fn a_missed_close_is_never_silent(during in prop::collection::vec(event(), 1..40), missed in 0..40usize) {
        let mut kvm = Kvm::new();
        let mut state = CpuState::EMPTY;
        let mut missed_one = false;
        for (position, mut event) in during.into_iter().enumerate() {
            if let Event::Set { fails, .. } = &mut event {
                *fails = false;
            }
            // The CPU must be known already, or nothing was expected of it.
            let miss = position >= missed && !missed_one && kvm.registered && state.known != 0 && matches!(event, Event::UserReturn);
            missed_one |= miss;
            if !miss {
                probe(&mut state, &kvm, event);
            }
            kvm.step(event);
        }
        let ledger = settle(state, &kvm);
        let silent = ledger.lost.is_nothing() && ledger.totals.set_failed == 0;
        prop_assert_eq!(silent, !missed_one, "{:?} {:?}", ledger.lost, ledger.violations);
    }
}
