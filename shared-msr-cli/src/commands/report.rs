//! `shared-msr report`

use std::{
    fs,
    future::pending,
    io::{self, Write as _},
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use tokio::{
    process::Child,
    signal::unix::{Signal, SignalKind, signal},
};

use super::child;
use crate::{
    cli::{By, ReportArguments, TableFormat},
    ledger::Ledger,
    probe::{kernel_log::KernelLog, probes::Probes, survey::Target},
    report::{Report, json, table},
    sample::Snapshot,
};

/// Measures and prints.
pub(super) fn run(arguments: &ReportArguments) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(measure(arguments))
}

async fn measure(arguments: &ReportArguments) -> anyhow::Result<ExitCode> {
    let target = Target::find()?;
    if let Some(why) = &target.layout.without_btf {
        eprintln!("shared-msr: the layout of KVM's structures is the documented one, checked on this host, because {why}");
    }
    // From here on Ctrl-C ends the measurement, not the program.
    let mut signals = Signals::listen()?;
    let mut probes = Probes::attach(&target, arguments.kernel_log)?;
    let mut command = match arguments.command.as_slice() {
        [] => None,
        command => Some(child::start(command, arguments.output.is_some())?),
    };
    if command.is_none() && arguments.duration.is_none() {
        eprintln!("shared-msr: measuring until Ctrl-C");
    }
    let mut status = tokio::select! {
        () = signals.any() => None,
        () = sleep(arguments.duration) => None,
        status = wait(command.as_mut()) => Some(status?),
        () = pump(probes.kernel_log.as_mut()) => None,
    };
    let snapshot = Snapshot::take(&probes, &target)?;
    if let Some(log) = &mut probes.kernel_log {
        log.flush();
    }
    let hooks = probes.hooks.clone();
    // Nothing stays attached while we wait for the command, or for whoever reads what we print.
    drop(probes);
    if let (Some(command), None) = (&mut command, status) {
        status = Some(child::end(command).await?);
    }

    let ledger = Ledger::settle(&snapshot, &target.list);
    let report = Report { host: &target.host, vendor: target.vendor, hooks: &hooks, ledger: &ledger };
    let text = match arguments.format {
        TableFormat::Table => table::render(&report, arguments.by == By::Msr),
        TableFormat::Json => json::render(&report).context("cannot write JSON")?,
    };
    write(arguments, &text)?;
    let status = status.map_or(0, child::status_to_pass_on);
    if status == 0 && !ledger.reconciled() {
        return Err(anyhow!("the books do not reconcile: {}; please report this", ledger.violations.join("; ")));
    }
    Ok(ExitCode::from(status))
}

fn write(arguments: &ReportArguments, text: &str) -> anyhow::Result<()> {
    let Some(file) = &arguments.output else {
        let written = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush());
        return written.context("cannot write to standard output");
    };
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// SIGINT and SIGTERM.
struct Signals(Signal, Signal);

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Self(listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?))
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
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
