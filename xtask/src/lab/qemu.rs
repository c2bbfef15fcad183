//! QEMU: emulates an AMD host without any hardware virtualization, or runs a host under KVM.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::machine::{self, Emulator, Machine};
use super::options::CpuModel;
use super::{Accel, Host, LabOptions};

const QEMU: &str = "qemu-system-x86_64";

/// The emulated CPU where none is named: the lab needs no more of it than SVM and RDTSCP, which are added to any.
const CPU_MODEL: &str = "EPYC";

/// Kernel messages on the first port; a panic ends the machine at once instead of waiting for somebody to see it. On a busy machine
/// an emulated timer is too slow for the kernel's check of it (`check_timer` in arch/x86/kernel/apic/io_apic.c), which panics.
const KERNEL_COMMAND_LINE: &str = "console=ttyS0 panic=-1 no_timer_check";

const EMULATOR: Emulator = Emulator { name: "QEMU", complaints };

/// Starts a machine with its files in `folder`.
pub(super) fn start(options: &LabOptions, image: &Path, initramfs: &Path, folder: &Path, log: &Path) -> Result<Machine> {
    let ports = machine::port_files(folder, log)?;
    let mut command = Command::new(QEMU);
    command.args(arguments(options, image, initramfs, &ports));
    // SAFETY: the function only makes one system call, which is allowed between fork and exec.
    unsafe { command.pre_exec(machine::end_with_parent) };
    Machine::start(&EMULATOR, command, folder, Vec::new())
}

/// All but the long known lines about what QEMU's emulation lacks.
fn complaints(messages: &str) -> Vec<&str> {
    messages.lines().filter(|line| !line.contains("TCG doesn't support requested feature")).collect()
}

/// QEMU's arguments.
fn arguments(options: &LabOptions, image: &Path, initramfs: &Path, ports: &[PathBuf]) -> Vec<OsString> {
    let (accelerator, cpu) = (accelerator(options), cpu(options));
    let smp = options.smp.to_string();
    let mut arguments: Vec<OsString> = Vec::new();
    arguments.extend(["-accel", accelerator, "-machine", "q35", "-cpu", &cpu, "-smp", &smp].map(OsString::from));
    arguments.extend(["-m", "1G", "-nodefaults", "-no-user-config", "-no-reboot"].map(OsString::from));
    arguments.extend(["-display", "none", "-monitor", "none"].map(OsString::from));
    if options.icount {
        arguments.extend(["-icount", "shift=0,sleep=off"].map(OsString::from));
    }
    for (number, file) in ports.iter().enumerate() {
        let mut backend = OsString::from(format!("file,id=port{number},path="));
        backend.push(doubled_commas(file));
        arguments.extend([OsString::from("-chardev"), backend]);
        arguments.extend([OsString::from("-serial"), OsString::from(format!("chardev:port{number}"))]);
    }
    arguments.extend([OsString::from("-kernel"), image.into(), OsString::from("-initrd"), initramfs.into()]);
    let command_line = format!("{KERNEL_COMMAND_LINE} {}", options.kernel_arguments);
    arguments.extend([OsString::from("-append"), OsString::from(command_line.trim_end())]);
    arguments
}

/// What runs the machine's CPUs.
fn accelerator(options: &LabOptions) -> &'static str {
    match options.accel {
        Accel::Kvm => "kvm",
        // With a thread per CPU, QEMU 7.2 let one in eight machines panic.
        Accel::Emulator if options.smp > 1 => "tcg,thread=single",
        Accel::Emulator => "tcg",
    }
}

/// The machine's CPU, with what its own guests need.
fn cpu(options: &LabOptions) -> String {
    match (options.accel, options.host) {
        (Accel::Kvm, Host::Amd) => "host,+svm".to_owned(),
        (Accel::Kvm, Host::Intel) => "host,+vmx".to_owned(),
        (Accel::Emulator, _) => format!("{},+svm,+rdtscp", options.cpu_model.as_ref().map_or(CPU_MODEL, CpuModel::name)),
    }
}

/// A path inside one of QEMU's comma-separated options.
fn doubled_commas(path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let bytes = path.as_os_str().as_bytes();
    let doubled = bytes.iter().flat_map(|&byte| std::iter::repeat_n(byte, if byte == b',' { 2 } else { 1 }));
    OsString::from_vec(doubled.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(options: &LabOptions) -> String {
        let path = Path::new("/a,b");
        let arguments = arguments(options, path, path, &[PathBuf::from("/a,b/out")]);
        arguments.iter().map(|argument| argument.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn several_cpus_share_one_thread() {
        let one = LabOptions::new(["true"]);
        let two = LabOptions { smp: 2, ..one.clone() };
        assert!(line(&one).contains("-accel tcg -machine"));
        assert!(line(&two).contains("-accel tcg,thread=single -machine q35 -cpu EPYC,+svm,+rdtscp -smp 2"));
    }

    #[test]
    fn under_kvm_the_cpu_is_this_machines_and_virtualizes_in_its_own_way() {
        let amd = LabOptions { accel: Accel::Kvm, smp: 2, ..LabOptions::new(["true"]) };
        let intel = LabOptions { host: Host::Intel, ..amd.clone() };
        assert!(line(&amd).contains("-accel kvm -machine q35 -cpu host,+svm -smp 2"));
        assert!(line(&intel).contains("-accel kvm -machine q35 -cpu host,+vmx -smp 2"));
    }

    #[test]
    fn instruction_counting_is_off_unless_asked_for() {
        let off = LabOptions::new(["true"]);
        let on = LabOptions { icount: true, ..off.clone() };
        assert!(!line(&off).contains("icount"));
        assert!(line(&on).contains("-icount shift=0,sleep=off"));
    }

    #[test]
    fn the_kernel_is_told_what_the_run_asks_for() {
        let usual = LabOptions::new(["true"]);
        let more = LabOptions { kernel_arguments: "nokaslr".to_owned(), ..usual.clone() };
        assert!(line(&usual).ends_with(&format!("-append {KERNEL_COMMAND_LINE}")));
        assert!(line(&more).ends_with(&format!("-append {KERNEL_COMMAND_LINE} nokaslr")));
    }

    #[test]
    fn a_comma_in_a_path_does_not_end_the_option() {
        assert!(line(&LabOptions::new(["true"])).contains("file,id=port0,path=/a,,b/out"));
    }

    #[test]
    fn another_cpu_still_has_what_the_lab_needs() {
        let options = LabOptions { cpu_model: Some("EPYC-Rome".parse().unwrap()), ..LabOptions::new(["true"]) };
        assert!(line(&options).contains("-cpu EPYC-Rome,+svm,+rdtscp -smp"));
    }

    #[test]
    fn only_unexpected_messages_are_complaints() {
        let known = "qemu-system-x86_64: warning: TCG doesn't support requested feature: CPUID.01H:ECX.fma [bit 12]\n";
        assert!(complaints(known).is_empty());
        assert_eq!(complaints(&format!("{known}no disk\n")), ["no disk"]);
    }
}
