//! What was counted, broken down as far as a question asks.
//!
//! Not everything has every dimension: a set has no exit reason, an exit has no cause of a close. A fact says none for what it
//! lacks, so that each number is in exactly one row of any table, and each column adds up to the total.

use shared_msr_common::{
    BankKey, Owner,
    cause::CauseKey,
    owner::{EVERY_CPU, NOBODY},
    reasons::{AS_AT_START, has_place, reason_at},
};

use super::{Ledger, books::OwnerBooks};

/// The numbers of a row. Those that the hooks in use cannot tell are 0 here; [`Ledger::sight`] says which they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measures {
    /// `kvm_exit` events.
    pub exits: u64,
    /// `kvm_userspace_exit` events.
    pub userspace_exits: u64,
    /// Sets that wrote the MSR.
    pub set_written: u64,
    /// Sets that found the value in hardware already.
    pub set_skipped: u64,
    /// Sets whose WRMSR faulted.
    pub set_failed: u64,
    /// Exits while the slot was dirty.
    pub deferred: u64,
    /// Host values written back.
    pub performed: u64,
    /// Windows closed.
    pub closes: u64,
    /// Those that closed without a dirty slot.
    pub clean_closes: u64,
    /// Exits of a reason after which the vCPU went back to its VMM; only in facts that have a reason. A part of `userspace_exits`.
    pub exits_to_userspace: u64,
}

impl Measures {
    /// Adds another row.
    pub fn add(&mut self, other: &Self) {
        self.exits += other.exits;
        self.userspace_exits += other.userspace_exits;
        self.set_written += other.set_written;
        self.set_skipped += other.set_skipped;
        self.set_failed += other.set_failed;
        self.deferred += other.deferred;
        self.performed += other.performed;
        self.closes += other.closes;
        self.clean_closes += other.clean_closes;
        self.exits_to_userspace += other.exits_to_userspace;
    }

    /// Restores avoided, compared with one at every exit.
    pub const fn avoided(&self) -> i64 {
        self.deferred.cast_signed() - self.performed.cast_signed()
    }
}

/// An exit reason: none where it could not be read.
pub type Reason = Option<u32>;

/// Why a window closed: kind and code, as in [`shared_msr_common::cause`].
pub type Cause = (u32, u32);

/// Who paid.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Payer {
    /// The process; 0 for all those that found no row of their own, or where it was not seen.
    pub tgid: u32,
    /// Its name; empty where that is not known.
    pub command: String,
}

/// Numbers, and what they are of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fact {
    /// Position in the list of MSRs.
    pub msr: Option<usize>,
    /// The owner; nobody where it cannot be attributed.
    pub owner: Owner,
    /// The CPU; none where CPUs are not told apart.
    pub cpu: Option<u32>,
    /// Why the exits happened.
    pub reason: Option<Reason>,
    /// Why the windows closed.
    pub cause: Option<Cause>,
    /// Who paid for it.
    pub payer: Option<Payer>,
    /// The numbers.
    pub measures: Measures,
}

/// How far facts are broken down beyond MSR, owner and CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Exits and deferrals by reason.
    pub by_reason: bool,
    /// Closes and restores by cause and payer.
    pub by_cause: bool,
}

impl OwnerBooks {
    /// A process that paid, under the one name that it has.
    pub(super) fn payer(&self, tgid: u32) -> Payer {
        Payer { tgid, command: self.names.of(tgid).unwrap_or_default().to_owned() }
    }
}

impl Ledger {
    /// All that was counted.
    pub fn facts(&self, depth: Depth) -> Vec<Fact> {
        let mut facts = Vec::new();
        let slots = self.msrs.len();
        for (key, tally) in &self.owners.tallies {
            let about = Fact { owner: key.owner, cpu: place(key.cpu), ..Fact::default() };
            let windows = &tally.windows;
            let (closes, clean_closes) = if depth.by_cause { (0, 0) } else { (windows.closed, windows.clean) };
            let exits = if depth.by_reason { 0 } else { tally.exits };
            let measures =
                Measures { exits, userspace_exits: tally.userspace_exits, closes, clean_closes, ..Measures::default() };
            facts.push(Fact { measures, ..about.clone() });
            for (position, slot) in tally.slots.iter().enumerate().take(slots) {
                let measures = Measures {
                    set_written: slot.written,
                    set_skipped: slot.skipped,
                    set_failed: slot.failed,
                    deferred: if depth.by_reason { 0 } else { slot.deferred },
                    performed: if depth.by_cause { 0 } else { slot.performed },
                    ..Measures::default()
                };
                facts.push(Fact { msr: Some(position), measures, ..about.clone() });
            }
        }
        if depth.by_cause {
            self.causes_as_facts(&mut facts);
        }
        if depth.by_reason {
            self.reasons_as_facts(&mut facts);
        }
        facts.retain(|fact| fact.measures != Measures::default());
        facts
    }

