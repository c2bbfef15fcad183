//! Signals: those that end the guest, and the one that gets its vCPU out of `KVM_RUN`.
//!
//! SIGINT and SIGTERM are blocked and read from a descriptor, so nothing has to happen in a signal handler. The kick has a
//! handler that does nothing: that it runs is what makes `KVM_RUN` return with EINTR.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};
use std::{mem, ptr};

use super::link::Link;

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// The vCPU's thread entered another stage.
    Vcpu,
    /// This signal arrived.
    Signal(i32),
    /// The deadline has passed.
    TimeUp,
}

/// SIGINT and SIGTERM, blocked in the thread that made this until it is dropped.
pub(super) struct Signals {
    descriptor: File,
    mask_before: libc::sigset_t,
}

impl Signals {
    pub(super) fn block() -> io::Result<Self> {
        let set = set_of(&[libc::SIGINT, libc::SIGTERM])?;
        // SAFETY: the set is initialized, and -1 asks for a new descriptor.
        let descriptor = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was made just now, and nobody else knows it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Ok(Self { descriptor: descriptor.into(), mask_before: change_mask(libc::SIG_BLOCK, &set)? })
    }

    /// Sleeps until something happens. A signal comes before news of the vCPU, and both before the deadline.
    pub(super) fn wait(&self, link: &Link, deadline: Option<Instant>) -> io::Result<Wake> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let mut descriptors = [readable(self.descriptor.as_raw_fd()), readable(link.event())];
            poll(&mut descriptors, left)?;
            if let Some(signal) = self.next() {
                return Ok(Wake::Signal(signal));
            }
            if descriptors[1].revents != 0 {
                link.clear();
                return Ok(Wake::Vcpu);
            }
            // Not because poll returned: another signal may have ended it.
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(Wake::TimeUp);
            }
        }
    }

    /// The next signal that has arrived.
    fn next(&self) -> Option<i32> {
        let mut record = [0u8; size_of::<libc::signalfd_siginfo>()];
        let length = (&self.descriptor).read(&mut record).ok()?;
        // ssi_signo is the first field of the record.
        let number = record.get(..length)?.first_chunk::<4>()?;
        Some(i32::from_ne_bytes(*number))
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // An impatient second Ctrl-C is answered by the end of the guest, too. Left pending, it would end the process as
        // soon as it is unblocked, before anything is printed.
        while self.next().is_some() {}
        // Fails only for a wrong first argument.
        let _ = change_mask(libc::SIG_SETMASK, &self.mask_before);
    }
}

/// The signal that interrupts `KVM_RUN`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kick {
    signal: i32,
}

impl Kick {
    /// Gives the signal its handler, for the rest of the process: one that does nothing can stay, and taking it away while
    /// another guest still uses it would end the process.
    pub(super) fn install() -> io::Result<Self> {
        extern "C" fn nothing(_: libc::c_int) {}

        let signal = libc::SIGRTMIN();
        // SAFETY: all zeroes is a valid sigaction: no flags, so no SA_RESTART, and nothing blocked meanwhile.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: the handler is a function that is always there and is async-signal-safe, as it does nothing.
        let result = unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
        if result == 0 { Ok(Self { signal }) } else { Err(io::Error::last_os_error()) }
    }

    /// Lets the calling thread receive it, whatever mask it inherited.
    pub(super) fn unblock(self) -> io::Result<()> {
        change_mask(libc::SIG_UNBLOCK, &set_of(&[self.signal])?).map(drop)
    }

    /// Sends it to a thread of this process that was not joined yet.
    pub(super) fn send(self, thread: libc::pthread_t) {
        // SAFETY: a thread's id is valid until it is joined, even after its end.
        // An error means that there is no thread left to kick.
        unsafe { libc::pthread_kill(thread, self.signal) };
    }
}

/// The signal that is sent on purpose, so that the next `KVM_RUN` returns before the guest is entered. Blocked in the calling
/// thread, so it never does anything else; unblocked only inside of `KVM_RUN`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interrupt {
    signal: i32,
}

impl Interrupt {
    /// Blocks it in the calling thread.
    pub(super) fn block() -> io::Result<Self> {
        let interrupt = Self { signal: libc::SIGRTMIN() + 1 };
        change_mask(libc::SIG_BLOCK, &set_of(&[interrupt.signal])?)?;
        Ok(interrupt)
    }

