//! The lab: runs a command on an emulated KVM host, so that shared-msr can be tried and tested on any machine.
//!
//! A run has four steps: find or fetch a kernel ([`kernel`]), pack an initramfs with busybox, KVM's modules, shared-msr and
//! the command ([`initramfs`], `lab/init.sh`), start a
//! machine ([`qemu`] or [`bochs`]) on what [`accel`] chose, and copy what the command prints until
//! its exit status arrives ([`watch`]).

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};

mod accel;
mod bochs;
mod initramfs;
mod kernel;
mod log;
mod machine;
mod options;
mod qemu;
mod quote;
mod root;
mod terminal;
#[cfg(test)]
mod tests;
mod vmm;
mod watch;

pub(crate) use accel::{Accel, AccelChoice, Machine, Wanted, choose};
pub(crate) use bochs::files as bochs_files;
pub(crate) use kernel::{KernelChoice, update as update_kernels};
pub(crate) use options::{CpuModel, DEFAULT_KERNEL, Host, LabFile, LabOptions};
pub(crate) use vmm::Vmm;

use crate::{product, scratch, workspace};
use kernel::{Kernel, Module};

/// Exit status of a command that did not end in time, as of timeout(1).
const TIMED_OUT: u8 = 124;
/// Exit status when the lab itself failed.
const LAB_FAILED: u8 = 125;

/// How a command in the lab ended.
#[derive(Debug)]
pub(crate) struct LabRun {
    /// The command's exit status; 124 and 125 come with a `problem`.
    pub(crate) status: u8,
    /// Why there is no exit status of the command: a text for people, perhaps of several lines.
    pub(crate) problem: Option<String>,
    /// The kernel's messages.
    pub(crate) log: PathBuf,
}

/// The command's exit status, or 125 and a sentence when it could not even be started: its own 1 must not mean two things.
pub(crate) fn or_say_why(run: Result<u8>) -> u8 {
    run.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        LAB_FAILED
    })
}

/// Runs the command with its output streamed to ours, and returns the exit status for us to end with.
pub(crate) fn stream(options: &LabOptions) -> Result<u8> {
    let run = run(options, &mut io::stdout(), &mut io::stderr())?;
    if let Some(problem) = run.problem {
        eprintln!("xtask: {problem}\nxtask: all kernel messages are in {}", run.log.display());
    }
    Ok(run.status)
}

/// A module of a kernel, not compressed.
pub(crate) fn module(kernel: &KernelChoice, name: &str) -> Result<Vec<u8>> {
    let modules = Kernel::find(kernel)?.modules(name)?;
    let found = modules.into_iter().find(|module| module.name == name);
    found.map(|module| module.content).with_context(|| format!("the kernel has no module {name}"))
}

/// Runs the command and writes what it prints to `out` and `err` while it runs.
///
/// Must be called by a thread that lives until it returns: the emulator ends with the thread that started it.
pub(crate) fn run(options: &LabOptions, out: &mut dyn Write, err: &mut dyn Write) -> Result<LabRun> {
    let kernel = Kernel::find(&options.kernel)?;
    let mut modules = kernel.modules(options.host.kvm_module())?;
    let in_bochs = (options.host, options.accel) == (Host::Intel, Accel::Emulator);
    if in_bochs {
        // Checking it is half of what loading costs there, 8 of 16 s.
        modules.iter_mut().for_each(Module::drop_signature);
    }
    let shared_msr = options.shared_msr.clone().map_or_else(product::build_static, Ok)?;
    let folder = scratch::folder(&workspace::lab().join("run"))?;
    let initramfs = folder.path().join("initramfs.cpio");
    root::assemble(options, &modules, &shared_msr)?.write(&initramfs)?;
    let log = log::create(options.host, kernel.name())?;
    let start = if in_bochs { bochs::start } else { qemu::start };
    let machine = start(options, kernel.image(), &initramfs, folder.path(), &log)?;
    let mut run = watch::until_end(machine, options.timeout, log, out, err)?;
    if options.accel == Accel::Kvm && run.status == LAB_FAILED {
        let advice = "this host ran under KVM; try --accel tcg, which emulates it";
        run.problem = run.problem.map(|problem| format!("{problem}\nxtask: {advice}"));
    }
    Ok(run)
}
