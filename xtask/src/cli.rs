//! The command line of `cargo xtask`.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Error, Result};
use clap::{Args, Parser, Subcommand};

use crate::lab::{self, AccelChoice, CpuModel, Host, KernelChoice, LabFile, LabOptions, Machine, Vmm, Wanted};
use crate::{demo, ebpf, save_data, setup, smoke, test};

/// Developer commands of shared-msr.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// One variant per command.
#[derive(Debug, Subcommand)]
enum Command {
    /// Install what the build and the lab need.
    Setup,
    /// Lint the kernel-side programs and compile their object, without the rest.
    Ebpf,
    /// Set up, build, and show a real report of a real guest on an emulated KVM host.
    Demo,
    /// Set up, then run all checks: formatting, lints, unit and CLI tests, smoke tests in the lab.
    Test,
    /// Run the smoke tests in the lab alone.
    Smoke(smoke::Selection),
    /// Write anew what tests read of real kernels and hosts: runs the lab for each.
    SaveData(save_data::Selection),
    /// Run a command on a KVM host that is emulated, or nested in this machine's own KVM.
    ///
    /// The command's standard output and standard error become ours and its exit status becomes ours.
    /// 124: it did not end in time. 125: the lab itself failed, or its host did.
    Lab(LabArgs),
    /// The kernels of the lab, which `xtask/kernels.lock` pins.
    #[command(subcommand)]
    Kernels(KernelsCommand),
}

/// What can be done about the kernels.
#[derive(Debug, Subcommand)]
enum KernelsCommand {
    /// Pin the newest kernel of each series that Debian's mirrors have.
    ///
    /// It writes xtask/kernels.lock anew, which is then to be committed.
    Update {
        /// Only these series, such as 6.12; one that is not pinned yet is added.
        series: Vec<String>,
    },
}

/// Arguments of `cargo xtask lab`.
#[derive(Debug, Args)]
struct LabArgs {
    /// Whose CPU the host has; where nothing is said, this machine's under KVM, and AMD's where it is emulated.
    #[arg(long, value_enum)]
    host: Option<Host>,

    /// What the host runs on. `auto` says on standard error what it took and why.
    #[arg(long, value_enum, default_value_t = AccelChoice::Auto)]
    accel: AccelChoice,

    /// The series of a Debian kernel that is pinned, such as 6.12 or 6.1, or a folder with a kernel of your own and its KVM modules.
    #[arg(long, value_name = "SERIES|DIR", default_value = lab::DEFAULT_KERNEL)]
    kernel: KernelChoice,

    /// The CPU to emulate, as QEMU (amd) or Bochs (intel) calls it, such as EPYC or corei7_haswell_4770, which are used if none
    /// is named. Not under KVM.
    #[arg(long, value_name = "MODEL")]
    cpu_model: Option<CpuModel>,

    /// CPUs of the host.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    smp: u32,

    /// Give up after this many seconds; 120 with --host amd and 300 with --host intel if nothing is said.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout: Option<u64>,

    /// One virtual nanosecond per instruction: times become exact instruction counts. Not with --host intel, nor under
    /// KVM.
    #[arg(long)]
    icount: bool,

    /// Words to end the kernel's command line with, such as `preempt=full`.
    #[arg(long, value_name = "WORDS", default_value = "")]
    kernel_arguments: String,

    /// Put a file of this machine into the lab; a DEST without a slash goes to /bin.
    #[arg(long = "file", value_name = "SRC:DEST")]
    files: Vec<LabFile>,

    /// Put a real VMM into the lab too, with the tests' own guest for it as /boot/known-exits: `xtask/guest/main.rs` says what
    /// it does and how it is started.
    #[arg(long, value_enum)]
    vmm: Option<Vmm>,

    /// Leave KVM's modules unloaded; `load-kvm` loads them.
    #[arg(long)]
    no_modules: bool,

    /// What to run, exactly these arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl LabArgs {
    /// The run that is asked for, on this machine, and what to say of the choice of its host.
    fn options(self, machine: &Machine) -> Result<(LabOptions, Option<String>)> {
        let wanted = Wanted { accel: self.accel, host: self.host, icount: self.icount, cpu_model: self.cpu_model.is_some() };
        let taken = lab::choose(&wanted, machine).map_err(Error::msg)?;
        let options = LabOptions {
            host: taken.host,
            accel: taken.accel,
            kernel: self.kernel,
            cpu_model: self.cpu_model,
            smp: self.smp,
            timeout: self.timeout.map_or(taken.host.usual_timeout(), Duration::from_secs),
            icount: self.icount,
            kernel_arguments: self.kernel_arguments,
            files: self.files,
            vmm: self.vmm,
            load_modules: !self.no_modules,
            ..LabOptions::new(self.command)
        };
        Ok((options, taken.why))
    }

    /// Runs it, and returns the exit status for us to end with.
    fn run(self) -> Result<u8> {
        let (options, why) = self.options(&Machine::this())?;
        if let Some(why) = why {
            eprintln!("xtask: {why}");
        }
        lab::stream(&options)
    }
}

/// Does what the command line says.
pub(crate) fn run() -> Result<ExitCode> {
    match Cli::parse().command {
        Command::Setup => setup::run(),
        Command::Ebpf => ebpf::run().map(|()| ExitCode::SUCCESS),
        Command::Demo => demo::run(),
        Command::Test => test::run(),
        Command::Smoke(selection) => Ok(test::smoke(&selection)),
        Command::SaveData(selection) => save_data::run_all(&selection),
        Command::Kernels(KernelsCommand::Update { series }) => lab::update_kernels(&series).map(|()| ExitCode::SUCCESS),
        Command::Lab(args) => Ok(ExitCode::from(lab::or_say_why(args.run()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_follows_the_dashes_reaches_the_lab_unsplit() {
        let cli = Cli::try_parse_from(["xtask", "lab", "--smp", "2", "--", "sh", "-c", "a b; --smp"]).unwrap();
        let Command::Lab(args) = cli.command else { panic!("not the lab") };
        let (options, _) = args.options(&Machine::this()).unwrap();
        assert_eq!(options.command, ["sh", "-c", "a b; --smp"]);
        assert_eq!(options.smp, 2);
        assert!(options.load_modules);
    }
}
