//! `shared-msr report`

use std::{
    future::pending,
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use tokio::process::Child;

use super::{child, output::Output, signals::Signals};
use crate::{
    cli::{By, ReportArguments, TableFormat},
    ledger::Ledger,
    notice::notice,
    probe::{
        kernel_log::KernelLog,
        probes::{Options, Probes, Sight},
        target::Target,
    },
    report::{Report, json, table},
    sample::Snapshot,
};

/// Measures and prints.
pub(super) fn run(arguments: &ReportArguments, verbose: bool) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(measure(arguments, verbose))
}

async fn measure(arguments: &ReportArguments, verbose: bool) -> anyhow::Result<ExitCode> {
    let target = Target::find()?;
    let mut output = Output::open(arguments.output.as_deref())?;
    // From here on Ctrl-C ends the measurement, not the program.
    let mut signals = Signals::listen()?;
    let options = Options {
        choice: arguments.probe,
        kernel_log: arguments.kernel_log,
        verify: arguments.verify,
        by_reason: arguments.by == By::Reason,
    };
    let mut probes = Probes::attach(&target, options)?;
    describe(&probes, &target, verbose);
    let mut command = match arguments.command.as_slice() {
        [] => None,
        command => Some(child::start(command, output.is_file())?),
    };
    if command.is_none() && arguments.duration.is_none() {
        notice(format_args!("shared-msr: measuring until Ctrl-C"));
    }
    let end = tokio::select! {
        signal = signals.any() => End::Signal(signal),
        () = sleep(arguments.duration) => End::Time,
        status = wait(command.as_mut()) => End::Command(status?),
        () = pump(probes.kernel_log.as_mut()) => End::Time,
    };
    let snapshot = Snapshot::take(&probes, &target);
    if let Some(log) = &mut probes.kernel_log {
        log.flush();
    }
    let (hooks, refused) = (probes.hooks.clone(), probes.refused.clone());
    // Nothing stays attached while we wait for the command, or for whoever reads what we print.
    drop(probes);
    let shown = snapshot.map_err(anyhow::Error::from).and_then(|snapshot| {
        let ledger = Ledger::settle(&snapshot, &target.msrs());
        let list_known = target.tables.is_ok();
        let report =
            Report { host: &target.host, vendor: target.vendor, hooks: &hooks, refused: &refused, list_known, ledger: &ledger };
        output.write(&render(arguments, &report)?)?;
        if ledger.reconciled() { Ok(()) } else { Err(anyhow!("the books do not reconcile, see the report; please report this")) }
    });
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

/// Says on standard error what the report itself has no room for: hooks that could not be had, if that is asked for; what
/// cannot be told, in any case.
fn describe(probes: &Probes, target: &Target, verbose: bool) {
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

fn render(arguments: &ReportArguments, report: &Report<'_>) -> anyhow::Result<String> {
    match arguments.format {
        TableFormat::Table => Ok(table::render(report, arguments.by)),
        TableFormat::Json => json::render(report).context("cannot write JSON"),
    }
}

async fn sleep(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => pending().await,
    }
}

async fn wait(command: Option<&mut Child>) -> anyhow::Result<ExitStatus> {
    match command {
        Some(command) => command.wait().await.context("cannot wait for the command"),
        None => pending().await,
    }
}

/// Shows the kernel side's messages; never ends, so that a broken log does not end a measurement.
async fn pump(log: Option<&mut KernelLog>) {
    if let Some(log) = log {
        log.pump().await;
    }
    pending::<()>().await;
}
