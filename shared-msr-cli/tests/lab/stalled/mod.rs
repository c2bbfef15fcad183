//! Readers that do not read, and readers that leave: a signal detaches all the same, and the measured command goes on.

mod commands;
mod files;
mod readers;
mod times;

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    process::Command,
};

use tempfile::TempDir;

use crate::support::{Guest, Running, wait_until};

/// A guest that makes exits and never stops doing so.
fn spinning_guest() -> Guest {
    Guest::start("--spin --cpuids 1 --tsc-aux 0xabc")
}

/// A pipe with a name and a reader that does not read.
struct Pipe {
    folder: TempDir,
    reader: File,
}

impl Pipe {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        // Without waiting for who writes.
        let reader = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap();
        Self { folder, reader }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("fifo")
    }

    fn writer(&self) -> File {
        File::options().write(true).open(self.path()).unwrap()
    }

    /// Writes until nothing more fits in.
    fn fill(&self) {
        let mut writer = File::options().write(true).custom_flags(libc::O_NONBLOCK).open(self.path()).unwrap();
        for size in [4096, 1] {
            while writer.write(&[b'y'; 4096][..size]).is_ok() {}
        }
    }

    /// Reads this much and leaves.
    fn read_and_leave(mut self, bytes: usize) {
        let mut taken = 0;
        wait_until("there is something to read", || {
            taken += self.reader.read(&mut vec![0; bytes - taken]).unwrap_or(0);
            taken == bytes
        });
    }

    /// Reads until the program has ended, and all that it left.
    fn read_all(&mut self, program: &mut Running) -> String {
        let mut bytes = Vec::new();
        wait_until("it ends when it is read", || {
            let has_ended = program.has_ended();
            // An error is that there is nothing more at the moment; what was there before is kept.
            let _ = self.reader.read_to_end(&mut bytes);
            has_ended
        });
        String::from_utf8(bytes).unwrap()
    }
}

/// Whether the thread that writes a program's output waits for room in a pipe.
fn waits_for_reader(program: &Running) -> bool {
    let threads = fs::read_dir(format!("/proc/{}/task", program.pid())).into_iter().flatten().flatten();
    threads.map(|thread| thread.path()).any(|thread| {
        let read = |file: &str| fs::read_to_string(thread.join(file)).unwrap_or_default();
        read("comm").trim() == "output" && read("wchan").contains("pipe_write")
    })
}

/// It measures, and its output fills the pipe.
fn wait_until_stalled(program: &mut Running) {
    program.wait_until_attached();
    wait_until("nobody reads, and the pipe is full", || waits_for_reader(program));
}

/// Nothing of it is in the kernel any more, though nobody has read anything and it has not ended.
fn wait_until_detached(program: &mut Running) {
    wait_until("it has detached", || !program.is_attached());
    wait_until("no function is hooked any more", || {
        let functions = fs::read_to_string("/sys/kernel/tracing/enabled_functions").unwrap();
        !functions.lines().any(|line| line.starts_with("kvm_"))
    });
    assert!(!program.has_ended(), "it waits for the reader: {:?}", program.printed());
}
