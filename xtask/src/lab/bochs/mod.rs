//! Bochs as the emulated Intel host: a slow interpreter, but one that knows VMX.
//!
//! Its clock counts instructions, and where all CPUs are idle it jumps to the next event: a `sleep` takes no time, and a time
//! that is measured means nothing.
//!
//! Debian's build waits at a debugger's prompt when it starts, and has a network server for a display ([`network`]).

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

pub(crate) mod files;
mod medium;
mod models;
mod network;

use super::LabOptions;
use super::machine::{self, Emulator, Machine};
use super::options::CpuModel;
use super::terminal::Terminal;

const BOCHS: &str = "bochs-bin";

/// The CPU where none is named: one that has all of VMX that KVM uses, and `TSC_AUX`.
const CPU_MODEL: &str = "corei7_haswell_4770";

/// All CPUs share one thread of Bochs: more than these have not been tried, and would take minutes to boot.
const MOST_CPUS: u32 = 2;

/// What the debugger does first: go on.
const DEBUGGER_COMMANDS: &str = "c\n";

/// Kernel messages on the first port; a panic or a restart ends the machine, because a triple fault does.
///
/// The rest is there for speed: Bochs runs some 50 million instructions in a second. Of what is left out (which no other part
/// misses), `jent_mod_init` collects entropy for 3 s, `load_system_certificate_list` reads keys that nobody uses, and
/// `trace_eval_init` makes enums readable in tracefs' `format` files for 2 s.
const KERNEL_COMMAND_LINE: &str = "console=ttyS0,115200 panic=-1 reboot=t quiet loglevel=5 nokaslr mitigations=off nomodeset \
    random.trust_cpu=on cryptomgr.notests audit=0 apparmor=0 \
    initcall_blacklist=jent_mod_init,load_system_certificate_list,trace_eval_init";

const EMULATOR: Emulator = Emulator { name: "Bochs", complaints };

/// Starts a machine with its files in `folder`.
pub(super) fn start(options: &LabOptions, image: &Path, initramfs: &Path, folder: &Path, log: &Path) -> Result<Machine> {
    if options.icount {
        bail!("--icount needs --host amd: Bochs has no virtual clock that counts nothing but instructions");
    }
    if options.smp > MOST_CPUS {
        bail!("--host intel takes at most --smp {MOST_CPUS}: Bochs runs all CPUs in one slow thread");
    }
    if let Some(model) = &options.cpu_model {
        models::check(model)?;
    }
    let command_line = format!("{KERNEL_COMMAND_LINE} {}", options.kernel_arguments);
    medium::make(folder, image, initramfs, command_line.trim_end())?;
    let mut terminals = Vec::new();
    for file in machine::port_files(folder, log)? {
        terminals.push(Terminal::new(&file).context("cannot make a terminal for a serial port")?);
    }
    let ports: Vec<&Path> = terminals.iter().map(Terminal::path).collect();
    let missing = "no BIOS for Bochs on this machine, run `cargo xtask setup`";
    let (bios, display_bios) = (files::bios().context(missing)?, files::display_bios().context(missing)?);
    fs::write(folder.join("bochsrc"), configuration(options, &bios, &display_bios, &ports))?;
    fs::write(folder.join("debugger"), DEBUGGER_COMMANDS)?;

    let mut command = Command::new(BOCHS);
    // There, so that the path of the folder is in no configuration, whatever characters it has.
    command.args(["-q", "-f", "bochsrc", "-rc", "debugger"]).current_dir(folder);
    // First the namespace: the wish to end with the parent does not outlive a change of rights.
    // SAFETY: the functions make system calls only, which is allowed between fork and exec.
    unsafe { command.pre_exec(|| network::leave().and_then(|()| machine::end_with_parent())) };
    Machine::start(&EMULATOR, command, folder, terminals).map_err(|error| {
        let refused =
            error.root_cause().downcast_ref::<io::Error>().is_some_and(|cause| cause.kind() == ErrorKind::PermissionDenied);
        if refused { error.context("Bochs must be kept from the network, which takes root or user namespaces") } else { error }
    })
}

/// Bochs' configuration file.
fn configuration(options: &LabOptions, bios: &Path, display_bios: &Path, ports: &[&Path]) -> String {
    let model = options.cpu_model.as_ref().map_or(CPU_MODEL, CpuModel::name);
    let mut text = format!(
        "megs: 512
cpu: model={model}, count={count}, ips=50000000, reset_on_triple_fault=0, ignore_bad_msrs=1
romimage: file={bios}, options=fastboot
vgaromimage: file={display_bios}
pci: enabled=1, chipset=i440fx
clock: sync=none, time0=utc, rtc_sync=0
boot: cdrom
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path={medium}, status=inserted
floppy_bootsig_check: disabled=1
mouse: enabled=0
speaker: enabled=0
display_library: rfb, options=\"timeout=0\"
log: /dev/null
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
",
        count = options.smp,
        bios = bios.display(),
        display_bios = display_bios.display(),
        medium = medium::IMAGE,
    );
    for (number, port) in (1..).zip(ports) {
        text.push_str(&format!("com{number}: enabled=1, mode=file, dev={}\n", port.display()));
    }
    text
}

/// What Bochs says when a machine switches itself off, and when it restarts or panics by means of a triple fault.
const ORDERLY_ENDS: [&str; 2] = ["soft power off", "exception with no resolution"];

/// Why Bochs gave up, but for the two orderly ends of a machine.
fn complaints(messages: &str) -> Vec<&str> {
    let mut lines = messages.lines();
    lines.find(|line| line.contains("Bochs is exiting with the following message:"));
    let reason = lines.next().map(|line| line.split_once(']').map_or(line, |(_device, reason)| reason).trim());
    reason.filter(|reason| !ORDERLY_ENDS.iter().any(|end| reason.contains(end))).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(options: &LabOptions) -> String {
        configuration(options, Path::new("/bios"), Path::new("/display"), &[Path::new("/dev/pts/7"), Path::new("/dev/pts/8")])
    }

    #[test]
    fn each_serial_port_has_its_terminal() {
        let text = text(&LabOptions::new(["true"]));
        assert!(text.contains("\ncom1: enabled=1, mode=file, dev=/dev/pts/7\ncom2: enabled=1, mode=file, dev=/dev/pts/8\n"));
    }

    #[test]
    fn the_cpu_is_the_one_named() {
        let usual = LabOptions::new(["true"]);
        let other = LabOptions { cpu_model: Some("core2_penryn_t9600".parse().unwrap()), smp: 2, ..usual.clone() };
        assert!(text(&usual).contains("\ncpu: model=corei7_haswell_4770, count=1,"));
        assert!(text(&other).contains("\ncpu: model=core2_penryn_t9600, count=2,"));
    }

    #[test]
    fn switching_off_is_no_complaint() {
        let last = |reason: &str| format!("x\nBochs is exiting with the following message:\n{reason}\n=====\n");
        assert!(complaints(&last("[ACPI  ] ACPI control: soft power off")).is_empty());
        assert!(complaints(&last("[CPU0  ] exception(): 3rd (13) exception with no resolution")).is_empty());
        assert!(complaints("Next at t=0\n").is_empty());
        assert_eq!(complaints(&last("[MEM0  ] ROM: couldn't open it")), ["ROM: couldn't open it"]);
    }
}
