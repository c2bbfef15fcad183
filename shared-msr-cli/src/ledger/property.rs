//! Any sequence of events: a made-up KVM does what KVM does, the accounting sees only what the hooks in use see, and the
//! ledger must tell what really happened.

use std::time::Duration;

use proptest::prelude::*;
use shared_msr_common::{
    CpuState,
    accounting::{Shape, Watched},
};

use super::{
    Counts, Ledger,
    cpu::{place, shape},
};
use crate::{
    kernel::{
        structure::{Structure, Value},
        tables::Slot,
    },
    probe::probes::Sight,
    sample::{CpuSample, Snapshot},
};

const SLOTS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A set of a slot to a value; `fails` makes its WRMSR fault.
    Set { slot: usize, value: u64, fails: bool },
    /// A return to user mode: closes the window if there is one.
    UserReturn,
    /// KVM tries an MSR by writing what is there, as it does when a vCPU is created (up to 5.12).
    Try(usize),
    /// Exits.
    Exits(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        // Few values, so that sets often meet the host's value or the current one. The host's value of slot n is n.
        4 => (0..SLOTS, 0..4u64, prop::bool::weighted(0.1)).prop_map(|(slot, value, fails)| Event::Set { slot, value, fails }),
        2 => Just(Event::UserReturn),
        1 => (0..SLOTS).prop_map(Event::Try),
        2 => (0..50u64).prop_map(Event::Exits),
    ]
}

/// What a hook may hear of, at the moment it hears it.
#[derive(Clone, Copy, Debug)]
enum Heard {
    Setter { slot: usize, value: u64 },
    Closer,
    Unregister,
    Wrmsr { slot: usize, value: u64, failed: bool },
    Exits(u64),
}

/// Which hooks are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hooks {
    Functions,
    SetterAndUnregister,
    Writes,
}

fn hooks() -> impl Strategy<Value = Hooks> {
    prop_oneof![Just(Hooks::Functions), Just(Hooks::SetterAndUnregister), Just(Hooks::Writes)]
}

impl Hooks {
    fn watched(self) -> Watched {
        if self == Self::Writes { Watched::Writes } else { Watched::Calls }
    }

    fn shape(self) -> Shape {
        shape(SLOTS, self.watched())
    }

