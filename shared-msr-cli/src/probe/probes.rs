//! The attached programs of one measurement.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    time::{Duration, Instant},
};

use aya::{
    Ebpf,
    maps::PerCpuValues,
    programs::{KProbe, Program, ProgramError, RawTracePoint, TracePoint},
};
use shared_msr_common::{CpuState, accounting::Watched};

use super::{
    fentry::{self, Attached},
    hooks::Hooks,
    kernel_log::KernelLog,
    ladder::{self, Event, Hook, Known, ProbeChoice, Refused},
    maps::Maps,
    object::{self, Globals, Sizes},
    sys::At,
    target::{Tables, Target},
};
use crate::{
    kernel::{
        exit_reason::{ReasonPath, Record},
        kprobes, rights,
        vcpu::VcpuFacts,
    },
    obstacle::Obstacle,
};

/// All our programs carry names that start so, in any listing of the kernel's programs.
pub const PROGRAM_PREFIX: &str = "shared_msr_";

/// What the programs tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Sets and closes, from the functions or from the WRMSRs.
    Split(Watched),
    /// How often each MSR was written, by whomever.
    WritesOnly,
}

/// What is asked of the programs.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Which step of the ladder.
    pub choice: ProbeChoice,
    /// Send messages on their rare paths.
    pub kernel_log: bool,
    /// Count WRMSRs as well.
    pub verify: bool,
    /// Count exits by reason.
    pub by_reason: bool,
    /// Tell owners apart by CPU as well.
    pub by_cpu: bool,
    /// Time closes.
    pub timing: bool,
    /// Send each event to user space.
    pub tracing: bool,
    /// How many vCPUs, each with a thread that runs it, can be told apart at once.
    pub max_vcpus: u32,
}

/// More than most hosts run at once, in about 7 MiB; with exits by reason in about 33 MiB.
pub const MAX_VCPUS: u32 = 2048;

impl Default for Options {
    fn default() -> Self {
        Self {
            choice: ProbeChoice::Auto,
            kernel_log: false,
            verify: false,
            by_reason: false,
            by_cpu: false,
            timing: false,
            tracing: false,
            max_vcpus: MAX_VCPUS,
        }
    }
}

impl Options {
    /// Room for the rows that this asks for, on a host with so many possible CPUs.
    fn sizes(self, cpus: u32) -> Sizes {
        // A vCPU has seldom been everywhere; where it has, what finds no row goes to nobody's, and that is shown.
        let places = if self.by_cpu { cpus.min(16) } else { 1 };
        let nobodys = if self.by_cpu { cpus } else { 1 };
        let banks = if self.by_reason { self.max_vcpus.saturating_mul(3).max(64) } else { 1 };
        Sizes {
            vcpus: self.max_vcpus,
            // Places in memory, which KVM uses again; more than are in use at once.
            places: self.max_vcpus.saturating_mul(2).max(1024),
            // Also those for which there is no place among the vCPUs.
            thread_exits: if self.verify { self.max_vcpus.saturating_mul(2).max(1024) } else { 1 },
            tallies: self.max_vcpus.saturating_mul(places).saturating_add(nobodys),
            causes: self.max_vcpus.saturating_mul(4).max(1024).saturating_mul(places),
            // An owner's windows have a handful of causes, payers apart.
            other_payers: self.max_vcpus.saturating_mul(2).max(256).saturating_mul(places),
            banks,
            reasons: banks.saturating_add(cpus),
            events: if self.tracing { 1 << 22 } else { Sizes::NONE.events },
        }
    }
}

/// The attached programs. They are detached when this is dropped, or by the kernel when the process ends in any way.
pub struct Probes {
    // Owns the programs and their links.
    loaded: Loaded,
    /// What they are attached to.
    pub hooks: Hooks,
    /// What they tell.
    pub sight: Sight,
    /// Whether it is counted after which exits vCPUs went back to their VMMs.
    pub returns_by_reason: bool,
    /// Hooks that could not be had.
    pub refused: Vec<Refused>,
    /// When counting began.
    pub started: Instant,
    /// The programs' messages, if they were asked for.
    pub kernel_log: Option<KernelLog>,
    /// What was asked for.
    pub options: Options,
}

