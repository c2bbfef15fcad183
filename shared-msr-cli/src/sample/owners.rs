//! Who is credited with what: the rows of the programs' maps, and those of vCPUs that are gone.

use std::collections::{BTreeMap, BTreeSet};

use shared_msr_common::{
    BankKey, CauseKey, CauseTally, CpuState, ReasonCounters, Tally, TallyKey, Task, Vcpu,
    owner::{COMMAND_BYTES, NOBODY},
};

use super::names::Names;
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
    /// Threads in the map.
    pub used: u64,
    /// How many it can hold.
    pub most: u64,
    /// Threads whose space was given back, because they have ended.
    pub given_back: u64,
}

/// All rows.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    /// Threads that run vCPUs.
    pub vcpus: BTreeMap<Task, Vcpu>,
    /// Their processes, by tgid.
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
    /// Whether rows are by CPU as well.
    pub by_cpu: bool,
    /// How full the map is.
    pub usage: Usage,
    /// Whether nothing was credited while the rows were read: only then can they be held against the CPUs' own counters.
    pub still: bool,
    /// Whether counting had stopped: only then can exits by reason, which move with every exit, be held against exits.
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

/// A thread's name as the kernel keeps it.
pub fn command(bytes: &[u8; COMMAND_BYTES]) -> String {
    let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    vmm::printable(&String::from_utf8_lossy(name)).unwrap_or_default()
}

/// What vCPUs left behind that are gone from the maps, and what is known of processes.
#[derive(Debug, Default)]
pub(super) struct Archive {
    gone: Owners,
    vms: BTreeMap<u32, Vm>,
    names: Names,
    given_back: u64,
}

impl Archive {
    /// Gives back the space of threads that have ended and whose values no CPU has any more.
    pub(super) fn tidy(&mut self, probes: &mut Probes) -> Result<(), Obstacle> {
        let vcpus = probes.maps().vcpus()?;
        self.name(&vcpus, &probes.maps().causes()?);
        let mut ended: BTreeSet<Task> = vcpus.iter().filter(|(_, vcpu)| vcpu.exited != 0).map(|(task, _)| *task).collect();
        if ended.is_empty() {
            return Ok(());
        }
        // A thread that has ended can become nobody's owner any more. So after this, the rows of those that no CPU refers to
        // stand still.
        for owner in probes.read()?.iter().flat_map(owners_of) {
            ended.remove(&owner);
        }
        let rows = probes.maps().rows()?;
        for key in rows.banks.keys() {
            ended.remove(&key.other);
        }
        for task in ended {
            self.keep(task, &rows, probes)?;
            probes.maps_mut().forget(task, &rows)?;
            self.given_back += 1;
        }
        Ok(())
    }

    fn keep(&mut self, task: Task, rows: &Rows, probes: &Probes) -> Result<(), Obstacle> {
        let gone = &mut self.gone;
        gone.vcpus.extend(rows.vcpus.get(&task).map(|vcpu| (task, *vcpu)));
        for (key, tally) in rows.tallies.iter().filter(|(key, _)| key.task == task) {
            gone.tallies.entry(*key).or_insert(Tally::EMPTY).add(tally);
        }
        for (key, tally) in rows.causes.iter().filter(|(key, _)| key.owner == task) {
            gone.causes.entry(*key).or_insert(CauseTally::EMPTY).add(tally);
        }
        for (key, bank) in rows.banks.iter().filter(|(key, _)| key.task == task) {
            let banks = gone.banks.get_or_insert_default();
            banks.entry(*key).or_insert(ReasonCounters::EMPTY).add(&probes.maps().bank(*bank)?);
        }
        Ok(())
    }

    /// Looks up the names of processes that were not known yet, while they are there.
    fn name(&mut self, vcpus: &BTreeMap<Task, Vcpu>, causes: &BTreeMap<CauseKey, CauseTally>) {
        for (task, vcpu) in vcpus {
            self.names.learn(tgid(*task), &vcpu.command);
            self.vms.entry(tgid(*task)).or_insert_with(|| Vm::find(tgid(*task), &self.names));
        }
        for (key, tally) in causes {
            self.names.learn(key.payer_process(), &tally.command);
        }
    }

    /// All rows as they stand, with what is gone.
    pub(super) fn owners(&mut self, probes: &Probes, cpus: &[u32]) -> Result<Owners, Obstacle> {
        let rows = probes.maps().rows()?;
        self.name(&rows.vcpus, &rows.causes);
        let gone = self.gone.clone();
        let mut owners = Owners {
            vms: self.vms.clone(),
            names: self.names.clone(),
            by_cpu: probes.options.by_cpu,
            // By far the most of them; those that are gone are added to them below.
            tallies: rows.tallies,
            ..gone
        };
        owners.usage =
            Usage { used: rows.vcpus.len() as u64, most: u64::from(probes.options.max_vcpus), given_back: self.given_back };
        owners.vcpus.extend(rows.vcpus);
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
        Ok(owners)
    }
}

/// Whom a CPU still has to credit.
fn owners_of(state: &CpuState) -> Vec<Task> {
    let mut owners = vec![state.exit_owner, state.window_owner, state.cause.owner];
    owners.extend(state.slot_owners);
    owners.retain(|owner| *owner != NOBODY);
    owners
}
