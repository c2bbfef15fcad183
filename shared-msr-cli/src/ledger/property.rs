//! Any sequence of events: a made-up KVM does what KVM does, the accounting sees only what the hooks in use see, and the
//! ledger must tell what really happened.

use std::time::Duration;

use proptest::prelude::*;
use std::collections::BTreeMap;

use shared_msr_common::{
    CpuState, Task,
    accounting::{Shape, Watched},
    owner::NOBODY,
};

use super::{
    Counts, Ledger,
    books::OwnerBooks,
    cpu::{place, shape},
};
use crate::{
    kernel::{
        structure::{Structure, Value},
        tables::Slot,
    },
    probe::probes::Sight,
    sample::{
        CpuSample, Snapshot,
        owners::Owners,
        vcpus::{Identities, Vcpu, VcpuId, VmId},
    },
};

const SLOTS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A set of a slot to a value, by a vCPU; `fails` makes its WRMSR fault.
    Set { slot: usize, value: u64, fails: bool, task: Task },
    /// A task's return to user mode: closes the window if there is one.
    UserReturn(Task),
    /// KVM tries an MSR by writing what is there, as it does when a vCPU is created (up to 5.12).
    Try(usize),
    /// Exits of a vCPU.
    Exits(u64, Task),
}

/// Threads of vCPUs: two are known to the maps, one found no place there, and one is no vCPU.
const TASKS: [Task; 4] = [0x1_0000_0001, 0x2_0000_0002, 0x3_0000_0003, 0x4_0000_0004];

fn vcpu() -> impl Strategy<Value = Task> {
    prop::sample::select(&TASKS[..3])
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        // Few values, so that sets often meet the host's value or the current one. The host's value of slot n is n.
        4 => (0..SLOTS, 0..4u64, prop::bool::weighted(0.1), vcpu())
            .prop_map(|(slot, value, fails, task)| Event::Set { slot, value, fails, task }),
        2 => prop::sample::select(&TASKS[..]).prop_map(Event::UserReturn),
        1 => (0..SLOTS).prop_map(Event::Try),
        2 => (0..50u64, vcpu()).prop_map(|(exits, task)| Event::Exits(exits, task)),
    ]
}

/// What a hook may hear of, at the moment it hears it.
#[derive(Clone, Copy, Debug)]
enum Heard {
    Setter { slot: usize, value: u64, task: Task },
    Closer(Task),
    Unregister(Task),
    Wrmsr { slot: usize, value: u64, failed: bool, task: Task },
    Exits(u64, Task),
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
    fn hear(self, (state, books): (&mut CpuState, &mut OwnerBooks), kvm: &Kvm, heard: Heard) {
        let shape = self.shape();
        match (heard, self) {
            (Heard::Exits(exits, task), _) => {
                if exits > 0 && state.exit_owner != task {
                    state.own_exits(books, task, task);
                    state.own_unset_slots(books, shape.slots, self.watched());
                }
                state.exits += exits;
            }
            (Heard::Setter { slot, value, task }, Self::Functions | Self::SetterAndUnregister) => {
                place(state, &kvm.structure());
                state.observe(shape, 0);
                state.own_slot(books, slot as u64, task, task);
                state.set(shape, slot as u64, value, u64::MAX, || NOW);
            }
            (Heard::Closer(task), Self::Functions) => {
                place(state, &kvm.structure());
                state.observe(shape, 0);
                let cause = state.cause_of_close(task, books.cpu());
                state.blame(books, cause, Default::default);
                assert!(state.close(shape.slots, NOW));
            }
            (Heard::Unregister(task), Self::SetterAndUnregister) => {
                place(state, &kvm.structure());
                state.mark_registered(shape);
                state.observe(shape, 0);
                let cause = state.cause_of_close(task, books.cpu());
                state.blame(books, cause, Default::default);
                assert!(state.close(shape.slots, NOW));
            }
            (Heard::Wrmsr { slot, value, failed, task }, Self::Writes) => {
                place(state, &kvm.structure());
                if state.shows_a_close(shape) {
                    let restores = state.shows_a_restore(shape, slot as u64);
                    let cpu = books.cpu();
                    let cause = if restores { state.cause_of_close(task, cpu) } else { state.unknown_cause(cpu) };
                    state.blame(books, cause, Default::default);
                }
                state.observe(shape, NOW);
                if !state.shows_a_restore(shape, slot as u64) && kvm.values[slot].curr != value {
                    state.own_slot(books, slot as u64, task, task);
                }
                state.write(shape, slot as u64, value, failed, || NOW);
            }
            _ => {}
        }
        if let Heard::Wrmsr { slot, value, failed, .. } = heard {
            state.check(slot as u64, value, failed, Some(kvm.values[slot].curr));
        }
    }
}

