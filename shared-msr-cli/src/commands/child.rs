//! The command that `report` measures.

use std::{
    ffi::OsString,
    io,
    os::{fd::AsFd as _, unix::process::ExitStatusExt as _},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use tokio::process::{Child, Command};

/// How long a command that shared the terminal's Ctrl-C may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(2);

/// Starts `command`. With `keep_output` it writes where we write, else its standard output goes to standard error.
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

/// Ends a command that is still running after we were told to stop, and waits for it.
pub(super) async fn end(child: &mut Child) -> anyhow::Result<ExitStatus> {
    if let Ok(status) = tokio::time::timeout(PATIENCE, child.wait()).await {
        return status.context("cannot wait for the command");
    }
    if let Some(process) = child.id().and_then(|process| libc::pid_t::try_from(process).ok()) {
        // SAFETY: a system call with two numbers; the child is ours and not yet waited for, so its number is its own.
        unsafe { libc::kill(process, libc::SIGTERM) };
    }
    if let Ok(status) = tokio::time::timeout(PATIENCE, child.wait()).await {
        return status.context("cannot wait for the command");
    }
    child.kill().await.context("cannot end the command")?;
    child.wait().await.context("cannot wait for the command")
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
