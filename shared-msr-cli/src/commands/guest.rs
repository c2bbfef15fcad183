//! `shared-msr guest`

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;

use crate::{
    cli::{GuestArguments, TextFormat},
    guest::{self, GuestOptions, Spin},
};

/// Runs the guest and prints what it did.
pub(super) fn run(arguments: &GuestArguments) -> anyhow::Result<ExitCode> {
    let outcome = guest::run(&options(arguments))?;
    let text = match arguments.format {
        TextFormat::Text => outcome.text(),
        TextFormat::Json => serde_json::to_string(&outcome).context("cannot write JSON")?,
    };
    io::stdout().write_all(format!("{}\n", text.trim_end()).as_bytes()).context("cannot write to standard output")?;
    Ok(if outcome.complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn options(arguments: &GuestArguments) -> GuestOptions {
    let default = GuestOptions::default();
    let (outs, cpuids) = if arguments.spin { (0, 0) } else { (default.outs, default.cpuids) };
    let cpuids = arguments.cpuids.unwrap_or(cpuids);
    GuestOptions {
        outs: arguments.outs.unwrap_or(outs),
        cpuids,
        hlts: arguments.hlts,
        mmios: arguments.mmios,
        interrupts: arguments.interrupts,
        shutdown: arguments.shutdown,
        tsc_aux: arguments.tsc_aux,
        cpu: arguments.cpu,
        spin: arguments.spin.then_some(if cpuids == 0 { Spin::Quiet } else { Spin::Cpuid }),
        duration: arguments.duration,
    }
}
