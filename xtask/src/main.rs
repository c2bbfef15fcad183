//! Everything a developer of shared-msr runs that is not the product itself: `cargo xtask --help`.

use std::process::ExitCode;

mod cli;
mod demo;
mod ebpf;
mod lab;
mod process;
mod product;
mod save_data;
mod scratch;
mod setup;
mod smoke;
mod test;
mod workspace;

fn main() -> ExitCode {
    match cli::run() {
        Ok(code) => code,
        Err(error) => {
            // `:#` puts the whole chain of causes on one line, outermost first.
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
