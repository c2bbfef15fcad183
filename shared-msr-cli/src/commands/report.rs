//! `shared-msr report`

use std::{future::pending, process::ExitCode};

use tokio::process::Child;

use super::{
    child,
    clock::{after, every, sleep_until, tick},
    end::{self, End},
    output::{Destination, Otherwise, Output},
    printer::Printer,
    signals::Signals,
};
use crate::{
    cli::ReportArguments,
    ledger::Ledger,
    notice::notice,
    probe::{
        kernel_log::KernelLog,
        probes::{Options, Probes, Sight},
        target::Target,
    },
    report::by::By,
    sample::measurement::{Measurement, TIDY_EVERY},
};

/// Measures and prints.
pub(super) fn run(arguments: &ReportArguments, verbose: bool) -> anyhow::Result<ExitCode> {
    let target = Target::find()?;
    // A FIFO without a reader waits here, before anything is attached, and any signal still ends the program.
    let to = Destination::open(arguments.output.as_deref())?;
    let status = end::guarded(async |signals| measure(arguments, verbose, (&target, to), signals).await)?;
    Ok(ExitCode::from(status))
}

async fn measure(
    arguments: &ReportArguments,
    verbose: bool,
    (target, to): (&Target, Destination),
    signals: &mut Signals,
) -> anyhow::Result<u8> {
    let keeps_output = to.is_file();
    let output = Output::start(to, Otherwise::StandardError)?;
    let mut measurement = Measurement::start(target, options(arguments))?;
    describe(&measurement.probes, target, verbose);
    let hooks = (measurement.probes.hooks.clone(), measurement.probes.refused.clone());
    let mut printer = Printer::new(arguments, target, hooks);
    let mut command = match arguments.command.as_slice() {
        [] => None,
        command => Some(child::start(command, keeps_output)?),
    };
    if command.is_none() && arguments.duration.is_none() {
        notice(format_args!("shared-msr: measuring until Ctrl-C"));
    }
    let watched = watch(arguments, target, &mut measurement, (&mut printer, &output), (signals, command.as_mut())).await;
    // What was measured is still to be printed, and the command to be waited for.
    let end = watched.unwrap_or_else(End::Failed);
    let snapshot = measurement.finish(target);
    if let Some(log) = &mut measurement.probes.kernel_log {
        log.flush();
    }
    // Nothing stays attached while we wait for the command, or for whoever reads what we print.
    drop(measurement);
    let written = async {
        let (text, reconciled) = printer.last(&Ledger::settle(&snapshot?, &target.msrs()))?;
        output.room().await?.write(text);
        output.end().await?;
        reconciled
    };
    end::wind_up(end, command, written, signals).await
}

fn options(arguments: &ReportArguments) -> Options {
    Options {
        choice: arguments.probe,
        kernel_log: arguments.kernel_log,
        verify: arguments.verify,
        by_reason: arguments.by.contains(&By::Reason),
        by_cpu: arguments.filter.cpu.is_some()
            || (arguments.by.contains(&By::Cpu) && arguments.by.len() > 1)
            || arguments.by == [By::Cpu],
        timing: arguments.timing,
        tracing: false,
        max_vcpus: arguments.max_vcpus,
    }
}

/// Waits for the end of the measurement; meanwhile prints at each interval, and keeps the map of vCPUs tidy.
async fn watch(
    arguments: &ReportArguments,
    target: &Target,
    measurement: &mut Measurement,
    (printer, output): (&mut Printer<'_>, &Output),
    (signals, mut command): (&mut Signals, Option<&mut Child>),
) -> anyhow::Result<End> {
    let end = after(arguments.duration);
    let mut tidy = every(Some(TIDY_EVERY));
    let mut interval = every(arguments.interval);
    // Whether an interval is over that was not printed yet. While there is no room for it nobody looks: it then lasts longer.
    let mut due = false;
    loop {
        tokio::select! {
            signal = signals.any() => return Ok(End::Signal(signal)),
            why = output.failed() => return Ok(End::Failed(why)),
            () = sleep_until(end) => return Ok(End::Done),
            status = child::wait(command.as_deref_mut()) => return Ok(End::Command(status?)),
            () = pump(measurement.probes.kernel_log.as_mut()) => {}
            () = tick(&mut tidy) => measurement.tidy(target)?,
            () = tick(&mut interval) => due = true,
            room = output.room(), if due => {
                let snapshot = measurement.look(target)?;
                room?.write(printer.interval(&Ledger::settle(&snapshot, &target.msrs()))?);
                due = false;
            }
        }
    }
}

/// Says on standard error what the report itself has no room for: hooks that could not be had, if that is asked for; what
/// cannot be told, in any case.
pub(super) fn describe(probes: &Probes, target: &Target, verbose: bool) {
    if verbose {
        for refused in &probes.refused {
            notice(format_args!("shared-msr: {} not by {}: {}", refused.event.name(), refused.hook, refused.why));
        }
    }
    if verbose && let Ok(tables) = &target.tables {
        for refused in &tables.reader.refused {
            notice(format_args!("shared-msr: kernel memory not by {}: {}", refused.name, refused.why));
        }
    }
    if let Ok(tables) = &target.tables
        && let Some(why) = &tables.layout.without_btf
    {
        notice(format_args!(
            "shared-msr: KVM's structures are read by their documented layout, checked on this host, because {why}"
        ));
    }
    if probes.sight == Sight::WritesOnly
        && let Err(why) = &target.tables
    {
        notice(format_args!(
            "shared-msr: no function of KVM can be observed here and its tables cannot be read ({}), so only WRMSRs are counted, \
             by whomever: loads and restores cannot be told apart, deferrals not at all",
            why.problem
        ));
    }
}

/// Shows the kernel side's messages; never ends, so that a broken log does not end a measurement.
async fn pump(log: Option<&mut KernelLog>) {
    if let Some(log) = log {
        log.pump().await;
    }
    pending::<()>().await;
}
