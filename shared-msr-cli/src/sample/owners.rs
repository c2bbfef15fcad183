//! Who is credited with what: the rows of the programs' maps, and those of vCPUs that are gone.

use std::collections::{BTreeMap, BTreeSet};

use shared_msr_common::{
    BankKey, CauseKey, CauseTally, CpuState, Owner, ReasonCounters, Tally, TallyKey, Task, VcpuKey, owner::NOBODY,
};

use super::{
    names::Names,
    vcpus::{Identities, Registry},
};
use crate::{
    kernel::vmm,
    obstacle::Obstacle,
    probe::{maps::Rows, probes::Probes},
};

/// A process that runs a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vm {
    /// From the VMM's command line; none where it has none, or was gone before it could be read.
    pub name: Option<String>,
    /// The name of the process, as in [`Names`].
    pub command: Option<String>,
}

impl Vm {
    /// What /proc says of a process, whose own name is known.
    pub fn find(tgid: u32, names: &Names) -> Self {
        Self { name: vmm::name(tgid), command: names.of(tgid).map(str::to_owned) }
    }
}

/// How full the map of vCPUs is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// vCPUs in the map, each with a thread that ran it.
    pub used: u64,
    /// How many it can hold.
    pub most: u64,
    /// Those whose space was given back, because they or their threads are gone.
    pub given_back: u64,
    /// Those, of both, whose rows are another one's: it was not known at first which vCPU the thread ran.
    pub merged: u64,
}

/// All rows.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    /// Who the owners are.
    pub identities: Identities,
    /// Processes that run VMs, by tgid.
    pub vms: BTreeMap<u32, Vm>,
    /// Names of processes: of VMs and of payers.
    pub names: Names,
    /// By owner.
    pub tallies: BTreeMap<TallyKey, Tally>,
    /// By cause.
    pub causes: BTreeMap<CauseKey, CauseTally>,
    /// Exits by reason, by whose they are; none where they are not counted.
    pub banks: Option<BTreeMap<BankKey, ReasonCounters>>,
    /// Whether it is counted, too, after which exits vCPUs went back to their VMMs.
    pub returns_by_reason: bool,
    /// Exits by reason of each possible CPU that found no bank.
    pub stray: Vec<(u32, ReasonCounters)>,
    /// Exits by thread, as they were counted once more; none where they were not.
    pub thread_exits: Option<BTreeMap<Task, u64>>,
    /// Whether rows are by CPU as well.
    pub by_cpu: bool,
    /// How full the map is.
    pub usage: Usage,
    /// Whether nothing was credited while the rows were read: only then can they be held against the CPUs' own counters.
    pub still: bool,
    /// Whether counting had stopped: only then can what moves with every exit, exits by reason and by thread, be held against exits.
    pub stopped: bool,
}

/// The process of a thread.
pub const fn tgid(task: Task) -> u32 {
    (task >> 32) as u32
}

/// The thread.
pub const fn tid(task: Task) -> u32 {
    task as u32
}

/// What vCPUs left behind that are gone from the maps, and what is known of processes.
#[derive(Debug, Default)]
pub(super) struct Archive {
    gone: Owners,
    registry: Registry,
    vms: BTreeMap<u32, Vm>,
    names: Names,
    given_back: u64,
}

impl Archive {
    /// Gives back the space of vCPUs that are gone, or whose threads are, and whose values no CPU has any more.
    pub(super) fn tidy(&mut self, probes: &mut Probes) -> Result<(), Obstacle> {
        let (vcpus, threads) = (probes.maps().vcpus()?, probes.maps().threads()?);
        self.registry.learn(&vcpus, &threads);
        self.name(&probes.maps().causes()?);
        let made = probes.maps().made()?;
        let is_over = |key: &VcpuKey| {
            threads.get(&key.task).is_none_or(|thread| thread.ended != 0 || thread.incarnation != key.incarnation)
                || made.get(&key.vcpu).is_some_and(|made| *made != key.made)
        };
        let mut ended: BTreeMap<Owner, VcpuKey> =
            vcpus.iter().filter(|(key, _)| is_over(key)).map(|(key, vcpu)| (vcpu.owner, *key)).collect();
        if !ended.is_empty() {
            // They can become owners no more. So after this, the rows of those that no CPU refers to stand still.
            for owner in probes.read()?.iter().flat_map(owners_of) {
                ended.remove(&owner);
            }
            let rows = probes.maps().rows()?;
            for key in rows.banks.keys() {
                ended.remove(&key.other);
            }
            self.registry.learn(&rows.vcpus, &rows.threads);
            for (owner, key) in &ended {
                self.keep(*owner, &rows, probes)?;
                probes.maps_mut().forget(key, *owner, &rows)?;
                self.given_back += 1;
            }
        }
        let left: BTreeSet<Task> =
            vcpus.iter().filter(|(_, vcpu)| !ended.contains_key(&vcpu.owner)).map(|(key, _)| key.task).collect();
        let gone = threads.iter().filter(|(task, thread)| thread.ended != 0 && !left.contains(*task));
        let gone: Vec<Task> = gone.map(|(task, _)| *task).collect();
        if !gone.is_empty() {
            self.keep_threads(&gone, probes)?;
        }
        Ok(())
    }

