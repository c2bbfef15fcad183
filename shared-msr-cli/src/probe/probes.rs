//! The attached programs of one measurement.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
    time::Instant,
};

use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray, PerCpuValues},
    programs::{KProbe, Program, ProgramError, RawTracePoint},
};
use serde::Serialize;
use shared_msr_common::CpuState;

use super::{
    kernel_log::KernelLog,
    object::{self, Globals},
    survey::{Finding, Target},
};
use crate::{
    kernel::{layout::DOCUMENTED, symbols::CLOSER},
    obstacle::Obstacle,
};

const SET: &str = "shared_msr_set";
const CLOSE: &str = "shared_msr_close";
const EXIT: &str = "shared_msr_exit";
const USERSPACE_EXIT: &str = "shared_msr_user";
/// All our programs carry names that start so, in any listing of the kernel's programs.
pub const PROGRAM_PREFIX: &str = "shared_msr_";

/// Which hook observes which event.
#[derive(Clone, Debug, Serialize)]
pub struct Hooks {
    /// Sets.
    pub set: String,
    /// Closes.
    pub close: String,
    /// Exits.
    pub exit: String,
    /// Returns to the VMM.
    pub userspace_exit: String,
}

/// The attached programs. They are detached when this is dropped, or by the kernel when the process ends in any way.
pub struct Probes {
    // Owns the programs and their links.
    bpf: Ebpf,
    state: PerCpuArray<MapData, CpuState>,
    /// What they are attached to.
    pub hooks: Hooks,
    /// When counting began.
    pub started: Instant,
    /// The programs' messages, if they were asked for.
    pub kernel_log: Option<KernelLog>,
}

impl Probes {
    /// Loads and attaches everything, and starts to count.
    ///
    /// All programs are silent until each of them is attached; then the CPUs are switched on, one after the other within
    /// microseconds. So on every CPU all kinds of events are counted from the same moment, and no exit is counted whose
    /// window could have changed unseen.
    pub fn attach(target: &Target, kernel_log: bool) -> Result<Self, Obstacle> {
        let mut loaded = Loaded::load(Globals { slots: target.list.len(), layout: target.layout.layout, kernel_log })?;
        // Not running yet: the programs stay silent.
        loaded.publish(target, 0)?;
        let kernel_log = if kernel_log { Some(KernelLog::open(&mut loaded.bpf)?) } else { None };
        let set = loaded.kprobe(SET, target.setter)?;
        let close = loaded.kprobe(CLOSE, CLOSER)?;
        let userspace_exit = loaded.raw_tracepoint(USERSPACE_EXIT, "kvm_userspace_exit")?;
        let exit = loaded.raw_tracepoint(EXIT, "kvm_exit")?;
        let started = Instant::now();
        loaded.publish(target, 1)?;
        let Loaded { bpf, state } = loaded;
        Ok(Self { bpf, state, hooks: Hooks { set, close, exit, userspace_exit }, started, kernel_log })
    }

    /// Tries each hook by itself, for `doctor`; nothing stays attached. Needs no more of the kernel than the functions.
    pub fn try_each(setter: Option<&str>) -> Vec<Finding> {
        let globals = Globals { slots: 0, layout: DOCUMENTED, kernel_log: false };
        let attempt = |attach: &dyn Fn(&mut Loaded) -> Result<String, Obstacle>| attach(&mut Loaded::load(globals)?);
        let hooks = [
            ("set", setter.map(|setter| attempt(&|loaded| loaded.kprobe(SET, setter)))),
            ("close", setter.map(|_| attempt(&|loaded| loaded.kprobe(CLOSE, CLOSER)))),
            ("exit", Some(attempt(&|loaded| loaded.raw_tracepoint(EXIT, "kvm_exit")))),
            ("userspace exit", Some(attempt(&|loaded| loaded.raw_tracepoint(USERSPACE_EXIT, "kvm_userspace_exit")))),
        ];
        hooks.into_iter().filter_map(|(topic, outcome)| Some(Finding { topic, outcome: outcome? })).collect()
    }

    /// Reads the state of every possible CPU, in the order of `host.possible_cpus`.
    pub fn read(&self) -> Result<PerCpuValues<CpuState>, Obstacle> {
        self.state.get(&0, 0).map_err(|error| object::refused("to read the counters", &error))
    }

    /// How often the kernel skipped a program because the CPU was in one already ("recursion_misses": Linux 5.12 and
    /// later, for kprobes 6.7 and later; none where no program says so).
    pub fn skipped_runs(&self) -> Option<u64> {
        let misses = self.bpf.programs().filter_map(|(_, program)| skipped_runs(program));
        misses.reduce(|sum, misses| sum + misses)
    }
}

/// Loaded maps, programs not attached yet.
struct Loaded {
    bpf: Ebpf,
    state: PerCpuArray<MapData, CpuState>,
}

impl Loaded {
    fn load(globals: Globals) -> Result<Self, Obstacle> {
        let mut bpf = object::load(globals)?;
        let map = bpf.take_map("CPU_STATE").ok_or_else(|| object::missing("map CPU_STATE"))?;
        let state = PerCpuArray::try_from(map).map_err(|error| object::refused("the map of counters", &error))?;
        Ok(Self { bpf, state })
    }

    /// Gives every CPU an empty state with the address of its structure.
    fn publish(&mut self, target: &Target, running: u64) -> Result<(), Obstacle> {
        let states: Vec<CpuState> = target
            .structures
            .iter()
            .map(|address| CpuState { structure_address: *address, running, ..CpuState::EMPTY })
            .collect();
        let states = PerCpuValues::try_from(states).map_err(|error| object::refused("to address every possible CPU", &error))?;
        self.state.set(0, states, 0).map_err(|error| object::refused("to write the counters", &error))
    }

    fn program<'a, T>(&'a mut self, name: &str) -> Result<&'a mut T, Obstacle>
    where
        &'a mut T: TryFrom<&'a mut Program, Error = ProgramError>,
    {
        let program = self.bpf.program_mut(name).ok_or_else(|| object::missing(name))?;
        program.try_into().map_err(|error: ProgramError| object::refused(name, &error))
    }

    fn kprobe(&mut self, name: &str, function: &str) -> Result<String, Obstacle> {
        let hook = format!("kprobe:{function}");
        let refused = |error: ProgramError| {
            let obstacle = object::refused(&hook, &error);
            Obstacle {
                cure: "use a kernel with CONFIG_KPROBES, CONFIG_KPROBE_EVENTS and CONFIG_BPF_EVENTS that is not locked down"
                    .to_owned(),
                ..obstacle
            }
        };
        let program: &mut KProbe = self.program(name)?;
        program.load().map_err(refused)?;
        program.attach(function, 0).map_err(refused)?;
        Ok(hook)
    }

    fn raw_tracepoint(&mut self, name: &str, tracepoint: &str) -> Result<String, Obstacle> {
        let hook = format!("raw_tracepoint:{tracepoint}");
        let refused = |error: ProgramError| {
            let obstacle = object::refused(&hook, &error);
            Obstacle { cure: "use a kernel from 5.0 with CONFIG_BPF_EVENTS, with KVM loaded".to_owned(), ..obstacle }
        };
        let program: &mut RawTracePoint = self.program(name)?;
        program.load().map_err(refused)?;
        program.attach(tracepoint).map_err(refused)?;
        Ok(hook)
    }
}

fn skipped_runs(program: &Program) -> Option<u64> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", program.fd().ok()?.as_fd().as_raw_fd())).ok()?;
    info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
}
