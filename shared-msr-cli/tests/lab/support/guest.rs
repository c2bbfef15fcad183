//! `shared-msr guest` in the background.

use std::{fmt::Display, process::Command};

use shared_msr::guest::GuestOutcome;

use super::{Running, close_windows, command, json, modest};

/// A guest that runs. When it is dropped it is killed, and no window of it stays open.
pub(crate) struct Guest {
    running: Option<Running>,
}

impl Guest {
    /// Starts one with these arguments, separated by blanks. It gives way, so that what measures it is not slowed down by it.
    pub(crate) fn start(words: &str) -> Self {
        Self::start_as(&mut modest(&format!("guest --format json {words}")))
    }

    /// The same with the share of its CPU that everybody has.
    pub(crate) fn start_as_others(words: &str) -> Self {
        Self::start_as(&mut command(&format!("guest --format json {words}")))
    }

    /// Starts one by a command that becomes a guest.
    pub(crate) fn start_as(command: &mut Command) -> Self {
        Self { running: Some(Running::start(command)) }
    }

    /// One that runs until it is ended: exits to user space without end, and this many exits that KVM handles before each.
    pub(crate) fn endless(cpuids: u64, tsc_aux: impl Display) -> Self {
        Self::start(&format!("--outs 1000000000 --cpuids {cpuids} --tsc-aux {tsc_aux}"))
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.running().pid()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: i32) {
        self.running().signal(signal);
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// Ends it as `kill` does, and says what it did.
    pub(crate) fn stop(self) -> GuestOutcome {
        self.end_with(0)
    }

    /// The same of one that had more to do, and says so by its status.
    pub(crate) fn cut_short(self) -> GuestOutcome {
        self.end_with(1)
    }

    fn end_with(mut self, status: i32) -> GuestOutcome {
        let running = self.running.take().unwrap();
        running.signal(libc::SIGTERM);
        let ended = running.wait();
        assert_eq!(ended.status, status, "the guest: {ended:?}");
        json(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            drop(running);
            close_windows();
        }
    }
}
