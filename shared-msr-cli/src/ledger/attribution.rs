//! That nothing is attributed twice, or not at all: sums over owners and over causes are the CPUs' own counts.

use std::collections::BTreeMap;

use shared_msr_common::{MAX_SLOTS, SlotCounters, Tally, Task, owner::NOBODY};

use super::{Ledger, cpu::CpuLedger};

/// What does not add up, each in a sentence.
pub(super) fn violations(ledger: &Ledger, cpus: &[CpuLedger]) -> Vec<String> {
    let mut violations = Vec::new();
    let mut compare = |what: &str, owners: u64, cpus: u64| {
        if owners != cpus {
            violations.push(format!("{what}: {owners} over all owners, but {cpus} over all CPUs"));
        }
    };
    let mut owners = Tally::EMPTY;
    ledger.owners.tallies.values().for_each(|tally| owners.add(tally));
    let sum = |count: &dyn Fn(&CpuLedger) -> u64| cpus.iter().map(count).sum::<u64>();
    compare("exits", owners.exits, sum(&|cpu| cpu.state.exits));
    compare("returns to the VMM", owners.userspace_exits, sum(&|cpu| cpu.state.userspace_exits));
    compare("windows opened", owners.windows.opened, sum(&|cpu| cpu.state.windows.opened));
    compare("windows closed", owners.windows.closed, sum(&|cpu| cpu.state.windows.closed));
    compare("clean closes", owners.windows.clean, sum(&|cpu| cpu.state.windows.clean));
    let (mut closed, mut performed) = (0, [0; MAX_SLOTS]);
    for cause in ledger.owners.causes.values() {
        closed += cause.closed;
        performed.iter_mut().zip(&cause.performed).for_each(|(sum, number)| *sum += number);
    }
    compare("windows closed, by cause", closed, owners.windows.closed);
    for (position, row) in ledger.msrs.iter().enumerate() {
        let slot = &owners.slots[position];
        let name = &row.slot.name;
        let sum = |count: &dyn Fn(&SlotCounters) -> u64| sum(&|cpu| count(&cpu.state.slots[position]));
        compare(&format!("{name}, sets that wrote"), slot.written, sum(&|slot| slot.written));
        compare(&format!("{name}, sets skipped"), slot.skipped, sum(&|slot| slot.skipped));
        compare(&format!("{name}, sets failed"), slot.failed, sum(&|slot| slot.failed));
        compare(&format!("{name}, deferred"), slot.deferred, sum(&|slot| slot.deferred));
        compare(&format!("{name}, performed"), slot.performed, sum(&|slot| slot.performed));
        compare(&format!("{name}, performed, by cause"), performed[position], slot.performed);
    }
    let windows = &owners.windows;
    let measured = |buckets: &[u64]| buckets.iter().sum::<u64>() + windows.unmeasured;
    compare("windows closed, by exits in them", measured(&windows.exits_per_window), windows.closed);
    compare("windows closed, by age", measured(&windows.age), windows.closed);
    violations
}

/// Reasons add up to the exits, and to what was put off. Only once counting has stopped: they move with every exit.
pub(super) fn of_reasons(ledger: &Ledger) -> Vec<String> {
    let Some(rows) = ledger.reasons() else { return Vec::new() };
    let mut owners = Tally::EMPTY;
    ledger.owners.tallies.values().for_each(|tally| owners.add(tally));
    let mut violations = Vec::new();
    let exits: u64 = rows.iter().map(|row| row.exits).sum();
    if exits != owners.exits {
        violations.push(format!("{exits} exits by reason, but {} in all", owners.exits));
    }
    let returns: u64 = rows.iter().filter_map(|row| row.exits_to_userspace).sum();
    if returns > owners.userspace_exits {
        violations.push(format!("{returns} returns to the VMM by reason, but {} in all", owners.userspace_exits));
    }
    // A set that failed, or a change that was not seen, leaves the kernel side with another dirty set for a while.
    let exact = ledger.lost.unseen_changes == 0 && ledger.totals.set_failed == Some(0);
    let deferred = rows.iter().map(|row| row.deferred).sum::<Option<u64>>();
    let credited = owners.all_slots().deferred;
    if let Some(deferred) = deferred.filter(|deferred| exact && *deferred != credited) {
        violations.push(format!("{deferred} deferred by reason, but {credited} in all"));
    }
    violations
}

/// Exits of each thread are those that were counted once more, by the thread that ran alone. Only once counting has stopped.
pub(super) fn of_threads(ledger: &Ledger, cpus: &[CpuLedger]) -> Vec<String> {
    let Some(checked) = &ledger.owners.thread_exits else { return Vec::new() };
    let mut violations = Vec::new();
    // Exits that the check did not see: those before its last one, and since.
    let unchecked = |cpu: &CpuLedger| cpu.state.exits_unchecked + (cpu.state.exits - cpu.state.exits_checked);
    for cpu in cpus {
        // One can have been on its way when counting began, one when it ended.
        if cpu.state.exits_uncounted > 1 || unchecked(cpu) > 1 {
            violations.push(format!(
                "CPU {}: {} exits that the check saw were not counted, {} that were counted it did not see",
                cpu.cpu,
                cpu.state.exits_uncounted,
                unchecked(cpu),
            ));
        }
    }
    let mut counted: BTreeMap<Task, u64> = BTreeMap::new();
    for (key, tally) in &ledger.owners.tallies {
        if let Some(vcpu) = ledger.owners.vcpus.get(&key.owner) {
            *counted.entry(vcpu.task).or_default() += tally.exits;
        }
    }
    // Those for whom there was no place are nobody's in the rows, and have a thread here.
    let all_have_rows = ledger.owners.of(NOBODY).exits == 0;
    let on_their_way: u64 = cpus.iter().map(unchecked).sum();
    let mut missing = 0;
    for (task, exits) in &counted {
        let found = checked.get(task).copied().unwrap_or(0);
        missing += exits.saturating_sub(found);
        if all_have_rows && *exits < found {
            violations.push(of_thread(*task, *exits, found));
        }
    }
    if missing > on_their_way {
        let more = |(task, exits): (&Task, &u64)| (*task, *exits, checked.get(task).copied().unwrap_or(0));
        let more = counted.iter().map(more).filter(|(_, exits, found)| exits > found);
        violations.extend(more.map(|(task, exits, found)| of_thread(task, exits, found)));
    }
    let without = checked.iter().filter(|(task, exits)| all_have_rows && **exits > 0 && !counted.contains_key(task));
    violations.extend(without.map(|(task, exits)| of_thread(*task, 0, *exits)));
    violations
}

fn of_thread(task: Task, exits: u64, found: u64) -> String {
    format!("exits of thread {} of process {}: {exits} in its rows, but {found} when it ran", task as u32, task >> 32)
}
