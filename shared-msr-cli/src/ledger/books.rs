//! The rows of owners and causes, with what each CPU had still to credit at the end.

use std::collections::{BTreeMap, BTreeSet};

use shared_msr_common::{
    BankKey, CauseKey, CauseTally, Owner, ReasonCounters, SlotTally, Tally, TallyKey, Task,
    accounting::Books,
    owner::{COMMAND_BYTES, EVERY_CPU, NOBODY},
};

use crate::sample::{
    names::Names,
    owners::{Owners, Usage, Vm},
    vcpus::Vcpu,
};

/// Everything that is credited to somebody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnerBooks {
    /// Who the owners are.
    pub vcpus: BTreeMap<Owner, Vcpu>,
    /// Owners that turned out to be another one.
    same: BTreeMap<Owner, Owner>,
    /// Their processes, by tgid.
    pub vms: BTreeMap<u32, Vm>,
    /// Names of processes: of VMs and of payers.
    pub names: Names,
    /// By owner; nobody's is what cannot be attributed.
    pub tallies: BTreeMap<TallyKey, Tally>,
    /// By cause. The owner is one of `vcpus`, or nobody.
    pub causes: BTreeMap<CauseKey, CauseTally>,
    /// Exits by reason, by whose they are and which slots were dirty; none where they are not counted.
    pub banks: Option<BTreeMap<BankKey, ReasonCounters>>,
    /// Whether it is counted, too, after which exits vCPUs went back to their VMMs.
    pub returns_by_reason: bool,
    /// Exits by reason that found no bank: it is not known whose they are and which slots were dirty.
    pub stray: BTreeMap<u32, ReasonCounters>,
    /// Exits by thread, as they were counted once more; none where they were not.
    pub thread_exits: Option<BTreeMap<Task, u64>>,
    /// Whether the rows are by CPU as well.
    pub by_cpu: bool,
    /// How full the map of vCPUs is.
    pub usage: Usage,
    /// The CPU whose remainder is being credited.
    cpu: u64,
}

impl OwnerBooks {
    /// From the rows as they were read.
    pub fn open(owners: &Owners) -> Self {
        let mut books = Self {
            vcpus: owners.identities.vcpus.clone(),
            same: owners.identities.same.clone(),
            vms: owners.vms.clone(),
            names: owners.names.clone(),
            tallies: BTreeMap::new(),
            causes: BTreeMap::new(),
            thread_exits: owners.thread_exits.clone(),
            banks: owners.banks.clone(),
            returns_by_reason: owners.returns_by_reason,
            stray: owners.stray.iter().filter(|(_, bank)| bank.total() != 0).copied().collect(),
            by_cpu: owners.by_cpu,
            usage: owners.usage,
            cpu: EVERY_CPU,
        };
        let is_row = |owner| owner == NOBODY || books.vcpus.contains_key(&owner);
        // At once, so that the map's nodes are full: rows are large.
        let tallies = owners.tallies.iter().filter(|(key, _)| is_row(key.owner));
        let tallies: BTreeMap<TallyKey, Tally> = tallies.map(|(key, tally)| (*key, *tally)).collect();
        let others: Vec<TallyKey> = owners.tallies.keys().filter(|key| !is_row(key.owner)).copied().collect();
        books.tallies = tallies;
        for key in others {
            let row = TallyKey { owner: books.known(key.owner), ..key };
            books.tallies.entry(row).or_insert(Tally::EMPTY).add(&owners.tallies[&key]);
        }
        for (key, tally) in &owners.causes {
            let key = CauseKey { owner: books.known(key.owner), ..*key };
            books.causes.entry(key).or_insert(CauseTally::EMPTY).add(tally);
        }
        books.name();
        books
    }

    /// Gives each process the one name that it has in all rows.
    fn name(&mut self) {
        let Self { names, vms, vcpus, causes, .. } = self;
        for (vm, known) in vms.iter() {
            names.learn_from(*vm, &[0; COMMAND_BYTES], |_| known.command.clone());
        }
        for vcpu in vcpus.values() {
            names.learn_from(vcpu.vm.process, &vcpu.command, |_| None);
            vms.entry(vcpu.vm.process).or_default();
        }
        for (key, tally) in causes.iter() {
            names.learn_from(key.payer_process(), &tally.command, |_| None);
        }
        for (vm, known) in vms.iter_mut() {
            known.command = names.of(*vm).map(str::to_owned);
        }
    }