    fn causes_as_facts(&self, facts: &mut Vec<Fact>) {
        for (key, tally) in &self.owners.causes {
            let CauseKey { owner, cpu, kind, code, .. } = *key;
            let payer = self.owners.payer(key.payer_process());
            let about = Fact { owner, cpu: place(cpu), cause: Some((kind, code)), payer: Some(payer), ..Fact::default() };
            let measures = Measures { closes: tally.closed, clean_closes: tally.clean, ..Measures::default() };
            facts.push(Fact { measures, ..about.clone() });
            for (position, performed) in tally.performed.iter().enumerate().take(self.msrs.len()) {
                let measures = Measures { performed: *performed, ..Measures::default() };
                facts.push(Fact { msr: Some(position), measures, ..about.clone() });
            }
        }
    }

    fn reasons_as_facts(&self, facts: &mut Vec<Fact>) {
        for (key, reason, [exits, exits_to_userspace]) in self.exits_by_reason() {
            let about = |owner| Fact {
                owner: self.owners.known(owner),
                cpu: place(key.cpu).filter(|_| self.owners.by_cpu),
                reason: Some(reason),
                ..Fact::default()
            };
            let measures = Measures { exits, exits_to_userspace, ..Measures::default() };
            facts.push(Fact { measures, ..about(key.owner) });
            let dirty = self.dirty_of(&key).unwrap_or(0);
            for position in (0..self.msrs.len()).filter(|position| dirty >> position & 1 != 0) {
                let owner = if key.others >> position & 1 != 0 { key.other } else { key.owner };
                let measures = Measures { deferred: exits, ..Measures::default() };
                facts.push(Fact { msr: Some(position), measures, ..about(owner) });
            }
        }
        for (cpu, reason, [exits, exits_to_userspace]) in self.stray_exits_by_reason() {
            let cpu = Some(cpu).filter(|_| self.owners.by_cpu);
            let measures = Measures { exits, exits_to_userspace, ..Measures::default() };
            facts.push(Fact { owner: NOBODY, cpu, reason: Some(reason), measures, ..Fact::default() });
        }
    }

    /// Exits by reason, and how many of them ended in user space, with whose they are and which slots were dirty.
    pub(super) fn exits_by_reason(&self) -> impl Iterator<Item = (BankKey, Reason, [u64; 2])> {
        let banks = self.owners.banks.iter().flatten();
        banks.flat_map(|(key, bank)| counted(bank).map(|(reason, exits)| (*key, reason, exits)))
    }

    /// The same of those that found no bank, by CPU.
    pub(super) fn stray_exits_by_reason(&self) -> impl Iterator<Item = (u32, Reason, [u64; 2])> {
        self.owners.stray.iter().flat_map(|(cpu, bank)| counted(bank).map(|(reason, exits)| (*cpu, reason, exits)))
    }

    /// Whether it is known how many exits of a reason ended in user space.
    pub fn tells_returns_of(&self, reason: Reason) -> bool {
        self.owners.returns_by_reason && reason.is_some_and(has_place)
    }

    /// Bit per slot that was dirty when a bank's exits happened; none where that is not known.
    pub(super) fn dirty_of(&self, key: &BankKey) -> Option<u64> {
        if key.dirty != AS_AT_START {
            return Some(key.dirty);
        }
        let cpu = self.cpus.iter().find(|row| u64::from(row.cpu) == key.cpu)?;
        cpu.dirty_at_start
    }
}

fn place(cpu: u64) -> Option<u32> {
    if cpu == EVERY_CPU { None } else { u32::try_from(cpu).ok() }
}

fn counted(bank: &shared_msr_common::ReasonCounters) -> impl Iterator<Item = (Reason, [u64; 2])> {
    let numbers = bank.common.iter().zip(&bank.returned).map(|(exits, returned)| [*exits, *returned]);
    let common = numbers.enumerate().map(|(place, numbers)| (Some(reason_at(place)), numbers));
    let rare = bank.rare.iter().map(|rare| (u32::try_from(rare.reason).ok(), [rare.exits, 0]));
    let unknown = (None, [bank.unlisted + bank.unread, 0]);
    common.chain(rare).chain([unknown]).filter(|(_, numbers)| *numbers != [0; 2])
}
