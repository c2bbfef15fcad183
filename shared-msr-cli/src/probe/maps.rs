//! The maps that the programs fill.

use std::collections::BTreeMap;

use aya::{
    Ebpf,
    maps::{Array, Map, MapData, MapError, PerCpuArray, PerCpuValues, Queue, RingBuf},
};
use shared_msr_common::{
    BankKey, CauseKey, CauseTally, CpuState, Owner, ReasonCounters, STOPPED, Tally, TallyKey, Task, Thread, Vcpu, VcpuKey,
    owner::{EVERY_CPU, NOBODY},
};

use super::{
    object::{self, Globals},
    table::Table,
};
use crate::obstacle::Obstacle;

/// `BPF_ANY` (include/uapi/linux/bpf.h).
const ANY: u64 = 0;

/// All maps but those that only the programs use.
pub struct Maps {
    state: PerCpuArray<MapData, CpuState>,
    epoch: Array<MapData, u64>,
    base: Array<MapData, u64>,
    vcpus: Table<VcpuKey, Vcpu>,
    threads: Table<Task, Thread>,
    made: Table<u64, u64>,
    thread_exits: Table<Task, u64>,
    tallies: Table<TallyKey, Tally>,
    causes: Table<CauseKey, CauseTally>,
    other_payers: Table<CauseKey, CauseTally>,
    reasons: Array<MapData, ReasonCounters>,
    banks: Table<BankKey, u32>,
    /// Only by reason.
    free_banks: Option<Queue<MapData, u32>>,
    events_lost: PerCpuArray<MapData, u64>,
    /// Only while tracing, and until it is taken.
    events: Option<RingBuf<MapData>>,
}

/// What is in the maps of owners.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Owners.
    pub vcpus: BTreeMap<VcpuKey, Vcpu>,
    /// Their threads.
    pub threads: BTreeMap<Task, Thread>,
    /// By owner.
    pub tallies: BTreeMap<TallyKey, Tally>,
    /// By cause.
    pub causes: BTreeMap<CauseKey, CauseTally>,
    /// Which bank is whose.
    pub banks: BTreeMap<BankKey, u32>,
}

impl Maps {
    /// Takes the maps out of a loaded object, and fills those that user space has to fill.
    pub(super) fn take(bpf: &mut Ebpf, globals: &Globals, cpus: &[u32]) -> Result<Self, Obstacle> {
        let sizes = globals.sizes;
        let mut maps = Self {
            state: take(bpf, "CPU_STATE")?,
            epoch: take(bpf, ".bss.epoch")?,
            base: take(bpf, ".bss.base")?,
            vcpus: Table::take(bpf, "VCPUS")?,
            threads: Table::take(bpf, "THREADS")?,
            made: Table::take(bpf, "MADE")?,
            thread_exits: Table::take(bpf, "THREAD_EXITS")?,
            tallies: Table::take(bpf, "TALLIES")?,
            causes: Table::take(bpf, "CAUSES")?,
            other_payers: Table::take(bpf, "OTHER_PAYERS")?,
            reasons: take(bpf, "REASONS")?,
            banks: Table::take(bpf, "BANKS")?,
            free_banks: globals.by_reason.then(|| take(bpf, "FREE_BANKS")).transpose()?,
            events_lost: take(bpf, "EVENTS_LOST")?,
            events: globals.tracing.then(|| take(bpf, "EVENTS")).transpose()?,
        };
        maps.run(false)?;
        let nobodys: Vec<u64> = if globals.by_cpu { cpus.iter().map(|cpu| u64::from(*cpu)).collect() } else { vec![EVERY_CPU] };
        for cpu in nobodys {
            let key = TallyKey { owner: NOBODY, cpu };
            maps.tallies.insert(key, Tally::EMPTY).map_err(|error| refused("to make nobody's row", &error))?;
        }
        for bank in sizes.reasons - sizes.banks..sizes.reasons {
            maps.add_free(bank).map_err(|error| refused("to fill the list of banks", &error))?;
        }
        Ok(maps)
    }

    /// Gives every CPU this state, and tells all where the structures are, without a CPU's offset.
    pub(super) fn publish(&mut self, states: Vec<CpuState>, base: u64) -> Result<(), Obstacle> {
        self.base.set(0, base, 0).map_err(|error| refused("to say where KVM's structures are", &error))?;
        let states = PerCpuValues::try_from(states).map_err(|error| object::refused("to address every possible CPU", &error))?;
        self.state.set(0, states, 0).map_err(|error| refused("to write the counters", &error))
    }

