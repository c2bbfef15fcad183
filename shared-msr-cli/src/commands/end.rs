//! How a measurement ends: by the time nothing is attached any more, what was measured is written, and the command is waited
//! for, and neither keeps a signal from being heard.

use std::{future::Future, pin::pin, process::ExitStatus};

use anyhow::Context as _;
use tokio::process::Child;

use super::{child, signals::Signals};
use crate::notice::{Apart, notice};

/// Why a measurement ends.
pub(super) enum End {
    /// Its time is over, or all that was asked for is there.
    Done,
    /// The command has ended.
    Command(ExitStatus),
    /// Somebody wants it to end.
    Signal(libc::c_int),
    /// It cannot go on.
    Failed(anyhow::Error),
}

/// Waits until all is `written` and the command has ended by itself. Says with which status to exit: the command's, or 1 where
/// something of ours failed though the command did not.
///
/// The signal that ended the measurement is handed on to the command, so that both end; an error of ours is not its business.
/// Nothing is attached any more, so a further signal ends this at once when the output is what is waited for. When it is the
/// command, the next signal is sent to it as SIGTERM, and only the one after that leaves it alone.
pub(super) async fn wind_up(
    end: End,
    mut command: Option<Child>,
    written: impl Future<Output = anyhow::Result<()>>,
    signals: &mut Signals,
) -> anyhow::Result<u8> {
    let (mut status, mut problem, mut sent) = (None, Ok(()), 0);
    match end {
        End::Done => {}
        End::Command(ended) => (status, command) = (Some(ended), None),
        End::Signal(signal) => {
            if let Some(command) = &command {
                child::hand_on(command, signal);
            }
            sent = 1;
        }
        End::Failed(error) => problem = Err(error),
    }
    let mut written = pin!(written);
    let mut shown = None;
    while shown.is_none() || command.is_some() {
        tokio::select! {
            result = &mut written, if shown.is_none() => shown = Some(result),
            ended = child::wait(command.as_mut()) => {
                status = Some(ended?);
                command = None;
            }
            signal = signals.any() => {
                if let Some(command) = &command {
                    match sent {
                        0 => child::hand_on(command, signal),
                        _ => child::send(command, libc::SIGTERM),
                    }
                }
                sent += 1;
                let patient = command.is_some() && (sent == 1 || (sent == 2 && shown.is_some()));
                if !patient {
                    // Like a shell; what is not written yet is given up.
                    return Ok(u8::try_from(128 + signal).unwrap_or(1));
                }
            }
        }
    }
    let problem = problem.and(shown.unwrap_or(Ok(())));
    match (status.map_or(0, child::status_to_pass_on), problem) {
        (0, problem) => problem.map(|()| 0),
        (status, problem) => {
            if let Err(error) = problem {
                notice(format_args!("shared-msr: {error:#}"));
            }
            Ok(status)
        }
    }
}

/// Runs a measurement in a way that nothing it says on standard error can hold it up either.
pub(super) fn guarded(measure: impl AsyncFnOnce(&mut Signals) -> anyhow::Result<u8>) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        // From here on Ctrl-C ends the measurement, not the program.
        let mut signals = Signals::listen()?;
        let notices = Apart::begin().context("cannot start a thread")?;
        let status = measure(&mut signals).await.unwrap_or_else(|error| {
            notice(format_args!("shared-msr: {error:#}"));
            1
        });
        tokio::select! {
            () = notices.end() => Ok(status),
            signal = signals.any() => Ok(u8::try_from(128 + signal).unwrap_or(1)),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        time::Duration,
    };

    use anyhow::anyhow;
    use tokio::time::timeout;

    use super::*;

    fn command(script: &str) -> Child {
        child::start(&["sh".into(), "-c".into(), script.into()], false).unwrap()
    }

    async fn wound_up(end: End, command: Option<Child>, written: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<u8> {
        let mut signals = Signals::listen().unwrap();
        timeout(Duration::from_secs(20), wind_up(end, command, written, &mut signals)).await.expect("it has an end")
    }

    #[tokio::test]
    async fn an_error_of_ours_lets_the_command_end_by_itself_and_passes_its_status_on() {
        let error = || End::Failed(anyhow!("no room"));
        // A SIGTERM would end it earlier, with 143.
        let status = wound_up(error(), Some(command("sleep 0.3; exit 7")), ready(Ok(()))).await;
        assert_eq!(status.unwrap(), 7);
        let why = wound_up(error(), Some(command("sleep 0.3")), ready(Ok(()))).await.unwrap_err();
        assert_eq!(why.to_string(), "no room");
        let unread = ready(Err(anyhow!("nobody reads")));
        assert_eq!(wound_up(End::Done, Some(command("sleep 0.3; exit 3")), unread).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_signal_that_ends_the_measurement_is_handed_on_while_the_output_is_still_being_written() {
        let slow = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            Ok(())
        };
        let waiting = command("trap 'exit 5' TERM; while :; do sleep 0.05; done");
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(wound_up(End::Signal(libc::SIGTERM), Some(waiting), slow).await.unwrap(), 5);
    }

    #[tokio::test]
    async fn where_nothing_can_be_written_the_command_is_waited_for_all_the_same() {
        let mut signals = Signals::listen().unwrap();
        let never = wind_up(End::Done, None, pending(), &mut signals);
        assert!(timeout(Duration::from_millis(300), never).await.is_err(), "the output is waited for");
    }
}
