//! QEMU as the emulated host, without any hardware virtualization.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result};

use super::{Host, LabOptions};
use crate::process;

const QEMU: &str = "qemu-system-x86_64";

/// Kernel messages on the first port; a panic ends the machine at once instead of waiting for somebody to see it.
const KERNEL_COMMAND_LINE: &str = "console=ttyS0 panic=-1";

/// A running machine. Ends when the value is dropped.
///
/// Its serial ports write to files: a file takes every byte at once, so nothing that the machine sends can be lost, whatever
/// the reader does.
#[derive(Debug)]
pub(super) struct Machine {
    child: Child,
    folder: PathBuf,
}

impl Machine {
    /// Starts a machine with its files in `folder`.
    pub(super) fn start(options: &LabOptions, image: &Path, initramfs: &Path, folder: &Path, log: &Path) -> Result<Self> {
        // Made here and not by QEMU, so that they can be read from the first moment on.
        for port in Port::ALL {
            File::create(folder.join(port.file())).context("cannot create the files of the machine")?;
        }
        let messages = File::create(folder.join("qemu")).context("cannot create the files of the machine")?;
        let mut command = Command::new(QEMU);
        command.args(arguments(options, image, initramfs, folder, log));
        command.stdin(Stdio::null()).stdout(messages.try_clone()?).stderr(messages);
        // SAFETY: the function only makes one system call, which is allowed between fork and exec.
        unsafe { command.pre_exec(end_with_parent) };
        let child = command.spawn().map_err(|error| process::not_started(&command, error))?;
        Ok(Self { child, folder: folder.to_owned() })
    }

    /// What came out of a port, from the beginning.
    pub(super) fn output(&self, port: Port) -> Result<File> {
        let path = self.folder.join(port.file());
        File::open(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// What QEMU itself said.
    pub(super) fn messages(&self) -> String {
        let text = std::fs::read(self.folder.join("qemu")).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// How QEMU ended, if it did.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot see whether QEMU is still running")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A way out of the machine, but for the kernel's messages, which go to their log.
#[derive(Clone, Copy, Debug)]
pub(super) enum Port {
    /// The command's standard output.
    Out,
    /// The command's standard error.
    Err,
    /// What the first process tells us.
    Init,
}

impl Port {
    /// In the order of the serial ports.
    const ALL: [Self; 3] = [Self::Out, Self::Err, Self::Init];

    fn file(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::Err => "err",
            Self::Init => "init",
        }
    }
}

/// Lets the kernel end QEMU when the thread that started it ends for whatever reason, Ctrl-C and `kill -9` too.
fn end_with_parent() -> io::Result<()> {
    // SAFETY: this call takes numbers only and touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// QEMU's arguments.
fn arguments(options: &LabOptions, image: &Path, initramfs: &Path, folder: &Path, log: &Path) -> Vec<OsString> {
    let cpu = match options.host {
        Host::Amd => "EPYC,+svm,+rdtscp",
    };
    // With a thread per CPU, QEMU 7.2 let one in eight machines panic.
    let accelerator = if options.smp > 1 { "tcg,thread=single" } else { "tcg" };
    let smp = options.smp.to_string();
    let mut arguments: Vec<OsString> = Vec::new();
    arguments.extend(["-accel", accelerator, "-machine", "q35", "-cpu", cpu, "-smp", &smp].map(OsString::from));
    arguments.extend(["-m", "1G", "-nodefaults", "-no-user-config", "-no-reboot"].map(OsString::from));
    arguments.extend(["-display", "none", "-monitor", "none"].map(OsString::from));
    if options.icount {
        arguments.extend(["-icount", "shift=0,sleep=off"].map(OsString::from));
    }
    let files = std::iter::once(log.to_owned()).chain(Port::ALL.map(|port| folder.join(port.file())));
    for (number, file) in files.enumerate() {
        let mut backend = OsString::from(format!("file,id=port{number},path="));
        backend.push(doubled_commas(&file));
        arguments.extend([OsString::from("-chardev"), backend]);
        arguments.extend([OsString::from("-serial"), OsString::from(format!("chardev:port{number}"))]);
    }
    arguments.extend([OsString::from("-kernel"), image.into(), OsString::from("-initrd"), initramfs.into()]);
    arguments.extend(["-append", KERNEL_COMMAND_LINE].map(OsString::from));
    arguments
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
        let arguments = arguments(options, path, path, path, path);
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
    fn instruction_counting_is_off_unless_asked_for() {
        let off = LabOptions::new(["true"]);
        let on = LabOptions { icount: true, ..off.clone() };
        assert!(!line(&off).contains("icount"));
        assert!(line(&on).contains("-icount shift=0,sleep=off"));
    }

    #[test]
    fn a_comma_in_a_path_does_not_end_the_option() {
        assert!(line(&LabOptions::new(["true"])).contains("file,id=port1,path=/a,,b/out"));
    }
}
