//! A ledger as JSON and back, so that what shows ledgers can be tested on those of a real host.
//!
//! This is not a format to keep measurements in: it has no version, and changes with the ledger.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared_msr_common::{
    BankKey, CauseKey, CauseTally, Owner, ReasonCounters, SlotTally, Tally, TallyKey, Task, accounting::Watched,
    owner::COMMAND_BYTES, reasons::RareReason,
};

use super::{Counts, CpuRow, Events, Ledger, Lost, MsrRow, books::OwnerBooks};
use crate::{
    kernel::tables::Slot,
    probe::probes::Sight,
    sample::{
        names::Names,
        owners::{Owners, Usage, Vm},
        vcpus::{Identities, Vcpu, VcpuId, VmId, command},
    },
};

/// The numbers of an array that are not 0, with their places.
type Sparse = Vec<(usize, u64)>;

/// A ledger with nothing in it that JSON does not have.
#[derive(Debug, Deserialize, Serialize)]
pub struct Saved {
    duration_ns: u64,
    sight: SavedSight,
    checked: bool,
    timed: bool,
    events: Events,
    totals: Counts,
    msrs: Vec<(Slot, Counts, Option<bool>)>,
    cpus: Vec<(u32, Events, Counts, Option<u64>)>,
    vcpus: Vec<SavedVcpu>,
    vms: Vec<(u32, Option<String>, Option<String>)>,
    tallies: Vec<SavedTally>,
    causes: Vec<([u64; 5], u64, u64, Sparse, String)>,
    banks: Option<Vec<([u64; 5], SavedReasons)>>,
    #[serde(default)]
    returns_by_reason: bool,
    stray: Vec<(u32, SavedReasons)>,
    by_cpu: bool,
    usage: [u64; 3],
    compared: bool,
    #[serde(default)]
    reloads: u64,
    lost: Lost,
    violations: Vec<String>,
}