/// Any time but 0.
const NOW: u64 = 1_000;

/// What one owner really did.
type Truth = BTreeMap<Task, (u64, [Counts; SLOTS])>;

/// One CPU of the made-up KVM, and what it really did since the hooks were attached.
struct Kvm {
    registered: bool,
    values: [Value; SLOTS],
    truth: [Counts; SLOTS],
    exits: u64,
    opened: u64,
    closed: u64,
    /// Whose value each slot has, as far as somebody who came late can know.
    owners: [Task; SLOTS],
    owned: Truth,
}

impl Kvm {
    fn new() -> Self {
        let values = std::array::from_fn(|slot| Value { host: slot as u64, curr: slot as u64 });
        Self {
            registered: false,
            values,
            truth: [Counts::ZERO; SLOTS],
            exits: 0,
            opened: 0,
            closed: 0,
            owners: [NOBODY; SLOTS],
            owned: Truth::new(),
        }
    }

    fn forget(&mut self) {
        *self = Self { registered: self.registered, values: self.values, ..Self::new() };
    }

    /// What an owner did with a slot; nobody's if it found no place in the maps.
    fn of(&mut self, task: Task, slot: usize) -> &mut Counts {
        &mut self.owned.entry(known(task)).or_insert((0, [Counts::ZERO; SLOTS])).1[slot]
    }

