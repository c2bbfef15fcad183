//! The attached programs of one measurement.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    time::Instant,
};

use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray, PerCpuValues},
    programs::{KProbe, Program, ProgramError, RawTracePoint, TracePoint},
};
use serde::Serialize;
use shared_msr_common::{CpuState, ReasonCounters, accounting::Watched};

use super::{
    fentry::{self, Attached},
    kernel_log::KernelLog,
    ladder::{self, Event, Hook, ProbeChoice, Refused},
    object::{self, Globals},
    target::Target,
};
use crate::{
    kernel::{
        exit_reason::{self, ReasonPath},
        kprobes, rights,
    },
    obstacle::Obstacle,
};

/// All our programs carry names that start so, in any listing of the kernel's programs.
pub const PROGRAM_PREFIX: &str = "shared_msr_";

/// Which hook observes which event, as `kind:name`.
#[derive(Clone, Debug, Serialize)]
pub struct Hooks {
    /// Sets; none where they cannot be told.
    pub set: Option<String>,
    /// Closes; none where they cannot be told.
    pub close: Option<String>,
    /// Exits.
    pub exit: String,
    /// Returns to the VMM.
    pub userspace_exit: String,
    /// WRMSRs, to check the others, or where they cannot be told.
    pub check: Option<String>,
}

/// What the programs tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Sets and closes, from the functions or from the WRMSRs.
    Split(Watched),
    /// How often each MSR was written, by whomever.
    WritesOnly,
}

/// What is asked of the programs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Which step of the ladder.
    pub choice: ProbeChoice,
    /// Send messages on their rare paths.
    pub kernel_log: bool,
    /// Count WRMSRs as well.
    pub verify: bool,
    /// Count exits by reason.
    pub by_reason: bool,
}

/// The attached programs. They are detached when this is dropped, or by the kernel when the process ends in any way.
pub struct Probes {
    // Owns the programs and their links.
    loaded: Loaded,
    reasons: Option<PerCpuArray<MapData, ReasonCounters>>,
    /// What they are attached to.
    pub hooks: Hooks,
    /// What they tell.
    pub sight: Sight,
    /// Hooks that could not be had.
    pub refused: Vec<Refused>,
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
    pub fn attach(target: &Target, options: Options) -> Result<Self, Obstacle> {
        let mut refused = Vec::new();
        let mut loaded = Loaded::load(target, options)?;
        let functions = loaded.functions(target, options.choice, &mut refused);
        let (sight, set, close) = match (functions, &target.tables) {
            (Some((set, close)), Ok(_)) => (Sight::Split(Watched::Calls), Some(set), Some(close)),
            (Some(_), Err(why)) => {
                let cure = format!("{}; or count bare WRMSRs with --probe tracepoint", why.cure);
                return Err(Obstacle { cure, ..why.clone() });
            }
            (None, _) if matches!(options.choice, ProbeChoice::Fentry | ProbeChoice::Kprobe) => {
                return Err(not_to_be_had(&refused));
            }
            (None, Ok(_)) => {
                // A function that was hooked before the other was refused must not count as well.
                loaded = Loaded::load(target, options)?;
                let write = loaded.need(Event::Write, target, &mut refused)?;
                (Sight::Split(Watched::Writes), Some(write.clone()), Some(write))
            }
            (None, Err(_)) => {
                loaded = Loaded::load(target, options)?;
                (Sight::WritesOnly, None, None)
            }
        };
        let userspace_exit = loaded.need(Event::UserspaceExit, target, &mut refused)?;
        let exit = if options.by_reason { Event::ExitReason } else { Event::Exit };
        let exit = loaded.need(exit, target, &mut refused)?;
        // After the program that it checks, which sits on the same tracepoint at times: they run in the order of attaching.
        let check = if options.verify || sight == Sight::WritesOnly {
            Some(loaded.need(Event::Check, target, &mut refused)?)
        } else {
            None
        };
        let reasons = if options.by_reason { Some(loaded.reasons()?) } else { None };
        let kernel_log = if options.kernel_log { Some(KernelLog::open(&mut loaded.bpf)?) } else { None };
        let started = Instant::now();
        loaded.publish(target, 1)?;
        let hooks = Hooks { set, close, exit, userspace_exit, check };
        Ok(Self { loaded, reasons, hooks, sight, refused, started, kernel_log })
    }

