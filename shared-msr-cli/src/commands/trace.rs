//! `shared-msr trace`

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use aya::maps::{MapData, RingBuf};
use shared_msr_common::{
    event::{self, Event},
    owner::NOBODY,
};

use super::{
    child,
    clock::{after, every, sleep_until, tick},
    output::Output,
    printer,
    report::describe,
    signals::Signals,
};
use crate::{
    cli::{EventFormat, TraceArguments},
    notice::notice,
    obstacle::Obstacle,
    probe::{probes::Options, target::Target},
    report::{filter::Filter, number::counted},
    sample::{
        measurement::{Measurement, TIDY_EVERY},
        owners::{Vm, tgid},
    },
    trace::{Words, json, text},
};

/// How often we look for events: every look is a return to user mode, which closes the window of a guest that waits for our CPU.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Shows events as they come.
pub(super) fn run(arguments: &TraceArguments, verbose: bool) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(follow(arguments, verbose))
}

async fn follow(arguments: &TraceArguments, verbose: bool) -> anyhow::Result<ExitCode> {
    let target = Target::find()?;
    let output = Output::open(arguments.output.as_deref())?;
    let keeps_output = output.is_file();
    let mut signals = Signals::listen()?;
    let options = Options { choice: arguments.probe, by_reason: true, tracing: true, ..Options::default() };
    let mut measurement = Measurement::start(&target, options)?;
    let began = now();
    describe(&measurement.probes, &target, verbose);
    let ring = measurement.probes.maps_mut().take_events();
    let mut ring = ring.context("the embedded BPF object has no ring buffer of events")?;
    let (mut looks, mut tidy) = (every(Some(LOOK_EVERY)), every(Some(TIDY_EVERY)));
    let mut show = Show::new(arguments, &target, began, output);
    show.begin()?;
    let mut command = match arguments.command.as_slice() {
        [] => None,
        command => Some(child::start(command, keeps_output)?),
    };
    let mut status = None;
    let mut signal = None;
    let end = after(arguments.duration);
    while !show.done() {
        tokio::select! {
            () = tick(&mut looks) => show.take(&mut ring, &mut measurement)?,
            () = tick(&mut tidy) => measurement.tidy(&target)?,
            found = signals.any() => { signal = Some(found); break; }
            () = sleep_until(end) => break,
            ended = child::wait(command.as_mut()) => { status = Some(ended?); break; }
        }
    }
    measurement.probes.stop()?;
    show.take(&mut ring, &mut measurement)?;
    let lost = measurement.probes.maps().events_lost()?;
    drop(ring);
    drop(measurement);
    show.end(lost)?;
    if let (None, Some(command)) = (status, command) {
        // The limit was reached, or somebody wants an end: then the command has to end, too.
        status = Some(child::end(command, signal.unwrap_or(libc::SIGTERM), &mut signals).await?);
    }
    Ok(ExitCode::from(status.map_or(0, child::status_to_pass_on)))
}

/// What is shown, and how much of it already.
struct Show {
    format: EventFormat,
    filter: Filter,
    words: Words,
    output: Output,
    limit: u64,
    shown: u64,
}

impl Show {
    fn new(arguments: &TraceArguments, target: &Target, began: u64, output: Output) -> Self {
        let (owners, vms, names) = Default::default();
        Self {
            format: arguments.format,
            filter: printer::filter(&arguments.filter),
            words: Words { vendor: target.vendor, slots: target.msrs(), began, owners, vms, names },
            output,
            limit: arguments.limit.unwrap_or(u64::MAX),
            shown: 0,
        }
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        match self.format {
            EventFormat::Text => self.output.write(text::HEADINGS),
            EventFormat::Jsonl => Ok(()),
        }
    }

    fn done(&self) -> bool {
        self.shown >= self.limit
    }

    /// Shows what has come.
    fn take(&mut self, ring: &mut RingBuf<MapData>, measurement: &mut Measurement) -> anyhow::Result<()> {
        let mut lines = String::new();
        let mut learnt = false;
        while !self.done()
            && let Some(bytes) = ring.next()
        {
            let Some(event) = read(&bytes) else { continue };
            if !learnt && event.owner != NOBODY && self.words.whose(&event).is_none() {
                self.learn(measurement)?;
                learnt = true;
            }
            if event.kind == event::CLOSE {
                self.words.names.learn(tgid(event.task), &event.command);
            }
            if self.words.wants(&event, &self.filter) {
                lines += &match self.format {
                    EventFormat::Text => text::line(&event, &self.words),
                    EventFormat::Jsonl => json::line(&event, &self.words),
                };
                self.shown += 1;
            }
        }
        if lines.is_empty() { Ok(()) } else { self.output.write(&lines) }
    }

    /// Looks up vCPUs that were not known yet.
    fn learn(&mut self, measurement: &mut Measurement) -> Result<(), Obstacle> {
        self.words.owners = measurement.identities()?;
        let Words { owners, vms, names, .. } = &mut self.words;
        for vcpu in owners.vcpus.values() {
            let process = vcpu.vm.process;
            names.learn(process, &vcpu.command);
            vms.entry(process).or_insert_with(|| Vm::find(process, names));
        }
        Ok(())
    }

    fn end(&mut self, lost: u64) -> anyhow::Result<()> {
        if lost > 0 {
            let lost = counted(lost, "event");
            notice(format_args!(
                "shared-msr: LOST: {lost} found no room, so the trace has gaps; filter less, or write to a file"
            ));
        }
        match self.format {
            EventFormat::Text => {
                let lost = if lost == 0 { "none lost".to_owned() } else { format!("{lost} LOST") };
                self.output.write(&format!("{} shown, {lost}\n", counted(self.shown, "event")))
            }
            EventFormat::Jsonl => self.output.write(&json::end(self.shown, lost)),
        }
    }
}

fn read(bytes: &[u8]) -> Option<Event> {
    // SAFETY: only integers and bytes: every bit pattern is a value; the length is checked, and no alignment is asked for.
    (bytes.len() == size_of::<Event>()).then(|| unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) })
}

/// Nanoseconds of the monotonic clock, which the programs read as well.
fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to the time it is given; the clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}
