//! The command line.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    duration::positive_duration,
    guest::TscAux,
    kernel::cpu_list,
    probe::{ladder::ProbeChoice, probes::MAX_VCPUS},
    report::{
        by::{By, Column, Sort},
        filter::MsrWish,
    },
};

/// Shows which restores of host MSR values KVM put off, and which it really performed.
///
/// After a VM-exit KVM leaves the guest's values of some MSRs in the CPU, and puts the host's back only when the CPU
/// returns to user mode. An exit that the kernel handles itself costs no restore; an exit that ends in the VMM (QEMU, say),
/// or another task that runs in between, costs one WRMSR for each MSR that differs.
#[derive(Debug, Parser)]
#[command(name = "shared-msr", version, max_term_width = 110)]
pub struct Cli {
    /// Say on standard error which hooks could not be had, and why
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure for a while, or while a command runs, then print once
    Report(ReportArguments),
    /// Watch it live, full-screen
    Top(TopArguments),
    /// Show single events: sets, exits, closes with their causes and payers
    Trace(TraceArguments),
    /// Print the kernel's own tables: the list of MSRs, and each CPU's host and current values
    Inspect(InspectArguments),
    /// Say what this host allows, which hooks will be used, and what to change
    Doctor(DoctorArguments),
    /// Run a tiny guest that makes a known number of exits, as a known load
    Guest(GuestArguments),
}

/// Formats of `report`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people
    #[default]
    Table,
    /// One JSON object on one line; with --interval, one for each interval
    Json,
    /// One JSON object on a line for each row of --by
    Jsonl,
    /// Comma-separated values, a line for each row of --by
    Csv,
    /// The table in Markdown
    Markdown,
}

/// Formats of `inspect`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TableFormat {
    /// For people
    #[default]
    Table,
    /// One JSON object on one line
    Json,
}

/// Formats of `guest`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TextFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object on one line
    Json,
}

/// Which rows are shown.
#[derive(Args, Clone, Debug, Default)]
pub struct FilterArguments {
    /// Only these VMs, by the VMM's process or by name
    #[arg(long, value_name = "PID|NAME", value_delimiter = ',')]
    pub vm: Vec<String>,
    /// Only these vCPUs, by KVM's numbers, such as 0-3
    #[arg(long, value_name = "LIST", value_parser = cpus)]
    pub vcpu: Option<CpuList>,
    /// Only these CPUs of the host, such as 0-3,8
    #[arg(long, value_name = "LIST", value_parser = cpus)]
    pub cpu: Option<CpuList>,
    /// Only these MSRs, such as TSC_AUX or 0xc0000103
    #[arg(long, value_name = "NAME|INDEX", value_delimiter = ',', value_parser = msr_wish)]
    pub msr: Vec<MsrWish>,
}