    /// What the calling thread blocks, but for this one, in the form that `KVM_SET_SIGNAL_MASK` takes: the kernel's 64 signals.
    pub(super) fn mask_in_guest(self) -> io::Result<[u8; 8]> {
        // SAFETY: sigset_t is a plain array of numbers.
        let nothing: libc::sigset_t = unsafe { mem::zeroed() };
        let mut mask = change_mask(libc::SIG_BLOCK, &nothing)?;
        // SAFETY: the set is initialized.
        if unsafe { libc::sigdelset(&raw mut mask, self.signal) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel's mask is the first 8 bytes of libc's, on x86 in the same order.
        Ok(unsafe { ptr::read((&raw const mask).cast()) })
    }

    /// Sends it to the calling thread.
    pub(super) fn send(self) -> io::Result<()> {
        // SAFETY: has no effect on memory.
        let this = unsafe { libc::pthread_self() };
        // SAFETY: the calling thread exists.
        match unsafe { libc::pthread_kill(this, self.signal) } {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Takes it back, so that it is not pending any more.
    pub(super) fn take(self) -> io::Result<()> {
        let set = set_of(&[self.signal])?;
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the set and the time are initialized, and no information is asked for.
        let taken = unsafe { libc::sigtimedwait(&raw const set, ptr::null_mut(), &raw const now) };
        if taken == self.signal { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

fn set_of(signals: &[i32]) -> io::Result<libc::sigset_t> {
    // SAFETY: sigset_t is a plain array of numbers.
    let mut set: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: writes to the set it is given.
    unsafe { libc::sigemptyset(&raw mut set) };
    for &signal in signals {
        // SAFETY: the set is initialized.
        if unsafe { libc::sigaddset(&raw mut set, signal) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(set)
}

/// Changes the signals the calling thread blocks; returns what it blocked before.
fn change_mask(how: i32, set: &libc::sigset_t) -> io::Result<libc::sigset_t> {
    // SAFETY: sigset_t is a plain array of numbers.
    let mut before: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: both sets are initialized.
    match unsafe { libc::pthread_sigmask(how, set, &raw mut before) } {
        0 => Ok(before),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// A wish for [`poll`]: that this descriptor becomes readable.
pub(super) fn readable(descriptor: RawFd) -> libc::pollfd {
    libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 }
}

/// Sleeps until a descriptor is readable, the time is up, or a signal handler ran; that is no error.
pub(super) fn poll(descriptors: &mut [libc::pollfd], time: Option<Duration>) -> io::Result<()> {
    let time = time.map(|time| libc::timespec {
        // More seconds than fit are as good as for ever.
        tv_sec: time.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: time.subsec_nanos().into(),
    });
    let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the array is as long as said, the time is valid or null, and no mask is given.
    let result = unsafe { libc::ppoll(descriptors.as_mut_ptr(), descriptors.len() as libc::nfds_t, time, ptr::null()) };
    if result >= 0 {
        return Ok(());
    }
    // After an error, what poll found is undefined.
    descriptors.iter_mut().for_each(|descriptor| descriptor.revents = 0);
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::thread::JoinHandleExt;
    use std::sync::mpsc;
    use std::thread;

    use super::super::link::Stage;
    use super::*;

    /// To the calling thread only: to the process, it could end the test harness.
    fn raise(signal: i32) {
        // SAFETY: has no effect on memory.
        let this = unsafe { libc::pthread_self() };
        // SAFETY: the calling thread exists.
        assert_eq!(unsafe { libc::pthread_kill(this, signal) }, 0);
    }

    #[test]
    fn signals_news_and_deadline_end_the_wait() {
        let (signals, link) = (Signals::block().unwrap(), Link::new().unwrap());
        let soon = Some(Instant::now() + Duration::from_millis(1));
        assert_eq!(signals.wait(&link, soon).unwrap(), Wake::TimeUp);
        link.enter(Stage::Running);
        raise(libc::SIGTERM);
        assert_eq!(signals.wait(&link, soon).unwrap(), Wake::Signal(libc::SIGTERM));
        assert_eq!(signals.wait(&link, soon).unwrap(), Wake::Vcpu);
        assert_eq!(signals.wait(&link, soon).unwrap(), Wake::TimeUp);
    }

    #[test]
    fn signals_nobody_waited_for_do_no_harm() {
        let signals = Signals::block().unwrap();
        raise(libc::SIGINT);
        raise(libc::SIGTERM);
        drop(signals);
    }

    #[test]
    fn an_interrupt_waits_until_it_is_taken_and_is_not_blocked_in_the_guest() {
        // In a thread of its own, whose mask nobody else depends on.
        let test = || {
            let interrupt = Interrupt::block().unwrap();
            let bit = 1_u64 << (interrupt.signal - 1);
            assert_eq!(u64::from_ne_bytes(interrupt.mask_in_guest().unwrap()) & bit, 0);
            interrupt.send().unwrap();
            interrupt.take().unwrap();
            assert!(interrupt.take().is_err(), "it is pending only once");
        };
        thread::spawn(test).join().unwrap();
    }

    #[test]
    fn a_kick_interrupts_a_sleeping_call() {
        let kick = Kick::install().unwrap();
        let (sender, receiver) = mpsc::channel();
        let sleeper = thread::spawn(move || {
            kick.unblock().unwrap();
            sender.send(()).unwrap();
            // SAFETY: sleeps until a handler has run.
            unsafe { libc::pause() };
        });
        receiver.recv().unwrap();
        while !sleeper.is_finished() {
            kick.send(sleeper.as_pthread_t());
            thread::sleep(Duration::from_millis(1));
        }
        sleeper.join().unwrap();
    }
}
