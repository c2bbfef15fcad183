//! The command that `report` measures.

use std::{
    ffi::OsString,
    fs::File,
    future::pending,
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::process::ExitStatusExt as _,
    },
    process::{ExitStatus, Stdio},
};

use anyhow::{Context as _, anyhow};
use tokio::process::{Child, Command};

/// Starts `command`, in our process group, with our standard input and standard error. Nothing of ours ends it: neither our own
/// end nor that of the returned value, and a signal that is ignored by us (SIGPIPE, by Rust) is not by the command. With `keep_output` it writes where we write, else its standard output goes to standard error.
pub(super) fn start(command: &[OsString], keep_output: bool) -> anyhow::Result<Child> {
    let (program, arguments) = command.split_first().ok_or_else(|| anyhow!("there is no command to run"))?;
    let output = if keep_output { Stdio::inherit() } else { Stdio::from(io::stderr().as_fd().try_clone_to_owned()?) };
    Command::new(program).args(arguments).stdout(output).spawn().map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "there is no such command; check its name and PATH".to_owned(),
            io::ErrorKind::PermissionDenied => "it may not be executed; check its permissions".to_owned(),
            _ => error.to_string(),
        };
        anyhow!("cannot run {}: {why}", program.display())
    })
}

/// Waits for the command, if there is one, to end by itself.
pub(super) async fn wait(command: Option<&mut Child>) -> anyhow::Result<ExitStatus> {
    match command {
        Some(command) => command.wait().await.context("cannot wait for the command"),
        None => pending().await,
    }
}

/// Hands on the signal that ended the measurement.
pub(super) fn hand_on(command: &Child, signal: libc::c_int) {
    // Ctrl-C on a terminal has reached the command already: it runs in our process group.
    if signal != libc::SIGINT || !in_foreground() {
        send(command, signal);
    }
}

/// Whether our process group is the one that the terminal sends Ctrl-C to.
fn in_foreground() -> bool {
    let Ok(terminal) = File::open("/dev/tty") else { return false };
    // SAFETY: a descriptor that is open through the call.
    let foreground = unsafe { libc::tcgetpgrp(terminal.as_raw_fd()) };
    // SAFETY: no arguments, cannot fail.
    foreground == unsafe { libc::getpgrp() }
}

/// Sends a signal to the command, unless it was seen to end.
pub(super) fn send(command: &Child, signal: libc::c_int) {
    if let Some(process) = command.id().and_then(|process| libc::pid_t::try_from(process).ok()) {
        // SAFETY: a system call with two numbers; the child is ours and not yet waited for, so its number is its own.
        unsafe { libc::kill(process, signal) };
    }
}

/// The exit status to pass on; like a shell, 128 + the signal that ended it.
pub(super) fn status_to_pass_on(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_passed_on_and_a_signal_counts_as_in_a_shell() {
        assert_eq!(status_to_pass_on(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(status_to_pass_on(ExitStatus::from_raw(libc::SIGTERM)), 143);
        assert_eq!(status_to_pass_on(ExitStatus::from_raw(0)), 0);
    }
}
