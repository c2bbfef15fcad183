//! A running emulator, whichever it is: where its serial ports arrive, what it says itself, and how it ended.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::terminal::Terminal;
use crate::process;

/// Where an emulator's own messages go, in the folder of its machine.
const MESSAGES: &str = "emulator";
/// How long a machine may take to switch itself off. Bochs needs less than a second.
const SWITCHING_OFF: Duration = Duration::from_secs(10);
/// How often we look meanwhile.
const PAUSE: Duration = Duration::from_millis(10);

/// What we have to know about a kind of emulator once it runs.
#[derive(Debug)]
pub(super) struct Emulator {
    /// Its name, for people.
    pub(super) name: &'static str,
    /// Those lines of its own messages that say why it failed.
    pub(super) complaints: fn(&str) -> Vec<&str>,
}

/// A running machine. Ends when the value is dropped.
///
/// What its serial ports send ends in files: a file takes every byte at once, so nothing that the machine sends can be lost,
/// whatever the reader does.
#[derive(Debug)]
pub(super) struct Machine {
    emulator: &'static Emulator,
    child: Child,
    folder: PathBuf,
    terminals: Vec<Terminal>,
}

impl Machine {
    /// Starts the emulator. Its ports write to the files themselves, or to `terminals` that copy to the files.
    pub(super) fn start(
        emulator: &'static Emulator,
        mut command: Command,
        folder: &Path,
        terminals: Vec<Terminal>,
    ) -> Result<Self> {
        let messages = File::create(folder.join(MESSAGES)).context("cannot create the files of the machine")?;
        command.stdin(Stdio::null()).stdout(messages.try_clone()?).stderr(messages);
        let child = command.spawn().map_err(|error| process::not_started(&command, error))?;
        Ok(Self { emulator, child, folder: folder.to_owned(), terminals })
    }

    /// What came out of a port, from the beginning.
    pub(super) fn output(&self, port: Port) -> Result<File> {
        let path = port.file(&self.folder);
        File::open(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// The name of the emulator, for people.
    pub(super) fn emulator(&self) -> &'static str {
        self.emulator.name
    }

    /// What the emulator itself complained about, in one line; empty if it did not.
    pub(super) fn complaints(&self) -> String {
        let text = fs::read(self.folder.join(MESSAGES)).unwrap_or_default();
        (self.emulator.complaints)(&String::from_utf8_lossy(&text)).join(" / ")
    }

    /// How the emulator ended, if it did. After this call the files have all that it sent before.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait().with_context(|| format!("cannot see whether {} still runs", self.emulator.name))?;
        for terminal in &mut self.terminals {
            terminal.copy().context("cannot copy what the machine sends")?;
        }
        Ok(status)
    }

    /// Waits until the files have all that the machine has sent. An emulator that writes to terminals keeps an unfinished
    /// line to itself until it ends.
    pub(super) fn finish(&mut self) -> Result<()> {
        let start = Instant::now();
        while !self.terminals.is_empty() && self.ended()?.is_none() && start.elapsed() < SWITCHING_OFF {
            thread::sleep(PAUSE);
        }
        Ok(())
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
    /// In the order of the serial ports, after the one for the kernel.
    const ALL: [Self; 3] = [Self::Out, Self::Err, Self::Init];

    /// Where it arrives.
    fn file(self, folder: &Path) -> PathBuf {
        folder.join(match self {
            Self::Out => "out",
            Self::Err => "err",
            Self::Init => "init",
        })
    }
}

/// The files of all serial ports in their order. Made here and not by the emulator, so that they can be read from the first
/// moment on.
pub(super) fn port_files(folder: &Path, log: &Path) -> Result<Vec<PathBuf>> {
    let files = Port::ALL.map(|port| port.file(folder));
    for file in &files {
        File::create(file).context("cannot create the files of the machine")?;
    }
    Ok(std::iter::once(log.to_owned()).chain(files).collect())
}

/// Lets the kernel end the emulator when the thread that started it ends for whatever reason, Ctrl-C and `kill -9` too. To be
/// called between fork and exec: it makes one system call and touches no memory.
pub(super) fn end_with_parent() -> io::Result<()> {
    // SAFETY: this call takes numbers only and touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}