    /// Switches counting on or off, on all CPUs at once.
    pub(super) fn run(&mut self, running: bool) -> Result<(), Obstacle> {
        self.epoch.set(0, if running { 0 } else { STOPPED }, 0).map_err(|error| refused("to switch counting on or off", &error))
    }

    /// The state of every possible CPU.
    pub(super) fn states(&self) -> Result<PerCpuValues<CpuState>, Obstacle> {
        self.state.get(&0, 0).map_err(|error| refused("to read the counters", &error))
    }

    /// Where the structures are by now, without a CPU's offset; 0 where that is not known.
    pub fn base(&self) -> Result<u64, Obstacle> {
        self.base.get(&0, 0).map_err(|error| refused("to read where KVM's structures are", &error))
    }

    /// Owners.
    pub fn vcpus(&self) -> Result<BTreeMap<VcpuKey, Vcpu>, Obstacle> {
        self.vcpus.all()
    }

    /// Their threads.
    pub fn threads(&self) -> Result<BTreeMap<Task, Thread>, Obstacle> {
        self.threads.all()
    }

    /// When the vCPU was made that is at an address, in nanoseconds of the monotonic clock; those that were made while counting.
    pub fn made(&self) -> Result<BTreeMap<u64, u64>, Obstacle> {
        self.made.all()
    }

    /// Exits by thread, as they were counted once more.
    pub fn thread_exits(&self) -> Result<BTreeMap<Task, u64>, Obstacle> {
        self.thread_exits.all()
    }

    /// Rows by cause.
    pub fn causes(&self) -> Result<BTreeMap<CauseKey, CauseTally>, Obstacle> {
        let mut causes = self.causes.all()?;
        for (key, tally) in self.other_payers.all()? {
            causes.entry(key).or_insert(CauseTally::EMPTY).add(&tally);
        }
        Ok(causes)
    }

    /// All rows, each at a moment of its own; owners last, so that there is none of whom nothing is known.
    pub fn rows(&self) -> Result<Rows, Obstacle> {
        let (tallies, causes, banks) = (self.tallies.all()?, self.causes()?, self.banks.all()?);
        Ok(Rows { tallies, causes, banks, vcpus: self.vcpus.all()?, threads: self.threads.all()? })
    }

    /// One bank.
    pub fn bank(&self, bank: u32) -> Result<ReasonCounters, Obstacle> {
        self.reasons.get(&bank, 0).map_err(|error| refused("to read exits by reason", &error))
    }

    /// Takes out what belongs to an owner whose thread has ended, and to no CPU any more.
    pub fn forget(&mut self, key: &VcpuKey, owner: Owner, rows: &Rows) -> Result<(), Obstacle> {
        for key in rows.tallies.keys().filter(|key| key.owner == owner) {
            self.tallies.remove(key)?;
        }
        for key in rows.causes.keys().filter(|key| key.owner == owner) {
            self.causes.remove(key)?;
            self.other_payers.remove(key)?;
        }
        for (key, bank) in rows.banks.iter().filter(|(key, _)| key.owner == owner) {
            self.banks.remove(key)?;
            self.reasons.set(*bank, ReasonCounters::EMPTY, 0).map_err(|error| refused("to empty a bank", &error))?;
            self.add_free(*bank).map_err(|error| refused("to give a bank back", &error))?;
        }
        self.vcpus.remove(key)
    }

    /// Says that a bank is nobody's.
    fn add_free(&mut self, bank: u32) -> Result<(), MapError> {
        self.free_banks.as_mut().map_or(Ok(()), |banks| banks.push(bank, ANY))
    }

    /// Takes out a thread that has ended, with none of its owners left.
    pub fn forget_thread(&mut self, task: Task) -> Result<(), Obstacle> {
        self.threads.remove(&task)?;
        self.thread_exits.remove(&task)
    }

    /// Events that found no room, over all CPUs.
    pub fn events_lost(&self) -> Result<u64, Obstacle> {
        let lost = self.events_lost.get(&0, 0).map_err(|error| refused("to read how many events were lost", &error))?;
        Ok(lost.iter().sum())
    }

    /// The ring buffer of events; only once.
    pub fn take_events(&mut self) -> Option<RingBuf<MapData>> {
        self.events.take()
    }
}

fn take<T: TryFrom<Map, Error = MapError>>(bpf: &mut Ebpf, name: &str) -> Result<T, Obstacle> {
    let map = bpf.take_map(name).ok_or_else(|| object::missing(&format!("map {name}")))?;
    T::try_from(map).map_err(|error| refused(&format!("the map {name}"), &error))
}

fn refused(what: &str, error: &MapError) -> Obstacle {
    object::refused(what, error)
}
