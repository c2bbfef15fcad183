//! Follows a running machine: copies what the command prints, and finds out how it ended.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::machine::{Machine, Port};
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
    /// The command ended.
    Ended(End),
}

/// What the first process tells at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    /// The command's exit status.
    status: u8,
    /// How many bytes of its standard output and standard error have been sent, if the kernel counts them.
    sent: Option<(u64, u64)>,
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
    let (mut copied_out, mut copied_err) = (0, 0);
    loop {
        // First whether it is over, then what was printed: nothing can come between the two.
        let gone = machine.ended()?;
        from_init.read_to_string(&mut told).context("cannot read what the machine tells")?;
        let state = state(&told);
        if let State::Ended(_) = state {
            machine.finish()?;
        }
        copied_out += copy(&mut from_out, out).context("cannot write the command's standard output")?;
        copied_err += copy(&mut from_err, err).context("cannot write the command's standard error")?;
        let ending = |status, problem| Ok(LabRun { status, problem, log: log.clone() });
        if let State::Ended(end) = state {
            return match end.sent {
                Some(sent) if sent != (copied_out, copied_err) => {
                    ending(LAB_FAILED, Some(lost(machine.emulator(), end.status, sent, (copied_out, copied_err))))
                }
                _ => ending(end.status, None),
            };
        }
        if state == State::NoKvm {
            return ending(LAB_FAILED, Some(with_log("KVM's modules could not be loaded", &log)));
        }
        if let Some(status) = gone {
            let why = match log::panic(&log) {
                Some(reason) => format!("the lab's host panicked: {reason}"),
                None if state == State::Booting => format!("{} ended before the command began ({status})", machine.emulator()),
                None => format!("the lab's host went away before the command ended ({status})"),
            };
            return ending(LAB_FAILED, Some(with_log(&(why + &said(&machine)), &log)));
        }
        if start.elapsed() >= timeout {
            let seconds = timeout.as_secs();
            let why = if state == State::Booting {
                with_log(&format!("the lab's host was not up within {seconds} s"), &log)
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
            Some(("end", numbers)) => end(numbers).map_or(state, State::Ended),
            _ if line == "start" => State::Running,
            _ if line == "no-kvm" => State::NoKvm,
            _ => state,
        };
    }
    state
}

/// Reads "STATUS", or "STATUS OUT ERR" with the bytes sent.
fn end(numbers: &str) -> Option<End> {
    let mut numbers = numbers.split(' ');
    let status = numbers.next()?.parse().ok()?;
    let mut count = || numbers.next()?.parse().ok();
    Some(End { status, sent: count().zip(count()) })
}

/// What to say when the command's output did not arrive whole.
fn lost(emulator: &str, status: u8, sent: (u64, u64), copied: (u64, u64)) -> String {
    format!(
        "the command ended with status {status}, but {emulator} lost some of its output: {} of {} bytes of standard output \
         and {} of {} bytes of standard error arrived",
        copied.0, sent.0, copied.1, sent.1
    )
}

/// Copies what is new in a file that grows, and says how much that was.
fn copy(from: &mut File, to: &mut dyn Write) -> std::io::Result<u64> {
    let mut buffer = [0; 65536];
    let mut copied = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return to.flush().map(|()| copied),
            Ok(length) => {
                to.write_all(&buffer[..length])?;
                copied += length as u64;
            }
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

/// The emulator's own complaints, as the end of a sentence.
fn said(machine: &Machine) -> String {
    let complaints = machine.complaints();
    if complaints.is_empty() { String::new() } else { format!("; {} said: {complaints}", machine.emulator()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_first_process_are_followed() {
        assert_eq!(state(""), State::Booting);
        assert_eq!(state("no-kvm\n"), State::NoKvm);
        assert_eq!(state("start\n"), State::Running);
        assert_eq!(state("start\nend 7\n"), State::Ended(End { status: 7, sent: None }));
        assert_eq!(state("start\nend 7 12 0\n"), State::Ended(End { status: 7, sent: Some((12, 0)) }));
    }

    #[test]
    fn half_a_word_does_not_count() {
        assert_eq!(state("start\nend 12"), State::Running);
        assert_eq!(state("sta"), State::Booting);
    }
}