/// `shared-msr report`
#[derive(Args, Debug)]
pub struct ReportArguments {
    /// How long to measure, such as 500ms, 10s or 2min; without it, and without COMMAND, until Ctrl-C
    #[arg(long, value_name = "TIME", value_parser = positive_duration, conflicts_with = "command")]
    pub duration: Option<Duration>,
    /// The rows: any of these, or several with commas between
    #[arg(long, value_enum, default_value = "msr", value_delimiter = ',')]
    pub by: Vec<By>,
    /// Sort by this column, numbers with the largest first, or by one of --by
    #[arg(long, value_name = "COLUMN", value_parser = sort)]
    pub sort: Option<Sort>,
    /// At most so many rows; the others are summed in one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub top: Option<u32>,
    /// Which rows.
    #[command(flatten)]
    pub filter: FilterArguments,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub format: ReportFormat,
    /// Print what happened since the time before, again and again after this time, such as 1s
    #[arg(long, short, value_name = "TIME", value_parser = positive_duration)]
    pub interval: Option<Duration>,
    /// Time each restore, from the entry to the return of kvm_on_user_return. Costs a little on each
    #[arg(long)]
    pub timing: bool,
    /// How many vCPUs can be told apart at once, each with a thread that runs it; what does not fit is counted as unattributed
    #[arg(long, value_name = "N", default_value_t = MAX_VCPUS, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_vcpus: u32,
    /// Write the report to this file; COMMAND then keeps its standard output. What is there is replaced once there is a report
    /// (with --interval, its first part). Symbolic links are followed, but none in a folder that everybody may write to
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Observe sets and closes by this kind of hook, and fail if it is not to be had
    #[arg(long, value_enum, default_value = "auto")]
    pub probe: ProbeChoice,
    /// Count WRMSRs by the kernel's own tracepoint as well, and fail if any number differs. Costs a little on every WRMSR of
    /// the host
    #[arg(long)]
    pub verify: bool,
    /// Show messages of the kernel-side programs on standard error: a dirty set read anew, an implausible structure
    #[arg(long)]
    pub kernel_log: bool,
    /// Measure while this command runs, and exit with its status; its standard output goes to standard error, so that
    /// standard output carries the report alone. Ctrl-C or SIGTERM ends the measurement, prints the report, is handed on to
    /// the command, and its end is waited for; a second one sends it SIGTERM, a third one leaves it. When the measurement
    /// fails, or nobody reads the report any more, the command goes on and is waited for; the status is then its own, or 1
    /// where that is 0
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// `shared-msr top`
#[derive(Args, Debug)]
pub struct TopArguments {
    /// How far looks are apart, from 100ms to 1h; + and - change it
    #[arg(long, short = 's', value_name = "TIME", default_value = "1s", value_parser = positive_duration)]
    pub interval: Duration,
    /// Count exits by reason, for the view of exits. Costs more on every exit: its reason has to be read
    #[arg(long)]
    pub by_reason: bool,
    /// Time each restore, from the entry to the return of kvm_on_user_return. Costs a little on each
    #[arg(long)]
    pub timing: bool,
    /// Show only the VMs whose name this regular expression finds, or the VM of this process; f changes it
    #[arg(long, short = 'f', value_name = "REGEX|PID")]
    pub filter: Option<String>,
    /// Draw with ASCII only
    #[arg(long)]
    pub ascii: bool,
    /// Where e writes its files
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    pub export_dir: PathBuf,
    /// How many vCPUs can be told apart at once, each with a thread that runs it; what does not fit is counted as unattributed
    #[arg(long, value_name = "N", default_value_t = MAX_VCPUS, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_vcpus: u32,
    /// Observe sets and closes by this kind of hook, and fail if it is not to be had
    #[arg(long, value_enum, default_value = "auto")]
    pub probe: ProbeChoice,
}

/// Formats of `trace`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum EventFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object on each line
    Jsonl,
}

