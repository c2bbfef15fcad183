//! What the vCPU's thread and the thread that watches it tell each other.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use super::signals;

/// Where the vCPU's thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    /// Setting up.
    Preparing = 0,
    /// About to run the guest, or running it.
    Running = 1,
    /// Will not run the guest any more.
    Finished = 2,
}

/// A flag in one direction; a stage and an eventfd, which wakes the watcher, in the other.
pub(super) struct Link {
    stop: AtomicBool,
    stage: AtomicU8,
    event: File,
}

impl Link {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: takes two numbers and returns a descriptor or -1.
        let event = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if event < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was made just now, and nobody else knows it.
        let event = unsafe { OwnedFd::from_raw_fd(event) };
        Ok(Self { stop: AtomicBool::new(false), stage: AtomicU8::new(Stage::Preparing as u8), event: event.into() })
    }

    /// Whether the guest is to be stopped. The vCPU's thread asks before each `KVM_RUN`: it costs no system call.
    pub(super) fn stop_wanted(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(super) fn ask_to_stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    pub(super) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Preparing,
            1 => Stage::Running,
            _ => Stage::Finished,
        }
    }

    /// Enters `stage` and wakes the watcher.
    pub(super) fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release);
        // Fails only if the counter is full, and then the watcher is awake anyway.
        let _ = (&self.event).write(&1u64.to_ne_bytes());
    }

    /// The descriptor that is readable after [`Link::enter`], until [`Link::clear`].
    pub(super) fn event(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    pub(super) fn clear(&self) {
        // Fails only if there is nothing to clear.
        let _ = (&self.event).read(&mut [0; 8]);
    }

    /// Returns after `time`, or when the vCPU's thread has entered another stage.
    pub(super) fn wait_at_most(&self, time: Duration) {
        // If polling fails, the caller's next look at the stage is only earlier than planned.
        if signals::poll(&mut [signals::readable(self.event())], Some(time)).is_err() {
            std::thread::sleep(time);
        }
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_go_across_and_wake_the_watcher() {
        let link = Link::new().unwrap();
        assert_eq!(link.stage(), Stage::Preparing);
        for stage in [Stage::Running, Stage::Finished] {
            link.enter(stage);
            // Would fail by its length if the event did not end it.
            link.wait_at_most(Duration::from_secs(3600));
            assert_eq!(link.stage(), stage);
        }
    }

    #[test]
    fn the_wish_to_stop_goes_across() {
        let link = Link::new().unwrap();
        assert!(!link.stop_wanted());
        link.ask_to_stop();
        assert!(link.stop_wanted());
    }
}
