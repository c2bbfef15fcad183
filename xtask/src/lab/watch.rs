//! Follows a running machine: copies what the command prints, and finds out how it ended.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::qemu::{Machine, Port};
use super::{LAB_FAILED, LabRun, TIMED_OUT, log};

/// How often we look. Short enough that nobody sees it, long enough that it costs nothing.
const PAUSE: Duration = Duration::from_millis(10);

/// What the first process has told so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing: the machine is coming up.
    Booting,
    /// KVM's modules did not load.
    NoKvm,
    /// The command runs.
    Running,
    /// The command ended with this status.
    Ended(u8),
}

/// Waits for the end of the command, or for the reason why it will never come.
pub(super) fn until_end(
    mut machine: Machine,
    timeout: Duration,
    log: PathBuf,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<LabRun> {
    let start = Instant::now();
    let mut told = String::new();
    let (mut from_out, mut from_err) = (machine.output(Port::Out)?, machine.output(Port::Err)?);
    let mut from_init = machine.output(Port::Init)?;
    loop {
        // First whether it is over, then what was printed: nothing can come between the two.
        let gone = machine.ended()?;
        from_init.read_to_string(&mut told).context("cannot read what the machine tells")?;
        let state = state(&told);
        copy(&mut from_out, out).context("cannot write the command's standard output")?;
        copy(&mut from_err, err).context("cannot write the command's standard error")?;
        let ending = |status, problem| Ok(LabRun { status, problem, log: log.clone() });
        if let State::Ended(status) = state {
            return ending(status, None);
        }
        if state == State::NoKvm {
            return ending(LAB_FAILED, Some(with_log("KVM's modules could not be loaded", &log)));
        }
        if let Some(status) = gone {
            let why = match log::panic(&log) {
                Some(reason) => format!("the emulated host panicked: {reason}"),
                None if state == State::Booting => format!("QEMU ended before the command began ({status})"),
                None => format!("the emulated host went away before the command ended ({status})"),
            };
            return ending(LAB_FAILED, Some(with_log(&(why + &said(&machine.messages())), &log)));
        }
        if start.elapsed() >= timeout {
            let seconds = timeout.as_secs();
            let why = if state == State::Booting {
                with_log(&format!("the emulated host was not up within {seconds} s"), &log)
            } else {
                format!("the command did not end within {seconds} s (--timeout)")
            };
            return ending(TIMED_OUT, Some(why));
        }
        thread::sleep(PAUSE);
    }
}

/// Reads the words of the first process. A word counts when its line is complete.
fn state(told: &str) -> State {
    let mut state = State::Booting;
    for line in told.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        state = match line.split_once(' ') {
            Some(("end", status)) => status.parse().map_or(state, State::Ended),
            _ if line == "start" => State::Running,
            _ if line == "no-kvm" => State::NoKvm,
            _ => state,
        };
    }
    state
}

/// Copies what is new in a file that grows.
fn copy(from: &mut File, to: &mut dyn Write) -> std::io::Result<()> {
    let mut buffer = [0; 65536];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return to.flush(),
            Ok(length) => to.write_all(&buffer[..length])?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A sentence and the kernel's last words.
fn with_log(sentence: &str, log: &Path) -> String {
    match &log::tail(log)[..] {
        "" => format!("{sentence}; the kernel said nothing"),
        lines => format!("{sentence}; the last kernel messages:\n{lines}"),
    }
}

/// QEMU's own messages, but for the long known ones about what its emulation lacks.
fn said(messages: &str) -> String {
    let lines: Vec<_> = messages.lines().filter(|line| !line.contains("TCG doesn't support requested feature")).collect();
    if lines.is_empty() { String::new() } else { format!("; QEMU said: {}", lines.join(" / ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_first_process_are_followed() {
        assert_eq!(state(""), State::Booting);
        assert_eq!(state("no-kvm\n"), State::NoKvm);
        assert_eq!(state("start\n"), State::Running);
        assert_eq!(state("start\nend 7\n"), State::Ended(7));
    }

    #[test]
    fn half_a_word_does_not_count() {
        assert_eq!(state("start\nend 12"), State::Running);
        assert_eq!(state("sta"), State::Booting);
    }

    #[test]
    fn only_unexpected_messages_of_qemu_are_shown() {
        let known = "qemu-system-x86_64: warning: TCG doesn't support requested feature: CPUID.01H:ECX.fma [bit 12]\n";
        assert_eq!(said(known), "");
        assert_eq!(said(&format!("{known}no disk\n")), "; QEMU said: no disk");
    }
}