    /// What follows is of this CPU.
    pub(super) fn turn_to(&mut self, cpu: u32) {
        self.cpu = if self.by_cpu { u64::from(cpu) } else { EVERY_CPU };
    }

    /// The CPU in keys of rows.
    pub(super) fn cpu(&self) -> u64 {
        self.cpu
    }

    /// The owner that has the rows of this one, or nobody if there is none.
    pub fn known(&self, owner: Owner) -> Owner {
        let owner = self.same.get(&owner).copied().unwrap_or(owner);
        if self.vcpus.contains_key(&owner) { owner } else { NOBODY }
    }

    /// Whether a process has more than one VM, or one of which it is not known which it is.
    pub fn has_several_vms(&self, process: u32) -> bool {
        let mut vms = self.vcpus.values().map(|vcpu| vcpu.vm).filter(|vm| vm.process == process);
        let first = vms.next();
        vms.any(|vm| Some(vm) != first)
    }

    /// The sum of an owner's rows over CPUs.
    pub fn of(&self, owner: Owner) -> Tally {
        let mut sum = Tally::EMPTY;
        self.tallies.iter().filter(|(key, _)| key.owner == owner).for_each(|(_, tally)| sum.add(tally));
        sum
    }

    /// What was credited since `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        let mut books = self.clone();
        // Whose a row is may have become known since.
        for (key, before) in &before.tallies {
            if let Some(tally) = books.tallies.get_mut(&TallyKey { owner: self.known(key.owner), ..*key }) {
                subtract(tally, before);
            }
        }
        for (key, before) in &before.causes {
            if let Some(tally) = books.causes.get_mut(&CauseKey { owner: self.known(key.owner), ..*key }) {
                tally.closed -= before.closed;
                tally.clean -= before.clean;
                subtract_words(&mut tally.performed, &before.performed);
            }
        }
        for (key, bank) in books.banks.iter_mut().flatten() {
            if let Some(before) = before.banks.as_ref().and_then(|banks| banks.get(key)) {
                subtract_reasons(bank, before);
            }
        }
        for (cpu, bank) in &mut books.stray {
            if let Some(before) = before.stray.get(cpu) {
                subtract_reasons(bank, before);
            }
        }
        // Who did nothing meanwhile is no news.
        books.tallies.retain(|key, tally| key.owner == NOBODY || *tally != Tally::EMPTY);
        let busy: BTreeSet<Owner> = books.tallies.keys().map(|key| key.owner).collect();
        books.vcpus.retain(|owner, _| busy.contains(owner));
        books
    }
}

impl Books for OwnerBooks {
    fn tally(&mut self, owner: Owner) -> Option<&mut Tally> {
        let key = TallyKey { owner: self.known(owner), cpu: self.cpu };
        Some(self.tallies.entry(key).or_insert(Tally::EMPTY))
    }

    fn cause(&mut self, key: &CauseKey, command: &[u8; COMMAND_BYTES]) -> Option<&mut CauseTally> {
        let key = CauseKey { owner: self.known(key.owner), ..*key };
        Some(self.causes.entry(key).or_insert(CauseTally { command: *command, ..CauseTally::EMPTY }))
    }

    fn add(counter: &mut u64, number: u64) {
        // Wrapping: a write that failed after it was credited is taken back.
        *counter = counter.wrapping_add(number);
    }
}

fn subtract(tally: &mut Tally, before: &Tally) {
    for (slot, before) in tally.slots.iter_mut().zip(&before.slots) {
        *slot = SlotTally {
            // The one counter that can go back: a write shown before that then turned out to have failed.
            written: slot.written.saturating_sub(before.written),
            skipped: slot.skipped - before.skipped,
            failed: slot.failed - before.failed,
            deferred: slot.deferred - before.deferred,
            performed: slot.performed - before.performed,
        };
    }
    subtract_words(tally.windows.words_mut(), before.windows.words());
    tally.exits -= before.exits;
    tally.userspace_exits -= before.userspace_exits;
}

fn subtract_reasons(bank: &mut ReasonCounters, before: &ReasonCounters) {
    subtract_words(&mut bank.common, &before.common);
    subtract_words(&mut bank.returned, &before.returned);
    bank.rare.iter_mut().zip(&before.rare).for_each(|(rare, before)| rare.exits -= before.exits);
    bank.unlisted -= before.unlisted;
    bank.unread -= before.unread;
}

fn subtract_words(words: &mut [u64], before: &[u64]) {
    words.iter_mut().zip(before).for_each(|(word, before)| *word = word.saturating_sub(*before));
}
