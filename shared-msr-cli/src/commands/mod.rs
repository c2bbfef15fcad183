//! The commands: each puts the layers together for one purpose.

mod child;
mod clock;
mod doctor;
mod end;
mod guest;
pub mod inspect;
mod output;
mod printer;
mod report;
mod signals;
mod top;
mod trace;

use std::process::ExitCode;

use crate::cli::{Cli, Command};

/// Runs a command and says with which status to exit: 0 done, 1 failed; `report -- COMMAND` exits with COMMAND's.
pub fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    match &cli.command {
        Command::Report(arguments) => report::run(arguments, cli.verbose),
        Command::Top(arguments) => top::run(arguments),
        Command::Trace(arguments) => trace::run(arguments, cli.verbose),
        Command::Inspect(arguments) => inspect::run(arguments),
        Command::Doctor(arguments) => doctor::run(arguments),
        Command::Guest(arguments) => guest::run(arguments),
    }
}