    fn keep(&mut self, owner: Owner, rows: &Rows, probes: &Probes) -> Result<(), Obstacle> {
        let gone = &mut self.gone;
        for (key, tally) in rows.tallies.iter().filter(|(key, _)| key.owner == owner) {
            gone.tallies.entry(*key).or_insert(Tally::EMPTY).add(tally);
        }
        for (key, tally) in rows.causes.iter().filter(|(key, _)| key.owner == owner) {
            gone.causes.entry(*key).or_insert(CauseTally::EMPTY).add(tally);
        }
        for (key, bank) in rows.banks.iter().filter(|(key, _)| key.owner == owner) {
            let banks = gone.banks.get_or_insert_default();
            banks.entry(*key).or_insert(ReasonCounters::EMPTY).add(&probes.maps().bank(*bank)?);
        }
        Ok(())
    }

    /// Keeps the exits of threads, as they were counted once more, and gives their places back.
    fn keep_threads(&mut self, tasks: &[Task], probes: &mut Probes) -> Result<(), Obstacle> {
        let checked = probes.maps().thread_exits()?;
        let kept = self.gone.thread_exits.get_or_insert_default();
        for task in tasks {
            *kept.entry(*task).or_default() += checked.get(task).copied().unwrap_or(0);
            probes.maps_mut().forget_thread(*task)?;
        }
        Ok(())
    }

    /// Looks up the names of processes that were not known yet, while they are there.
    fn name(&mut self, causes: &BTreeMap<CauseKey, CauseTally>) {
        for (process, command) in self.registry.threads() {
            self.names.learn(process, command);
            self.vms.entry(process).or_insert_with(|| Vm::find(process, &self.names));
        }
        for (key, tally) in causes {
            self.names.learn(key.payer_process(), &tally.command);
        }
    }

    /// Who the owners are that were met so far.
    pub(super) fn identities(&mut self, probes: &Probes) -> Result<Identities, Obstacle> {
        self.registry.learn(&probes.maps().vcpus()?, &probes.maps().threads()?);
        Ok(self.registry.identities())
    }

    /// All rows as they stand, with what is gone.
    pub(super) fn owners(&mut self, probes: &Probes, cpus: &[u32]) -> Result<Owners, Obstacle> {
        let rows = probes.maps().rows()?;
        self.registry.learn(&rows.vcpus, &rows.threads);
        self.name(&rows.causes);
        let gone = self.gone.clone();
        let mut owners = Owners {
            identities: self.registry.identities(),
            vms: self.vms.clone(),
            names: self.names.clone(),
            by_cpu: probes.options.by_cpu,
            // By far the most of them; those that are gone are added to them below.
            tallies: rows.tallies,
            thread_exits: None,
            ..gone
        };
        owners.usage = Usage {
            used: rows.vcpus.len() as u64,
            most: u64::from(probes.options.max_vcpus),
            given_back: self.given_back,
            merged: owners.identities.same.len() as u64,
        };
        for (key, tally) in &self.gone.tallies {
            owners.tallies.entry(*key).or_insert(Tally::EMPTY).add(tally);
        }
        for (key, tally) in &rows.causes {
            owners.causes.entry(*key).or_insert(CauseTally::EMPTY).add(tally);
        }
        if probes.options.by_reason {
            owners.returns_by_reason = probes.returns_by_reason;
            let banks = owners.banks.get_or_insert_default();
            for (key, bank) in rows.banks {
                banks.entry(key).or_insert(ReasonCounters::EMPTY).add(&probes.maps().bank(bank)?);
            }
            for cpu in cpus {
                owners.stray.push((*cpu, probes.maps().bank(*cpu)?));
            }
        }
        if probes.hooks.check_exit.is_some() {
            let mut exits = probes.maps().thread_exits()?;
            for (task, gone) in self.gone.thread_exits.iter().flatten() {
                *exits.entry(*task).or_default() += gone;
            }
            owners.thread_exits = Some(exits);
        }
        Ok(owners)
    }
}

/// Whom a CPU still has to credit.
fn owners_of(state: &CpuState) -> Vec<Owner> {
    let mut owners = vec![state.exit_owner, state.window_owner, state.cause.owner];
    owners.extend(state.slot_owners);
    owners.retain(|owner| *owner != NOBODY);
    owners
}
