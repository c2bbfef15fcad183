//! The program under test.

use std::{
    fs, io,
    os::unix::{
        fs::FileExt as _,
        process::{CommandExt as _, ExitStatusExt as _},
    },
    path::Path,
    process::{Child, Command, Stdio},
};

use aya::programs::{ProgramInfo, loaded_programs};
use serde::de::DeserializeOwned;
use shared_msr::{
    commands::inspect::Document,
    probe::{probes::PROGRAM_PREFIX, refuse},
};
use tempfile::tempfile;

use super::{Refused, Report, wait_until};

/// Where the lab has it.
const SHARED_MSR: &str = "/bin/shared-msr";

/// How a program ended and what it printed.
#[derive(Debug)]
pub(crate) struct Ended {
    /// As a shell counts: 128 more than the signal that killed it.
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Its standard output as a report.
    #[track_caller]
    pub(crate) fn report(&self) -> Report {
        json(&self.stdout).unwrap_or_else(|error| panic!("no report: {error}: {self:?}"))
    }

    /// The first line of its standard output.
    pub(crate) fn first_line(&self) -> &str {
        self.stdout.lines().next().unwrap_or_default()
    }

    /// It failed, with one sentence that begins with the program's name and has these words in it.
    #[track_caller]
    pub(crate) fn assert_one_sentence(&self, status: i32, words: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        assert!(self.stderr.starts_with("shared-msr: ") && self.stderr.contains(words), "{words:?} in {self:?}");
    }
}

/// Words as arguments: separated by blanks, none with a blank in it.
pub(crate) fn arguments(words: &str) -> Vec<String> {
    words.split_whitespace().map(str::to_owned).collect()
}

/// JSON as a value of its own.
pub(crate) fn json<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(text)
}

/// `shared-msr` with arguments, separated by blanks.
pub(crate) fn command(words: &str) -> Command {
    let mut command = Command::new(SHARED_MSR);
    command.args(arguments(words));
    let refused = Refused::ways();
    if !refused.is_empty() {
        command.env(refuse::VARIABLE, refused);
    }
    command
}

/// The same, giving way to whatever else wants to run.
pub(crate) fn modest(words: &str) -> Command {
    let mut command = command(words);
    let give_way = || {
        // SAFETY: takes numbers only.
        match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: a system call, which is allowed between fork and exec.
    unsafe { command.pre_exec(give_way) };
    command
}

/// Runs `shared-msr` to its end.
pub(crate) fn shared_msr(words: &str) -> Ended {
    Running::start(&mut command(words)).wait()
}

/// The kernel's own tables, as `shared-msr` reads them now.
pub(crate) fn inspect() -> Document<'static> {
    let ended = shared_msr("inspect --format json");
    assert_eq!(ended.status, 0, "{ended:?}");
    json(&ended.stdout).unwrap()
}

/// A program that runs. It is killed when the value is dropped.
pub(crate) struct Running {
    child: Child,
    stdout: fs::File,
    stderr: fs::File,
}

impl Running {
    /// Starts a program. What it prints goes to files, so that it never waits for us.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::start_into(command, tempfile().unwrap(), tempfile().unwrap())
    }

    /// The same with what it prints going to these files, of which a pipe can be one: who reads that is up to the test. The
    /// command keeps such a file open as long as it is there itself.
    pub(crate) fn start_into(command: &mut Command, stdout: fs::File, stderr: fs::File) -> Self {
        command.stdin(Stdio::null()).stdout(stdout.try_clone().unwrap()).stderr(stderr.try_clone().unwrap());
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { child, stdout, stderr }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it measures.
    pub(crate) fn wait_until_attached(&mut self) {
        wait_until("hooks are attached", || {
            assert!(self.child.try_wait().unwrap().is_none(), "it ended before it measured: {:?}", self.printed());
            self.is_attached()
        });
    }

    /// Whether it holds the hook of exits.
    pub(crate) fn is_attached(&self) -> bool {
        let files = fs::read_dir(format!("/proc/{}/fdinfo", self.pid())).into_iter().flatten().flatten();
        files
            .filter_map(|file| fs::read_to_string(file.path()).ok())
            .any(|info| info.lines().any(|line| line.starts_with("tp_name:") && line.contains("kvm_exit")))
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: i32) {
        send(self.pid(), signal);
    }

    /// What it has printed so far.
    pub(crate) fn printed(&self) -> (String, String) {
        (content(&self.stdout), content(&self.stderr))
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Ended {
        let status = self.child.wait().unwrap();
        let status = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap();
        let (stdout, stderr) = self.printed();
        Ended { status, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a process measures: the hook of exits is attached after those of functions.
pub(crate) fn is_attached(process: u32) -> bool {
    let files = fs::read_dir(format!("/proc/{process}/fdinfo")).into_iter().flatten().flatten();
    let mut infos = files.filter_map(|file| fs::read_to_string(file.path()).ok());
    infos.any(|info| info.lines().any(|line| line.starts_with("tp_name:") && line.contains("kvm_exit")))
}

/// A process of this name that has not ended, if there is one.
pub(crate) fn process_named(name: &str) -> Option<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_it = |process: &u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        stat.contains(&format!("({name}) ")) && !stat.contains(") Z ")
    };
    processes.into_iter().find(is_it)
}

/// A process that somebody else started. It is killed when the value is dropped.
pub(crate) struct Foreign(pub(crate) u32);

impl Drop for Foreign {
    fn drop(&mut self) {
        if Path::new(&format!("/proc/{}", self.0)).exists() {
            send(self.0, libc::SIGKILL);
        }
    }
}

/// Our programs that the kernel has, by name. One that goes while it is looked at is one, too.
pub(crate) fn programs_in_kernel() -> Vec<String> {
    let name = |program: ProgramInfo| program.name_as_str().unwrap_or_default().to_owned();
    let names = loaded_programs().map(|program| program.map_or_else(|error| format!("{PROGRAM_PREFIX}({error})"), name));
    names.filter(|name| name.starts_with(PROGRAM_PREFIX)).collect()
}

/// Waits until the kernel has freed all our programs, which it does some time after the last descriptor is closed.
pub(crate) fn wait_until_no_program_is_left() {
    wait_until("no program is left", || programs_in_kernel().is_empty());
}

/// Sends a signal to a process.
pub(crate) fn send(pid: u32, signal: i32) {
    let pid = i32::try_from(pid).unwrap();
    // SAFETY: takes numbers only and touches no memory.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "cannot signal {pid}");
}

/// All that a file has. The position in it is the writer's: it is left alone.
fn content(file: &fs::File) -> String {
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
