//! The program `shared-msr`.

use std::process::ExitCode;

use clap::{Parser as _, error::ErrorKind};
use shared_msr::{
    cli::{self, Cli},
    commands,
    notice::notice,
};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    match commands::run(&cli) {
        Ok(status) => status,
        Err(error) => {
            notice(format_args!("shared-msr: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Help and version are what was asked for; anything else is wrong usage, in one sentence.
fn refuse(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
        _ => {
            notice(format_args!("shared-msr: {}", cli::sentence(&error.to_string())));
            ExitCode::from(2)
        }
    }
}