impl Probes {
    /// Loads and attaches everything, and starts to count.
    ///
    /// All programs are silent until each of them is attached; then all CPUs are switched on at once. So on every CPU all kinds
    /// of events are counted from the same moment, and no exit is counted whose window could have changed unseen.
    pub fn attach(target: &Target, options: Options) -> Result<Self, Obstacle> {
        let mut refused = Vec::new();
        let watched = if options.choice == ProbeChoice::Tracepoint { Watched::Writes } else { Watched::Calls };
        let mut loaded = Loaded::load(target, options, watched)?;
        let functions = loaded.functions(target, options, &mut refused);
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
                if watched != Watched::Writes {
                    // A function that was hooked before the other was refused must not count as well.
                    loaded = Loaded::load(target, options, Watched::Writes)?;
                }
                let write = loaded.need(Event::Write, target, &mut refused)?;
                (Sight::Split(Watched::Writes), Some(write.clone()), Some(write))
            }
            (None, Err(_)) => {
                if watched != Watched::Writes {
                    loaded = Loaded::load(target, options, Watched::Writes)?;
                }
                (Sight::WritesOnly, None, None)
            }
        };
        let calls = sight == Sight::Split(Watched::Calls);
        // What cannot be told then is said in the report.
        let drop = if calls { loaded.climb(Event::Drop, options.choice, target, &mut refused) } else { None };
        let restored = match (options.timing, calls) {
            (false, _) => None,
            (true, true) => {
                let before = refused.len();
                let hook = loaded.climb(Event::Restored, options.choice, target, &mut refused);
                Some(hook.ok_or_else(|| not_to_be_had(&refused[before..]))?)
            }
            (true, false) => {
                return Err(Obstacle::new(
                    "restores cannot be timed where no function of KVM is hooked",
                    "leave --timing out, or see `shared-msr doctor` for what this host lacks",
                ));
            }
        };
        let thread_end = loaded.need(Event::ThreadEnd, target, &mut refused)?;
        let exec = loaded.need(Event::Exec, target, &mut refused)?;
        let vcpu_made = loaded.climb(Event::VcpuMade, options.choice, target, &mut refused);
        let userspace_exit = loaded.need(Event::UserspaceExit, target, &mut refused)?;
        let exit = if options.by_reason { Event::ExitReason } else { Event::Exit };
        let exit = loaded.need(exit, target, &mut refused)?;
        // After the program that it checks, which sits on the same tracepoint at times: they run in the order of attaching.
        let check = if options.verify || sight == Sight::WritesOnly {
            Some(loaded.need(Event::Check, target, &mut refused)?)
        } else {
            None
        };
        let check_exit = if options.verify { Some(loaded.need(Event::CheckExit, target, &mut refused)?) } else { None };
        let kernel_log = if options.kernel_log { Some(KernelLog::open(&mut loaded.bpf)?) } else { None };
        let started = Instant::now();
        loaded.maps.run(true)?;
        let hooks = Hooks { set, close, exit, userspace_exit, check, drop, restored, thread_end, exec, vcpu_made, check_exit };
        // The classic tracepoint does not say which vCPU it is.
        let returns_by_reason = options.by_reason && loaded.last_entry_known && hooks.exit.starts_with("raw_");
        Ok(Self { loaded, hooks, sight, returns_by_reason, refused, started, kernel_log, options })
    }

    /// Ends counting, on all CPUs at once. What was counted stands still from then on, but for programs that are just running.
    pub fn stop(&mut self) -> Result<(), Obstacle> {
        self.loaded.maps.run(false)
    }

    /// The maps that the programs fill.
    pub fn maps(&self) -> &Maps {
        &self.loaded.maps
    }

    /// The same, to take something out.
    pub fn maps_mut(&mut self) -> &mut Maps {
        &mut self.loaded.maps
    }

    /// Reads the state of every possible CPU, in the order of `host.possible_cpus`.
    pub fn read(&self) -> Result<PerCpuValues<CpuState>, Obstacle> {
        self.loaded.maps.states()
    }

    /// How often the kernel skipped a program because the CPU was in one already ("recursion_misses": Linux 5.12 and
    /// later, for kprobes 6.7 and later; none where no program says so).
    pub fn skipped_runs(&self) -> Option<u64> {
        self.sum_of("recursion_misses:")
    }

    /// Time spent in the programs, over all CPUs, as far as somebody has asked the kernel to take it (`bpf(BPF_ENABLE_STATS)`:
    /// Linux 5.8 and later).
    pub fn run_time(&self) -> Option<Duration> {
        self.sum_of("run_time_ns:").map(Duration::from_nanos)
    }

    /// The sum of what the kernel says of each program; none where it says nothing.
    fn sum_of(&self, field: &str) -> Option<u64> {
        let ours = self.loaded.attached.iter().map(|attached| attached.program.as_fd());
        let programs = self.loaded.bpf.programs().filter_map(|(_, program)| program.fd().ok());
        let numbers = programs.map(|program| told(program.as_fd(), field)).chain(ours.map(|program| told(program, field)));
        numbers.flatten().reduce(|sum, number| sum + number)
    }
}