    /// Reads the state of every possible CPU, in the order of `host.possible_cpus`.
    pub fn read(&self) -> Result<PerCpuValues<CpuState>, Obstacle> {
        self.loaded.state.get(&0, 0).map_err(|error| object::refused("to read the counters", &error))
    }

    /// Reads the exits by reason of every possible CPU, in the same order; none where they are not counted.
    pub fn read_reasons(&self) -> Result<Option<PerCpuValues<ReasonCounters>>, Obstacle> {
        let read = |reasons: &PerCpuArray<_, _>| {
            reasons.get(&0, 0).map_err(|error| object::refused("to read the exits by reason", &error))
        };
        self.reasons.as_ref().map(read).transpose()
    }

    /// How often the kernel skipped a program because the CPU was in one already ("recursion_misses": Linux 5.12 and
    /// later, for kprobes 6.7 and later; none where no program says so).
    pub fn skipped_runs(&self) -> Option<u64> {
        let ours = self.loaded.attached.iter().map(|attached| attached.program.as_fd());
        let programs = self.loaded.bpf.programs().filter_map(|(_, program)| program.fd().ok());
        let misses = programs.map(|program| skipped_runs(program.as_fd())).chain(ours.map(skipped_runs));
        misses.flatten().reduce(|sum, misses| sum + misses)
    }
}

/// Loaded maps, with what is attached of the programs.
struct Loaded {
    bpf: Ebpf,
    state: PerCpuArray<MapData, CpuState>,
    fentry: Result<fentry::Programs, Obstacle>,
    /// Why the way to an exit's reason is not known.
    reason_path: Result<(), String>,
    attached: Vec<Attached>,
}

impl Loaded {
    /// The programs are silent until they are told that they run.
    fn load(target: &Target, options: Options) -> Result<Self, Obstacle> {
        let closer = target.closer.as_ref().map_or(0, |closer| closer.address);
        let globals = Globals {
            msrs: target.msrs().iter().map(|slot| slot.index).collect(),
            closer,
            kernel_log: options.kernel_log,
            ..Globals::none()
        };
        let globals = match &target.tables {
            Ok(tables) => Globals { layout: tables.layout.layout, form: tables.form, ..globals },
            Err(_) => globals,
        };
        let path = options.by_reason.then(|| ReasonPath::find(&target.btf, target.vendor)).transpose();
        let globals =
            Globals { reason: path.clone().unwrap_or(None), reason_in_record: exit_reason::in_record_here(), ..globals };
        let mut bpf = object::load(&globals)?;
        let fentry = fentry::Programs::relocate(&bpf);
        let map = bpf.take_map("CPU_STATE").ok_or_else(|| object::missing("map CPU_STATE"))?;
        let state = PerCpuArray::try_from(map).map_err(|error| object::refused("the map of counters", &error))?;
        let mut loaded = Self { bpf, state, fentry, reason_path: path.map(|_| ()), attached: Vec::new() };
        loaded.publish(target, 0)?;
        Ok(loaded)
    }

    /// The map of exits by reason.
    fn reasons(&mut self) -> Result<PerCpuArray<MapData, ReasonCounters>, Obstacle> {
        let map = self.bpf.take_map("REASONS").ok_or_else(|| object::missing("map REASONS"))?;
        PerCpuArray::try_from(map).map_err(|error| object::refused("the map of exits by reason", &error))
    }

    /// Gives every CPU an empty state with the address of its structure, 0 where that is not known.
    fn publish(&mut self, target: &Target, running: u64) -> Result<(), Obstacle> {
        let address = |position: usize| target.tables.as_ref().map_or(0, |tables| tables.structures[position]);
        let states: Vec<CpuState> = (0..target.host.possible_cpus.len())
            .map(|position| CpuState { structure_address: address(position), running, ..CpuState::EMPTY })
            .collect();
        let states = PerCpuValues::try_from(states).map_err(|error| object::refused("to address every possible CPU", &error))?;
        self.state.set(0, states, 0).map_err(|error| object::refused("to write the counters", &error))
    }

    /// Hooks the two functions, if both can be hooked.
    fn functions(&mut self, target: &Target, choice: ProbeChoice, refused: &mut Vec<Refused>) -> Option<(String, String)> {
        if choice == ProbeChoice::Tracepoint {
            return None;
        }
        let set = self.climb(Event::Set, choice, target, refused);
        let close = self.climb(Event::Close, choice, target, refused);
        Some((set?, close?))
    }

