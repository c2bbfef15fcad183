//! The commands: each puts the layers together for one purpose.

mod child;
mod doctor;
mod guest;
mod inspect;
mod output;
mod report;
mod signals;

use std::process::ExitCode;

use crate::cli::Command;

/// Runs a command and says with which status to exit: 0 done, 1 failed; `report -- COMMAND` exits with COMMAND's.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Report(arguments) => report::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Doctor => doctor::run(),
        Command::Guest(arguments) => guest::run(&arguments),
    }
}