/// `shared-msr trace`
#[derive(Args, Debug)]
pub struct TraceArguments {
    /// How long to trace, such as 500ms or 10s; without it, and without COMMAND, until Ctrl-C
    #[arg(long, value_name = "TIME", value_parser = positive_duration, conflicts_with = "command")]
    pub duration: Option<Duration>,
    /// End after so many events; COMMAND is then sent SIGTERM
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Which events.
    #[command(flatten)]
    pub filter: FilterArguments,
    /// How to print
    #[arg(long, value_enum, default_value = "text")]
    pub format: EventFormat,
    /// Write the events to this file; COMMAND then keeps its standard output. What is there is replaced once there are events
    /// to write. Symbolic links are followed, but none in a folder that everybody may write to
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Observe sets and closes by this kind of hook, and fail if it is not to be had
    #[arg(long, value_enum, default_value = "auto")]
    pub probe: ProbeChoice,
    /// Trace while this command runs, and exit with its status; its standard output goes to standard error. Signals, errors
    /// and a reader that leaves are as with `report`
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// `shared-msr inspect`
#[derive(Args, Debug)]
pub struct InspectArguments {
    /// Only these CPUs, such as 0-3,8
    #[arg(long, value_name = "LIST", value_parser = cpus)]
    pub cpu: Option<CpuList>,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub format: TableFormat,
}

/// `shared-msr doctor`
#[derive(Args, Debug)]
pub struct DoctorArguments {
    /// Try only this kind of hook for sets and closes
    #[arg(long, value_enum, default_value = "auto")]
    pub probe: ProbeChoice,
}

/// A list of CPUs from the command line.
#[derive(Clone, Debug)]
pub struct CpuList(pub Vec<u32>);

/// `shared-msr guest`
#[derive(Args, Debug)]
pub struct GuestArguments {
    /// Exits to user space by OUT [default: 200, or 0 with --spin]
    #[arg(long, value_name = "N")]
    pub outs: Option<u64>,
    /// Exits that the kernel handles itself, by CPUID, before each OUT; with --spin, any number but 0 means: without end
    /// [default: 10, or 0 with --spin]
    #[arg(long, value_name = "N")]
    pub cpuids: Option<u64>,
    /// Exits to user space by HLT, after the OUTs
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub hlts: u64,
    /// Exits to user space by writing to memory that is not there, after the HLTs
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub mmios: u64,
    /// KVM_RUN calls that a signal ends before the guest is entered, after all exits above
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "spin")]
    pub interrupts: u64,
    /// End the guest by a triple fault, after all else
    #[arg(long, conflicts_with = "spin")]
    pub shutdown: bool,
    /// The guest's TSC_AUX, a number or "host" for the host's own value [default: untouched, 0]
    #[arg(long, value_name = "VALUE")]
    pub tsc_aux: Option<TscAux>,
    /// Pin the vCPU to this CPU
    #[arg(long, value_name = "N")]
    pub cpu: Option<usize>,
    /// Then spin in guest mode until Ctrl-C, SIGTERM or --duration
    #[arg(long)]
    pub spin: bool,
    /// End after this time, such as 500ms or 10s
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    pub duration: Option<Duration>,
    /// How to print what it did
    #[arg(long, value_enum, default_value = "text")]
    pub format: TextFormat,
}

/// clap's message about wrong usage, in one sentence.
pub fn sentence(message: &str) -> String {
    let substance =
        message.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let words: Vec<&str> = substance.filter(|line| !line.is_empty()).collect();
    let text = words.join(" ");
    format!("{}; see `shared-msr --help`", text.strip_prefix("error: ").unwrap_or(&text))
}

fn sort(text: &str) -> Result<Sort, String> {
    let by = By::from_str(text, true).ok().filter(|by| *by != By::Total).map(Sort::By);
    let column = || Column::from_str(text, true).ok().map(Sort::Column);
    by.or_else(column).ok_or_else(|| {
        let columns = Column::value_variants().iter().map(|column| column.names().0).collect::<Vec<_>>().join(", ");
        format!("it must be one of {columns}, or one of --by")
    })
}

fn msr_wish(text: &str) -> Result<MsrWish, String> {
    let index = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16).map(Some).map_err(|_| ()),
        None if text.starts_with(|first: char| first.is_ascii_digit()) => text.parse().map(Some).map_err(|_| ()),
        None => Ok(None),
    };
    match index {
        Ok(Some(index)) => Ok(MsrWish::Index(index)),
        Ok(None) if !text.is_empty() => Ok(MsrWish::Name(text.to_owned())),
        _ => Err("it must be an MSR's name such as TSC_AUX, or its number such as 0xc0000103".to_owned()),
    }
}

fn cpus(text: &str) -> Result<CpuList, String> {
    match cpu_list::parse(text) {
        Some(cpus) if !cpus.is_empty() => Ok(CpuList(cpus)),
        _ => Err("it must be a list of CPUs such as 0-3,8".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_usage_is_told_in_one_sentence() {
        for (arguments, substance) in [
            (&["shared-msr", "frob"][..], "unrecognized subcommand 'frob'"),
            (&["shared-msr", "report", "--duration", "0"], "it must be longer than 0"),
            (&["shared-msr", "guest", "--tsc-aux"], "a value is required for '--tsc-aux <VALUE>'"),
        ] {
            let sentence = sentence(&Cli::try_parse_from(arguments).unwrap_err().to_string());
            assert!(sentence.contains(substance) && sentence.lines().count() == 1, "{sentence}");
        }
    }
}