    /// Takes the best hook for an event.
    fn climb(&mut self, event: Event, choice: ProbeChoice, target: &Target, refused: &mut Vec<Refused>) -> Option<String> {
        let known = match event {
            Event::Set => target.setter.clone(),
            // The setter's name does not matter for the others.
            _ => Ok(""),
        };
        let setter = match known {
            Ok(setter) => setter,
            Err(why) => {
                refused.push(Refused { event, hook: "any".to_owned(), why });
                return None;
            }
        };
        for hook in ladder::hooks(event, choice, setter) {
            match self.attach(hook, target) {
                Ok(()) => return Some(hook.name()),
                Err(why) => refused.push(Refused { event, hook: hook.name(), why }),
            }
        }
        None
    }

    /// Takes the best hook for an event without which nothing is measured.
    fn need(&mut self, event: Event, target: &Target, refused: &mut Vec<Refused>) -> Result<String, Obstacle> {
        let before = refused.len();
        self.climb(event, ProbeChoice::Auto, target, refused).ok_or_else(|| not_to_be_had(&refused[before..]))
    }

    fn attach(&mut self, hook: Hook, target: &Target) -> Result<(), Obstacle> {
        let refused = |error: ProgramError| object::refused(&hook.name(), &error);
        match hook {
            Hook::Fentry { program, place, function } => {
                kprobes::check_ftrace()?;
                if function == ladder::UNREGISTER {
                    // The program tells KVM's notifier from others by this address.
                    target.closer.clone()?;
                }
                let programs = self.fentry.as_ref().map_err(Clone::clone)?;
                self.attached.push(programs.attach(program, place, function, &target.btf)?);
            }
            Hook::Kprobe { program, function } => {
                kprobes::check()?;
                rights::check_perf_events()?;
                let program: &mut KProbe = self.program(program)?;
                program.load().map_err(refused)?;
                program.attach(function, 0).map_err(refused)?;
            }
            Hook::Raw { program, tracepoint } => {
                if program == ladder::REASON {
                    self.reason_path.clone().map_err(|why| {
                        Obstacle::new(why, "use a kernel with CONFIG_DEBUG_INFO_BTF and CONFIG_DEBUG_INFO_BTF_MODULES")
                    })?;
                }
                let program: &mut RawTracePoint = self.program(program)?;
                program.load().map_err(refused)?;
                program.attach(tracepoint).map_err(refused)?;
            }
            Hook::Classic { program, category, tracepoint } => {
                let tracefs = |error: ProgramError| {
                    let cure = "mount tracefs (mount -t tracefs tracefs /sys/kernel/tracing)".to_owned();
                    Obstacle { cure, ..refused(error) }
                };
                let program: &mut TracePoint = self.program(program)?;
                program.load().map_err(refused)?;
                program.attach(category, tracepoint).map_err(tracefs)?;
            }
        }
        Ok(())
    }

    fn program<'a, T>(&'a mut self, name: &str) -> Result<&'a mut T, Obstacle>
    where
        &'a mut T: TryFrom<&'a mut Program, Error = ProgramError>,
    {
        let program = self.bpf.program_mut(name).ok_or_else(|| object::missing(name))?;
        program.try_into().map_err(|error: ProgramError| object::refused(name, &error))
    }
}

/// The obstacle when an event cannot be observed at all: what each of its hooks lacks, and the cure of the humblest.
fn not_to_be_had(refused: &[Refused]) -> Obstacle {
    let Some(first) = refused.first() else { return object::missing("hook") };
    let of_this_event: Vec<&Refused> = refused.iter().filter(|other| other.event == first.event).collect();
    let why = |refused: &&Refused| format!("{} ({})", refused.hook, refused.why.problem);
    let hooks: Vec<String> = of_this_event.iter().map(why).collect();
    let cure = of_this_event.last().unwrap_or(&first).why.cure.clone();
    Obstacle { problem: format!("each {} cannot be observed by {}", first.event.name(), hooks.join(", nor by ")), cure }
}

fn skipped_runs(program: BorrowedFd<'_>) -> Option<u64> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd())).ok()?;
    info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?.trim().parse().ok()
}