    /// What the kernel-side programs do.
    fn hear(self, state: &mut CpuState, kvm: &Kvm, heard: Heard) {
        let shape = self.shape();
        match (heard, self) {
            (Heard::Exits(exits), _) => state.exits += exits,
            (Heard::Setter { slot, value }, Self::Functions | Self::SetterAndUnregister) => {
                place(state, &kvm.structure());
                state.observe(shape);
                state.set(shape, slot as u64, value, u64::MAX);
            }
            (Heard::Closer, Self::Functions) => {
                place(state, &kvm.structure());
                state.observe(shape);
                assert!(state.close(shape.slots));
            }
            (Heard::Unregister, Self::SetterAndUnregister) => {
                place(state, &kvm.structure());
                state.mark_registered(shape);
                state.observe(shape);
                assert!(state.close(shape.slots));
            }
            (Heard::Wrmsr { slot, value, failed }, Self::Writes) => {
                place(state, &kvm.structure());
                state.observe(shape);
                state.write(shape, slot as u64, value, failed);
            }
            _ => {}
        }
        if let Heard::Wrmsr { slot, value, failed } = heard {
            state.check(slot as u64, value, failed, Some(kvm.values[slot].curr));
        }
    }
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
        Self { registered: false, values, truth: [Counts::ZERO; SLOTS], exits: 0, opened: 0, closed: 0 }
    }

    fn forget(&mut self) {
        *self = Self { registered: self.registered, values: self.values, ..Self::new() };
    }

    /// `kvm_set_user_return_msr`, `kvm_on_user_return` and `trace_kvm_exit`, with what can be heard on the way.
    fn step(&mut self, event: Event, hear: &mut dyn FnMut(&Self, Heard)) {
        match event {
            Event::Set { slot, value, fails } => {
                hear(self, Heard::Setter { slot, value });
                if value == self.values[slot].curr {
                    add(&mut self.truth[slot].set_skipped, 1);
                    return;
                }
                hear(self, Heard::Wrmsr { slot, value, failed: fails });
                add(&mut self.truth[slot].wrmsrs, u64::from(!fails));
                if fails {
                    add(&mut self.truth[slot].wrmsrs_failed, 1);
                    add(&mut self.truth[slot].set_failed, 1);
                    return;
                }
                add(&mut self.truth[slot].set_written, 1);
                self.values[slot].curr = value;
                self.opened += u64::from(!self.registered);
                self.registered = true;
            }
            Event::UserReturn if self.registered => {
                hear(self, Heard::Closer);
                self.registered = false;
                hear(self, Heard::Unregister);
                self.closed += 1;
                for slot in 0..SLOTS {
                    let Value { host, curr } = self.values[slot];
                    if host != curr {
                        hear(self, Heard::Wrmsr { slot, value: host, failed: false });
                        add(&mut self.truth[slot].wrmsrs, 1);
                        add(&mut self.truth[slot].performed, 1);
                        self.values[slot].curr = host;
                    }
                }
            }
            Event::UserReturn => {}
            Event::Try(slot) => {
                hear(self, Heard::Wrmsr { slot, value: self.values[slot].curr, failed: false });
                add(&mut self.truth[slot].wrmsrs_unchanged, 1);
            }
            Event::Exits(exits) => {
                hear(self, Heard::Exits(exits));
                self.exits += exits;
                for (value, truth) in self.values.iter().zip(&mut self.truth) {
                    add(&mut truth.deferred, if value.host == value.curr { 0 } else { exits });
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

fn add(counter: &mut Option<u64>, number: u64) {
    *counter = counter.map(|counted| counted + number);
}

fn settle(state: CpuState, kvm: &Kvm, hooks: Hooks) -> Ledger {
    let list: Vec<Slot> = (0..SLOTS).map(|slot| Slot { slot, index: 0, name: format!("slot {slot}") }).collect();
    let sample = CpuSample { cpu: 0, state, structure: Some(kvm.structure()), torn: false };
    let sight = Sight::Split(hooks.watched());
    let snapshot = Snapshot {
        cpus: vec![sample],
        duration: Duration::ZERO,
        skipped_runs: None,
        reasons: None,
        sight,
        checked: true,
        moved: false,
    };
    Ledger::settle(&snapshot, &list)
}

proptest! {
    #[test]
    fn the_ledger_tells_what_kvm_did_whichever_hooks_there_are(
        before in prop::collection::vec(event(), 0..10),
        during in prop::collection::vec(event(), 0..60),
        hooks in hooks(),
    ) {
        let mut kvm = Kvm::new();
        for event in before {
            kvm.step(event, &mut |_, _| ());
        }
        let open_at_start = u64::from(kvm.registered);
        kvm.forget();
        let mut state = CpuState::EMPTY;
        let mut told = during.is_empty();
        for event in during {
            kvm.step(event, &mut |kvm, heard| {
                hooks.hear(&mut state, kvm, heard);
                told |= state.known != 0;
            });
        }
        let ledger = settle(state, &kvm, hooks);
        prop_assert_eq!(&ledger.violations, &Vec::<String>::new());
        prop_assert!(ledger.lost.is_nothing(), "{:?}", ledger.lost);
        prop_assert_eq!(ledger.events.exits, kvm.exits);
        if hooks == Hooks::Writes && !kvm.registered && open_at_start == 1 {
            // A window that closes clean before the first WRMSR is never heard of.
            let (start, closed) = (ledger.events.windows_open_at_start, ledger.events.windows_closed);
            prop_assert!(start <= Some(1) && closed <= Some(kvm.closed) && closed >= Some(kvm.closed - 1));
        } else if told {
            prop_assert_eq!(ledger.events.windows_opened, Some(kvm.opened));
        }
        if hooks != Hooks::Writes {
            prop_assert_eq!(ledger.events.windows_open_at_start, Some(open_at_start));
            prop_assert_eq!((ledger.events.windows_opened, ledger.events.windows_closed), (Some(kvm.opened), Some(kvm.closed)));
        }
        for (row, truth) in ledger.msrs.iter().zip(&kvm.truth) {
            let avoided = truth.deferred.zip(truth.performed).map(|(deferred, performed)| deferred as i64 - performed as i64);
            let set_skipped = if hooks == Hooks::Writes { None } else { truth.set_skipped };
            prop_assert_eq!(row.counts, Counts { avoided, set_skipped, ..*truth });
        }
    }

    /// A close that the probes missed changes `registered`, so the next look at the structure finds it. Right after a write
    /// it leaves the same traces as if that write had failed, and is counted as such; the check tells them apart.
    #[test]
    fn a_missed_close_is_never_silent(during in prop::collection::vec(event(), 1..40), missed in 0..40usize) {
        let mut kvm = Kvm::new();
        let mut state = CpuState::EMPTY;
        let (mut missed_one, mut restored) = (false, false);
        for (position, mut event) in during.into_iter().enumerate() {
            if let Event::Set { fails, .. } = &mut event {
                *fails = false;
            }
            // The CPU must be known already, or nothing was expected of it.
            let miss = position >= missed && !missed_one && kvm.registered && state.known != 0 && matches!(event, Event::UserReturn);
            missed_one |= miss;
            kvm.step(event, &mut |kvm, heard| {
                restored |= miss && matches!(heard, Heard::Wrmsr { .. });
                if !(miss && matches!(heard, Heard::Closer)) {
                    Hooks::Functions.hear(&mut state, kvm, heard);
                }
            });
        }
        let ledger = settle(state, &kvm, Hooks::Functions);
        let silent = ledger.lost.is_nothing() && ledger.totals.set_failed == Some(0);
        prop_assert_eq!(silent, !missed_one, "{:?} {:?}", ledger.lost, ledger.violations);
        if restored {
            prop_assert!(!ledger.reconciled(), "the check did not find the WRMSRs of the missed close");
        }
    }
}