#[derive(Debug, Deserialize, Serialize)]
struct SavedVcpu {
    owner: Owner,
    task: Task,
    vm: VmId,
    id: VcpuId,
    ended: bool,
    command: String,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
enum SavedSight {
    Calls,
    Writes,
    WritesOnly,
}

/// Each number by its name, so that a change of the tally itself does not make another number of it.
#[derive(Debug, Deserialize, Serialize)]
struct SavedTally {
    owner: Owner,
    cpu: u64,
    exits: u64,
    userspace_exits: u64,
    /// Written, skipped, failed, deferred, performed.
    slots: Vec<(usize, [u64; 5])>,
    opened: u64,
    closed: u64,
    clean: u64,
    unmeasured: u64,
    exits_per_window: Sparse,
    age: Sparse,
    restore_cost: Sparse,
    restore_ns: u64,
    restores_timed: u64,
}

#[derive(Debug, Deserialize, Serialize)]
struct SavedReasons {
    common: Sparse,
    #[serde(default)]
    returned: Sparse,
    rare: Vec<(u64, u64)>,
    unlisted: u64,
    unread: u64,
}

impl From<&Ledger> for Saved {
    fn from(ledger: &Ledger) -> Self {
        let owners = &ledger.owners;
        let bank =
            |(key, bank): (&BankKey, &ReasonCounters)| ([key.owner, key.other, key.cpu, key.dirty, key.others], reasons(bank));
        Self {
            duration_ns: u64::try_from(ledger.duration.as_nanos()).unwrap_or(u64::MAX),
            sight: match ledger.sight {
                Sight::Split(Watched::Calls) => SavedSight::Calls,
                Sight::Split(Watched::Writes) => SavedSight::Writes,
                Sight::WritesOnly => SavedSight::WritesOnly,
            },
            checked: ledger.checked,
            timed: ledger.timed,
            events: ledger.events,
            totals: ledger.totals,
            msrs: ledger.msrs.iter().map(|row| (row.slot.clone(), row.counts, row.loaded)).collect(),
            cpus: ledger.cpus.iter().map(|row| (row.cpu, row.events, row.counts, row.dirty_at_start)).collect(),
            vcpus: owners.vcpus.iter().map(vcpu).collect(),
            vms: owners.vms.iter().map(|(vm, known)| (*vm, known.name.clone(), known.command.clone())).collect(),
            tallies: owners.tallies.iter().map(tally).collect(),
            causes: owners.causes.iter().map(cause).collect(),
            banks: owners.banks.as_ref().map(|banks| banks.iter().map(bank).collect()),
            returns_by_reason: owners.returns_by_reason,
            stray: owners.stray.iter().map(|(cpu, bank)| (*cpu, reasons(bank))).collect(),
            by_cpu: owners.by_cpu,
            usage: [owners.usage.used, owners.usage.most, owners.usage.given_back],
            compared: ledger.compared,
            reloads: ledger.reloads,
            lost: ledger.lost,
            violations: ledger.violations.clone(),
        }
    }
}

impl From<Saved> for Ledger {
    fn from(saved: Saved) -> Self {
        let bank = |([owner, other, cpu, dirty, others], bank): ([u64; 5], SavedReasons)| {
            (BankKey { owner, other, cpu, dirty, others }, counters(&bank))
        };
        let [used, most, given_back] = saved.usage;
        let owners = Owners {
            identities: Identities { vcpus: saved.vcpus.iter().map(vcpu_back).collect(), ..Identities::default() },
            vms: saved.vms.into_iter().map(|(vm, name, command)| (vm, Vm { name, command })).collect(),
            // Made anew from the others.
            names: Names::default(),
            tallies: saved.tallies.iter().map(tally_back).collect(),
            causes: saved.causes.into_iter().map(cause_back).collect(),
            banks: saved.banks.map(|banks| banks.into_iter().map(bank).collect()),
            returns_by_reason: saved.returns_by_reason,
            thread_exits: None,
            stray: saved.stray.into_iter().map(|(cpu, bank)| (cpu, counters(&bank))).collect(),
            by_cpu: saved.by_cpu,
            usage: Usage { used, most, given_back, ..Usage::default() },
            still: saved.compared,
            // What was held against what is in the saved violations.
            stopped: false,
        };
        Self {
            duration: Duration::from_nanos(saved.duration_ns),
            sight: match saved.sight {
                SavedSight::Calls => Sight::Split(Watched::Calls),
                SavedSight::Writes => Sight::Split(Watched::Writes),
                SavedSight::WritesOnly => Sight::WritesOnly,
            },
            checked: saved.checked,
            timed: saved.timed,
            events: saved.events,
            totals: saved.totals,
            msrs: saved.msrs.into_iter().map(|(slot, counts, loaded)| MsrRow { slot, counts, loaded }).collect(),
            cpus: saved
                .cpus
                .into_iter()
                .map(|(cpu, events, counts, dirty_at_start)| CpuRow { cpu, events, counts, dirty_at_start })
                .collect(),
            owners: OwnerBooks::open(&owners),
            compared: saved.compared,
            reloads: saved.reloads,
            lost: saved.lost,
            violations: saved.violations,
        }
    }
}

fn sparse(words: &[u64]) -> Sparse {
    words.iter().copied().enumerate().filter(|(_, word)| *word != 0).collect()
}

fn fill(words: &mut [u64], sparse: &Sparse) {
    for (place, number) in sparse {
        if let Some(word) = words.get_mut(*place) {
            *word = *number;
        }
    }
}

fn vcpu((owner, vcpu): (&Owner, &Vcpu)) -> SavedVcpu {
    let Vcpu { task, vm, id, ended, .. } = *vcpu;
    SavedVcpu { owner: *owner, task, vm, id, ended, command: vcpu.command() }
}

fn vcpu_back(saved: &SavedVcpu) -> (Owner, Vcpu) {
    let SavedVcpu { owner, task, vm, id, ended, .. } = *saved;
    (owner, Vcpu { task, vm, id, ended, command: bytes(&saved.command) })
}

fn tally((key, tally): (&TallyKey, &Tally)) -> SavedTally {
    let windows = &tally.windows;
    let numbers = |slot: &SlotTally| [slot.written, slot.skipped, slot.failed, slot.deferred, slot.performed];
    let slots = tally.slots.iter().map(numbers).enumerate().filter(|(_, numbers)| *numbers != [0; 5]);
    SavedTally {
        owner: key.owner,
        cpu: key.cpu,
        exits: tally.exits,
        userspace_exits: tally.userspace_exits,
        slots: slots.collect(),
        opened: windows.opened,
        closed: windows.closed,
        clean: windows.clean,
        unmeasured: windows.unmeasured,
        exits_per_window: sparse(&windows.exits_per_window),
        age: sparse(&windows.age),
        restore_cost: sparse(&windows.restore_cost),
        restore_ns: windows.restore_ns,
        restores_timed: windows.restores_timed,
    }
}

fn tally_back(saved: &SavedTally) -> (TallyKey, Tally) {
    let mut tally = Tally { exits: saved.exits, userspace_exits: saved.userspace_exits, ..Tally::EMPTY };
    for (slot, [written, skipped, failed, deferred, performed]) in &saved.slots {
        let [written, skipped, failed, deferred, performed] = [*written, *skipped, *failed, *deferred, *performed];
        if let Some(place) = tally.slots.get_mut(*slot) {
            *place = SlotTally { written, skipped, failed, deferred, performed };
        }
    }
    let windows = &mut tally.windows;
    (windows.opened, windows.closed, windows.clean) = (saved.opened, saved.closed, saved.clean);
    windows.unmeasured = saved.unmeasured;
    fill(&mut windows.exits_per_window, &saved.exits_per_window);
    fill(&mut windows.age, &saved.age);
    fill(&mut windows.restore_cost, &saved.restore_cost);
    (windows.restore_ns, windows.restores_timed) = (saved.restore_ns, saved.restores_timed);
    (TallyKey { owner: saved.owner, cpu: saved.cpu }, tally)
}

fn cause((key, tally): (&CauseKey, &CauseTally)) -> ([u64; 5], u64, u64, Sparse, String) {
    let key = [key.owner, key.payer, key.cpu, u64::from(key.kind), u64::from(key.code)];
    (key, tally.closed, tally.clean, sparse(&tally.performed), command(&tally.command))
}

fn cause_back((key, closed, clean, performed, command): ([u64; 5], u64, u64, Sparse, String)) -> (CauseKey, CauseTally) {
    let [owner, payer, cpu, kind, code] = key;
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let mut tally = CauseTally { closed, clean, command: bytes(&command), ..CauseTally::EMPTY };
    fill(&mut tally.performed, &performed);
    (CauseKey { owner, payer, cpu, kind: small(kind), code: small(code) }, tally)
}

fn reasons(bank: &ReasonCounters) -> SavedReasons {
    SavedReasons {
        common: sparse(&bank.common),
        returned: sparse(&bank.returned),
        rare: bank.rare.iter().filter(|rare| rare.exits != 0).map(|rare| (rare.reason, rare.exits)).collect(),
        unlisted: bank.unlisted,
        unread: bank.unread,
    }
}

fn counters(saved: &SavedReasons) -> ReasonCounters {
    let mut bank = ReasonCounters { unlisted: saved.unlisted, unread: saved.unread, ..ReasonCounters::EMPTY };
    fill(&mut bank.common, &saved.common);
    fill(&mut bank.returned, &saved.returned);
    for (place, (reason, exits)) in bank.rare.iter_mut().zip(&saved.rare) {
        *place = RareReason { reason: *reason, exits: *exits };
    }
    bank
}

/// A thread's name as the kernel keeps it.
fn bytes(name: &str) -> [u8; COMMAND_BYTES] {
    let mut bytes = [0; COMMAND_BYTES];
    bytes.iter_mut().zip(name.bytes().take(COMMAND_BYTES - 1)).for_each(|(byte, letter)| *byte = letter);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_ledger_comes_back_as_it_was() {
        let (amd, intel) =
            (include_str!("../../tests/data/ledgers-amd.jsonl"), include_str!("../../tests/data/ledgers-intel.jsonl"));
        for line in amd.lines().chain(intel.lines()) {
            let ledger = Ledger::from(serde_json::from_str::<Saved>(line).unwrap());
            let again = serde_json::to_string(&Saved::from(&ledger)).unwrap();
            assert_eq!(Ledger::from(serde_json::from_str::<Saved>(&again).unwrap()), ledger);
            assert!(ledger.totals.performed > Some(0) && ledger.windows().closed > 0 && ledger.reasons().is_some());
        }
    }
}