    /// `kvm_set_user_return_msr`, `kvm_on_user_return` and `trace_kvm_exit`, with what can be heard on the way.
    fn step(&mut self, event: Event, hear: &mut dyn FnMut(&Self, Heard)) {
        match event {
            Event::Set { slot, value, fails, task } => {
                hear(self, Heard::Setter { slot, value, task });
                self.owners[slot] = task;
                if value == self.values[slot].curr {
                    add(&mut self.truth[slot].set_skipped, 1);
                    add(&mut self.of(task, slot).set_skipped, 1);
                    return;
                }
                hear(self, Heard::Wrmsr { slot, value, failed: fails, task });
                add(&mut self.truth[slot].wrmsrs, u64::from(!fails));
                if fails {
                    add(&mut self.truth[slot].wrmsrs_failed, 1);
                    add(&mut self.truth[slot].set_failed, 1);
                    add(&mut self.of(task, slot).set_failed, 1);
                    return;
                }
                add(&mut self.truth[slot].set_written, 1);
                add(&mut self.of(task, slot).set_written, 1);
                self.values[slot].curr = value;
                self.opened += u64::from(!self.registered);
                self.registered = true;
            }
            Event::UserReturn(task) if self.registered => {
                hear(self, Heard::Closer(task));
                self.registered = false;
                hear(self, Heard::Unregister(task));
                self.closed += 1;
                for slot in 0..SLOTS {
                    let Value { host, curr } = self.values[slot];
                    if host != curr {
                        hear(self, Heard::Wrmsr { slot, value: host, failed: false, task });
                        add(&mut self.truth[slot].wrmsrs, 1);
                        add(&mut self.truth[slot].performed, 1);
                        add(&mut self.of(self.owners[slot], slot).performed, 1);
                        self.values[slot].curr = host;
                    }
                }
            }
            Event::UserReturn(_) => {}
            Event::Try(slot) => {
                hear(self, Heard::Wrmsr { slot, value: self.values[slot].curr, failed: false, task: TASKS[0] });
                add(&mut self.truth[slot].wrmsrs_unchanged, 1);
            }
            Event::Exits(exits, task) => {
                hear(self, Heard::Exits(exits, task));
                if exits == 0 {
                    return;
                }
                self.exits += exits;
                self.owned.entry(known(task)).or_insert((0, [Counts::ZERO; SLOTS])).0 += exits;
                for slot in 0..SLOTS {
                    // Who came late takes values of unknown owners for those of whoever exits first.
                    if self.owners[slot] == NOBODY {
                        self.owners[slot] = task;
                    }
                    let deferred = if self.values[slot].host == self.values[slot].curr { 0 } else { exits };
                    add(&mut self.truth[slot].deferred, deferred);
                    add(&mut self.of(self.owners[slot], slot).deferred, deferred);
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

/// The first two threads are in the maps.
fn known(task: Task) -> Task {
    if TASKS[..2].contains(&task) { task } else { NOBODY }
}

fn owners() -> Owners {
    let vcpu =
        |task: &Task| Vcpu { task: *task, vm: VmId::default(), id: VcpuId::Unknown, ended: false, command: Default::default() };
    let vcpus = TASKS[..2].iter().map(|task| (*task, vcpu(task))).collect();
    Owners { identities: Identities { vcpus, ..Identities::default() }, still: true, ..Owners::default() }
}

fn settle(state: CpuState, books: &OwnerBooks, kvm: &Kvm, hooks: Hooks) -> Ledger {
    let list: Vec<Slot> = (0..SLOTS).map(|slot| Slot { slot, index: 0, name: format!("slot {slot}") }).collect();
    let sample = CpuSample { cpu: 0, state, structure: Some(kvm.structure()), unreadable: false, torn: false };
    let sight = Sight::Split(hooks.watched());
    let snapshot = Snapshot {
        cpus: vec![sample],
        duration: Duration::ZERO,
        skipped_runs: None,
        owners: Owners { tallies: books.tallies.clone(), causes: books.causes.clone(), ..owners() },
        sight,
        checked: true,
        timed: false,
        reloads: 0,
        list_changes: 0,
        hooks_off: 0,
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
        let mut books = OwnerBooks::open(&owners());
        let mut told = during.is_empty();
        for event in during {
            kvm.step(event, &mut |kvm, heard| {
                hooks.hear((&mut state, &mut books), kvm, heard);
                told |= state.known != 0;
            });
        }
        let ledger = settle(state, &books, &kvm, hooks);
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
        if hooks != Hooks::Writes {
            // Where sets that write nothing leave no trace, whose value a slot has can only be concluded.
            for task in [TASKS[0], TASKS[1], NOBODY] {
                let (tally, truth) = (ledger.owners.of(task), kvm.owned.get(&task).copied().unwrap_or((0, [Counts::ZERO; SLOTS])));
                prop_assert_eq!(tally.exits, truth.0, "exits of {:#x}", task);
                for (slot, truth) in tally.slots.iter().zip(&truth.1) {
                    let Counts { set_written, set_skipped, set_failed, deferred, performed, .. } = *truth;
                    let told = [slot.written, slot.skipped, slot.failed, slot.deferred, slot.performed].map(Some);
                    prop_assert_eq!(told, [set_written, set_skipped, set_failed, deferred, performed], "of {:#x}", task);
                }
            }
        }
    }

    /// A close that the probes missed changes `registered`, so the next look at the structure finds it. Right after a write
    /// it leaves the same traces as if that write had failed, and is counted as such; the check tells them apart.
    #[test]
    fn a_missed_close_is_never_silent(during in prop::collection::vec(event(), 1..40), missed in 0..40usize) {
        let mut kvm = Kvm::new();
        let mut state = CpuState::EMPTY;
        let mut books = OwnerBooks::open(&owners());
        let (mut missed_one, mut restored) = (false, false);
        for (position, mut event) in during.into_iter().enumerate() {
            if let Event::Set { fails, .. } = &mut event {
                *fails = false;
            }
            // The CPU must be known already, or nothing was expected of it.
            let miss = position >= missed && !missed_one && kvm.registered && state.known != 0 && matches!(event, Event::UserReturn(_));
            missed_one |= miss;
            kvm.step(event, &mut |kvm, heard| {
                restored |= miss && matches!(heard, Heard::Wrmsr { .. });
                if !(miss && matches!(heard, Heard::Closer(_))) {
                    Hooks::Functions.hear((&mut state, &mut books), kvm, heard);
                }
            });
        }
        let ledger = settle(state, &books, &kvm, Hooks::Functions);
        let silent = ledger.lost.is_nothing() && ledger.totals.set_failed == Some(0);
        prop_assert_eq!(silent, !missed_one, "{:?} {:?}", ledger.lost, ledger.violations);
        if restored {
            prop_assert!(!ledger.reconciled(), "the check did not find the WRMSRs of the missed close");
        }
    }
}