/// Loaded maps, with what is attached of the programs.
struct Loaded {
    bpf: Ebpf,
    maps: Maps,
    fentry: Result<fentry::Programs, Obstacle>,
    /// What the choice of hooks depends on.
    known: Known,
    /// Why the way to an exit's reason is not known.
    reason_path: Result<(), String>,
    /// Whether it is known where the kernel keeps on which CPU a vCPU was entered last.
    last_entry_known: bool,
    attached: Vec<Attached>,
}

impl Loaded {
    /// The programs are silent until they are told that they run.
    fn load(target: &Target, options: Options, watched: Watched) -> Result<Self, Obstacle> {
        let closer = target.closer.as_ref().map_or(0, |closer| closer.address);
        let path = options.by_reason.then(|| ReasonPath::find(&target.btf, target.vendor)).transpose();
        let cpus = &target.host.possible_cpus;
        let sizes = options.sizes(cpus.iter().max().map_or(1, |last| last + 1));
        let globals = Globals {
            msrs: target.msrs().iter().map(|slot| slot.index).collect(),
            closer,
            reason: path.clone().unwrap_or(None),
            record: Record::here(),
            vcpu: VcpuFacts::find(&target.btf),
            structures_pointer: target.tables.as_ref().map_or(0, Tables::pointer),
            running_vcpu: target.tables.as_ref().ok().and_then(|tables| tables.running_vcpu).unwrap_or(0),
            watches_writes: watched == Watched::Writes,
            by_cpu: options.by_cpu,
            by_reason: options.by_reason,
            timing: options.timing,
            tracing: options.tracing,
            kernel_log: options.kernel_log,
            sizes,
            ..Globals::none()
        };
        let globals = match &target.tables {
            Ok(tables) => Globals { layout: tables.layout.layout, form: tables.form, ..globals },
            Err(_) => globals,
        };
        let mut bpf = object::load(&globals)?;
        let fentry = fentry::Programs::relocate(&bpf);
        let mut maps = Maps::take(&mut bpf, &globals, cpus)?;
        let offset = |position: usize| target.tables.as_ref().map_or(0, |tables| tables.per_cpu_offsets[position]);
        let state = |position| CpuState { per_cpu_offset: offset(position), ..CpuState::EMPTY };
        maps.publish((0..cpus.len()).map(state).collect(), target.tables.as_ref().map_or(0, |tables| tables.base))?;
        let vcpu_is_first = globals.vcpu.is_first_argument;
        let dropper = target.dropper.clone().unwrap_or_default();
        let preemptible = target.tracepoints_are_preemptible;
        let known = Known { dropper, vcpu_is_first, timing: options.timing, preemptible, ..Known::default() };
        let last_entry_known = globals.vcpu.last_entry_cpu.is_some();
        Ok(Self { bpf, maps, fentry, known, reason_path: path.map(|_| ()), last_entry_known, attached: Vec::new() })
    }

    /// Hooks the two functions, if both can be hooked.
    fn functions(&mut self, target: &Target, options: Options, refused: &mut Vec<Refused>) -> Option<(String, String)> {
        let choice = options.choice;
        if choice == ProbeChoice::Tracepoint {
            return None;
        }
        let set = self.climb(Event::Set, choice, target, refused);
        let close = self.climb(Event::Close, choice, target, refused);
        Some((set?, close?))
    }

    /// Takes the best hook for an event.
    fn climb(&mut self, event: Event, choice: ProbeChoice, target: &Target, refused: &mut Vec<Refused>) -> Option<String> {
        let named = match event {
            Event::Set => target.setter.clone(),
            Event::Drop => target.dropper.clone(),
            // No name of a function that is another one elsewhere matters for the others.
            _ => Ok(""),
        };
        if let Err(why) = named {
            refused.push(Refused { event, hook: "any".to_owned(), why });
            return None;
        }
        let known = Known { setter: target.setter.clone().unwrap_or_default(), ..self.known };
        for hook in ladder::hooks(event, choice, known) {
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
            Hook::Fentry { program, place, function } | Hook::Fexit { program, place, function } => {
                kprobes::check_ftrace()?;
                let at = if matches!(hook, Hook::Fexit { .. }) { At::Return } else { At::Entry };
                if function == ladder::UNREGISTER {
                    // The program tells KVM's notifier from others by this address.
                    target.closer.clone()?;
                }
                let programs = self.fentry.as_ref().map_err(Clone::clone)?;
                self.attached.push(programs.attach(program, at, (place, function), &target.btf)?);
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

/// What the kernel says of a program.
fn told(program: BorrowedFd<'_>, field: &str) -> Option<u64> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd())).ok()?;
    info.lines().find_map(|line| line.strip_prefix(field))?.trim().parse().ok()
}
