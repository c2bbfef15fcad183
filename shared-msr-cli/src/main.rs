//! The program `shared-msr`.

use std::process::ExitCode;

use clap::Parser as _;
use shared_msr::{cli::Cli, commands};

fn main() -> ExitCode {
    match commands::run(Cli::parse().command) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("shared-msr: {error:#}");
            ExitCode::FAILURE
        }
    }
}
