//! `shared-msr inspect`

use std::{
    borrow::Cow,
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};

use crate::{
    cli::{InspectArguments, TableFormat},
    kernel::{affinity, structure::Structure, tables::Slot},
    probe::target::{Tables, Target},
    report::columns::{self, Style},
};

/// Prints the list of MSRs, and each CPU's values.
pub(super) fn run(arguments: &InspectArguments) -> anyhow::Result<ExitCode> {
    let target = Target::find()?;
    let tables = target.tables()?;
    let here = stay()?;
    let mut cpus = Vec::new();
    let wanted = arguments.cpu.as_ref().map_or(&target.host.online_cpus, |list| &list.0);
    for cpu in wanted {
        let position = target.host.possible_cpus.iter().position(|possible| possible == cpu);
        let position = position.ok_or_else(|| anyhow!("this host has no CPU {cpu}; see /sys/devices/system/cpu/possible"))?;
        cpus.push((*cpu, tables.read_structure(tables.structures[position])?));
    }
    let text = match arguments.format {
        TableFormat::Table => table(&tables.list, &cpus, here),
        TableFormat::Json => serde_json::to_string(&document(&target, tables, &cpus, here)).context("cannot write JSON")? + "\n",
    };
    io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

/// Keeps this thread on the CPU it is on, so that it can be named; says which.
fn stay() -> anyhow::Result<u32> {
    let cpu = affinity::current().context("cannot tell the CPU this runs on")?;
    affinity::pin(cpu).context("cannot stay on one CPU")?;
    Ok(cpu as u32)
}

fn table(list: &[Slot], cpus: &[(u32, Structure)], here: u32) -> String {
    let mut text = format!("KVM's list of user-return MSRs: {} of 16 slots used\n\n", list.len());
    let mut slots = columns::table(&["SLOT", "INDEX", "MSR"], 3, Style::Plain);
    for slot in list {
        slots.add_row([slot.slot.to_string(), format!("{:#x}", slot.index), slot.name.clone()]);
    }
    text += &columns::text(&slots);
    text += "\n";
    let mut values = columns::table(&["CPU", "REGISTERED", "MSR", "STATE", "HOST", "CURR"], 4, Style::Plain);
    for (cpu, structure) in cpus {
        for slot in list {
            let value = structure.values[slot.slot];
            values.add_row([
                cpu.to_string(),
                if structure.registered == 1 { "yes" } else { "no" }.to_owned(),
                slot.name.clone(),
                if value.host == value.curr { "clean" } else { "dirty" }.to_owned(),
                format!("{:#x}", value.host),
                format!("{:#x}", value.curr),
            ]);
        }
    }
    text += &columns::text(&values);
    if cpus.iter().any(|(cpu, _)| *cpu == here) {
        text += &format!("\n{}\n", own_cpu(here));
    }
    text
}

/// Why the CPU that looks cannot be seen inside a window.
fn own_cpu(here: u32) -> String {
    format!(
        "CPU {here} is the one that shared-msr itself runs on: it can never be seen inside a window, because its own return \
         to user mode closes any window there (inspect it from another CPU: taskset -c N shared-msr inspect)."
    )
}

/// The shape of the kernel's tables for programs.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Document<'a> {
    /// Version of the shape.
    pub schema: u32,
    /// The kernel's release.
    pub kernel: Cow<'a, str>,
    /// KVM's list.
    pub slots: Cow<'a, [Slot]>,
    /// The CPU that looked.
    pub own_cpu: u32,
    /// Why that one cannot be seen inside a window.
    pub own_cpu_note: String,
    /// The CPUs that were asked for.
    pub cpus: Vec<CpuPart<'a>>,
}

/// The structure of a CPU.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CpuPart<'a> {
    /// Its number.
    pub cpu: u32,
    /// Whether KVM's notifier is registered.
    pub registered: bool,
    /// Of each slot of the list.
    pub values: Vec<ValuePart<'a>>,
}

/// The two values of a slot on a CPU.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ValuePart<'a> {
    /// Its number.
    pub slot: usize,
    /// Its MSR.
    pub name: Cow<'a, str>,
    /// The host's value.
    pub host: u64,
    /// The value in the hardware.
    pub curr: u64,
    /// Whether the two differ.
    pub dirty: bool,
}

fn document<'a>(target: &'a Target, tables: &'a Tables, cpus: &[(u32, Structure)], here: u32) -> Document<'a> {
    let value = |structure: &Structure, slot: &'a Slot| {
        let value = structure.values[slot.slot];
        ValuePart {
            slot: slot.slot,
            name: Cow::Borrowed(&slot.name),
            host: value.host,
            curr: value.curr,
            dirty: value.host != value.curr,
        }
    };
    let part = |(cpu, structure): &(u32, Structure)| CpuPart {
        cpu: *cpu,
        registered: structure.registered == 1,
        values: tables.list.iter().map(|slot| value(structure, slot)).collect(),
    };
    Document {
        schema: 1,
        kernel: Cow::Borrowed(&target.host.kernel),
        slots: Cow::Borrowed(&tables.list),
        own_cpu: here,
        own_cpu_note: own_cpu(here),
        cpus: cpus.iter().map(part).collect(),
    }
}
