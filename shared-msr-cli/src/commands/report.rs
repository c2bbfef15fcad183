//! `shared-msr report`

use std::{
    future::pending,
    process::{ExitCode, ExitStatus},
};

use anyhow::Context as _;
use tokio::process::Child;

use super::{
    child,
    clock::{after, every, sleep_until, tick},
    output::Output,
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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(measure(arguments, verbose))
}

async fn measure(arguments: &ReportArguments, verbose: bool) -> anyhow::Result<ExitCode> {
    let target = Target::find()?;
    let output = Output::open(arguments.output.as_deref())?;
    let keeps_output = output.is_file();
    // From here on Ctrl-C ends the measurement, not the program.
    let mut signals = Signals::listen()?;
    let mut measurement = Measurement::start(&target, options(arguments))?;
    describe(&measurement.probes, &target, verbose);
    let hooks = (measurement.probes.hooks.clone(), measurement.probes.refused.clone());
    let mut printer = Printer::new(arguments, &target, hooks, output);
    let mut command = match arguments.command.as_slice() {
        [] => None,
        command => Some(child::start(command, keeps_output)?),
    };
    if command.is_none() && arguments.duration.is_none() {
        notice(format_args!("shared-msr: measuring until Ctrl-C"));
    }
    let end = watch(arguments, &target, &mut measurement, &mut printer, (&mut signals, command.as_mut())).await;
    let snapshot = measurement.finish(&target);
    if let Some(log) = &mut measurement.probes.kernel_log {
        log.flush();
    }
    // Nothing stays attached while we wait for the command, or for whoever reads what we print.
    drop(measurement);
    let (end, printed) = match end {
        Ok(end) => (end, Ok(())),
        // The command is still to be ended, and what was measured to be printed.
        Err(error) => (End::Signal(libc::SIGTERM), Err(error)),
    };
    let last = snapshot.map_err(anyhow::Error::from);
    let last = last.and_then(|snapshot| printer.last(&Ledger::settle(&snapshot, &target.msrs())));
    let shown = printed.and(last);
    // Only now, so that an error above does not leave the command behind without its status.
    let status = match (command, end) {
        (_, End::Command(status)) => Some(status),
        (Some(command), End::Signal(signal)) => Some(child::end(command, signal, &mut signals).await?),
        _ => None,
    };
    let status = status.map_or(0, child::status_to_pass_on);
    if status == 0 {
        shown?;
    } else if let Err(error) = shown {
        notice(format_args!("shared-msr: {error:#}"));
    }
    Ok(ExitCode::from(status))
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
    printer: &mut Printer<'_>,
    (signals, mut command): (&mut Signals, Option<&mut Child>),
) -> anyhow::Result<End> {
    let end = after(arguments.duration);
    let mut tidy = every(Some(TIDY_EVERY));
    let mut interval = every(arguments.interval);
    loop {
        tokio::select! {
            signal = signals.any() => return Ok(End::Signal(signal)),
            () = sleep_until(end) => return Ok(End::Time),
            status = child::wait(command.as_deref_mut()) => return Ok(End::Command(status?)),
            () = pump(measurement.probes.kernel_log.as_mut()) => {}
            () = tick(&mut tidy) => measurement.tidy(target)?,
            () = tick(&mut interval) => {
                let snapshot = measurement.look(target)?;
                printer.interval(&Ledger::settle(&snapshot, &target.msrs()))?;
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

/// Why a measurement ends.
enum End {
    Time,
    Command(ExitStatus),
    Signal(libc::c_int),
}

/// Shows the kernel side's messages; never ends, so that a broken log does not end a measurement.
async fn pump(log: Option<&mut KernelLog>) {
    if let Some(log) = log {
        log.pump().await;
    }
    pending::<()>().await;
}
