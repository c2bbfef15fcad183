//! `shared-msr trace`

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use aya::maps::{MapData, RingBuf};
use shared_msr_common::{
    event::{self, Event},
    owner::NOBODY,
};
use tokio::{process::Child, time::Instant};

use super::{
    child,
    clock::{after, every, sleep_until, tick},
    end::{self, End},
    output::{Destination, Otherwise, Output},
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
/// So many bytes of text are handed on at once, or what so many events make of them: events may come as fast as they are read,
/// and signals have to be heard in between.
const PIECE: (usize, u32) = (1 << 16, 4096);

/// Shows events as they come.
pub(super) fn run(arguments: &TraceArguments, verbose: bool) -> anyhow::Result<ExitCode> {
    let target = Target::find()?;
    // A FIFO without a reader waits here, before anything is attached, and any signal still ends the program.
    let to = Destination::open(arguments.output.as_deref())?;
    let status = end::guarded(async |signals| follow(arguments, verbose, (&target, to), signals).await)?;
    Ok(ExitCode::from(status))
}

async fn follow(
    arguments: &TraceArguments,
    verbose: bool,
    (target, to): (&Target, Destination),
    signals: &mut Signals,
) -> anyhow::Result<u8> {
    let keeps_output = to.is_file();
    let output = Output::start(to, Otherwise::Nowhere)?;
    let options = Options { choice: arguments.probe, by_reason: true, tracing: true, ..Options::default() };
    let mut measurement = Measurement::start(target, options)?;
    let began = now();
    describe(&measurement.probes, target, verbose);
    let ring = measurement.probes.maps_mut().take_events();
    let mut ring = ring.context("the embedded BPF object has no ring buffer of events")?;
    let mut show = Show::new(arguments, target, began);
    let mut command = match arguments.command.as_slice() {
        [] => None,
        command => Some(child::start(command, keeps_output)?),
    };
    let end = after(arguments.duration);
    let watched = watch((&mut measurement, target), (&mut show, &mut ring, &output), (signals, command.as_mut()), end).await;
    // What has come is still to be shown, and the command to be waited for.
    let end = watched.unwrap_or_else(End::Failed);
    let stopped = measurement.probes.stop();
    let learnt = show.learn(&mut measurement);
    let lost = measurement.probes.maps().events_lost();
    // Nothing stays attached while we wait for the command, or for whoever reads. So nothing is added to the ring buffer either,
    // and what is in it has an end.
    drop(measurement);
    let written = async {
        while !output.has_failed() {
            let room = output.room().await?;
            let (text, more) = show.take(&mut ring, None)?;
            room.write(text);
            if !more {
                break;
            }
        }
        output.room().await?.write(show.end(lost?));
        output.end().await?;
        stopped.and(learnt).map_err(anyhow::Error::from)
    };
    if let (End::Done, Some(command)) = (&end, &command) {
        // The limit was reached.
        child::send(command, libc::SIGTERM);
    }
    end::wind_up(end, command, written, signals).await
}

/// Waits for the end of the trace; meanwhile shows events, and keeps the map of vCPUs tidy.
async fn watch(
    (measurement, target): (&mut Measurement, &Target),
    (show, ring, output): (&mut Show, &mut RingBuf<MapData>, &Output),
    (signals, mut command): (&mut Signals, Option<&mut Child>),
    end: Option<Instant>,
) -> anyhow::Result<End> {
    let (mut looks, mut tidy) = (every(Some(LOOK_EVERY)), every(Some(TIDY_EVERY)));
    // Whether there may be events that were not taken yet. While there is no room for them they stay in the ring buffer; when
    // that is full the kernel counts what is lost.
    let mut due = true;
    while !show.done() {
        tokio::select! {
            signal = signals.any() => return Ok(End::Signal(signal)),
            why = output.failed() => return Ok(End::Failed(why)),
            () = sleep_until(end) => break,
            status = child::wait(command.as_deref_mut()) => return Ok(End::Command(status?)),
            () = tick(&mut tidy) => measurement.tidy(target)?,
            () = tick(&mut looks) => due = true,
            room = output.room(), if due => {
                let text;
                (text, due) = show.take(ring, Some(measurement))?;
                if !text.is_empty() {
                    room?.write(text);
                }
            }
        }
    }
    Ok(End::Done)
}

/// What is shown, and how much of it already.
struct Show {
    format: EventFormat,
    filter: Filter,
    words: Words,
    begun: bool,
    limit: u64,
    shown: u64,
}

impl Show {
    fn new(arguments: &TraceArguments, target: &Target, began: u64) -> Self {
        let (owners, vms, names) = Default::default();
        Self {
            format: arguments.format,
            filter: printer::filter(&arguments.filter),
            words: Words { vendor: target.vendor, slots: target.msrs(), began, owners, vms, names },
            begun: false,
            limit: arguments.limit.unwrap_or(u64::MAX),
            shown: 0,
        }
    }

    fn done(&self) -> bool {
        self.shown >= self.limit
    }

    /// Takes what has come, as much as makes a piece; says whether there may be more. vCPUs that are not known yet are looked up
    /// once, as long as something is measured.
    fn take(&mut self, ring: &mut RingBuf<MapData>, measurement: Option<&mut Measurement>) -> anyhow::Result<(String, bool)> {
        let mut lines = String::new();
        if !std::mem::replace(&mut self.begun, true) && self.format == EventFormat::Text {
            lines += text::HEADINGS;
        }
        let (mut unknown, mut events) = (measurement, 0);
        while !self.done() {
            if lines.len() >= PIECE.0 || events >= PIECE.1 {
                return Ok((lines, true));
            }
            events += 1;
            let Some(bytes) = ring.next() else { break };
            let Some(event) = read(&bytes) else { continue };
            if event.owner != NOBODY
                && self.words.whose(&event).is_none()
                && let Some(measurement) = unknown.take()
            {
                self.learn(measurement)?;
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
        Ok((lines, false))
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

    /// The last line.
    fn end(&self, lost: u64) -> String {
        if lost > 0 {
            let lost = counted(lost, "event");
            notice(format_args!(
                "shared-msr: LOST: {lost} found no room, so the trace has gaps; filter less, or write to a file"
            ));
        }
        match self.format {
            EventFormat::Text => {
                let lost = if lost == 0 { "none lost".to_owned() } else { format!("{lost} LOST") };
                format!("{} shown, {lost}\n", counted(self.shown, "event"))
            }
            EventFormat::Jsonl => json::end(self.shown, lost),
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
