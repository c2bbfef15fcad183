//! A tiny KVM guest that makes a known number of exits.
//!
//! One VM with one vCPU runs a handful of instructions in long mode. They make exactly as many exits as were asked for:
//! `OUT`, `HLT` (there is no in-kernel interrupt controller) and writes to memory that is not there go to user space, `CPUID`
//! stays in the kernel. A `KVM_RUN` call can also be ended by a signal before the guest is entered, and a triple fault can end
//! it all. No exit is added at the end: the program is simply not run again after the last one that was asked for. So the
//! number of `KVM_RUN` calls is `outs + hlts + mmios + interrupts + shutdowns`, and with it, on a host where nothing else runs
//! on that CPU, the number of times KVM restores the host's values. A call that a signal ends is one of them: KVM loads the
//! guest's values before it looks for signals, so a window opens and closes without an exit.
//!
//! # What else a count contains
//!
//! - `KVM_SET_MSRS` of `TSC_AUX` makes KVM write the guest's value there and then, and restore the host's when the
//!   call returns: one restore more than `KVM_RUN` calls. It happens in one call, which carries all MSRs;
//!   [`GuestOutcome::set_msrs_calls`] says so. Ask for no `TSC_AUX`, and this one is not there.
//! - Interrupts, timer ticks and first touches of guest memory are exits of the hardware that nobody asked for. They do not go
//!   to user space.
//! - A shutdown is preceded by an exit that KVM handles itself: it intercepts the exception of the UD2 and hands it to the guest.
//! - Another task that runs on the CPU in the meantime pays for a restore, and the guest's values have to be written again. The
//!   threads of this module sleep while the guest runs; the rest is up to the host.
//!
//! # How it is built
//!
//! [`run`] starts a thread for the vCPU and sleeps until that one is done, a signal arrives or the time is up. The vCPU's
//! thread pins itself, sets everything up on the CPU it will run on, and goes through all `KVM_RUN` calls without any other
//! system call, but for two: it sends itself the signal that is to end a call, and takes it back afterwards; and it reads
//! registers and MSRs before a shutdown, after which `kvm_amd` has reset them.

mod code;
mod cpu;
mod error;
mod exits;
mod layout;
mod link;
mod machine;
mod memory;
mod msrs;
mod options;
mod outcome;
mod signals;
mod vcpu;

use std::os::unix::thread::JoinHandleExt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub use error::GuestError;
pub use options::{GuestOptions, ParseTscAuxError, Spin, TscAux};
pub use outcome::{Ended, GuestOutcome, ReadBack, SCHEMA, TscAuxOutcome};

use link::{Link, Stage};
use signals::{Kick, Signals, Wake};
use vcpu::Ran;

/// How often the vCPU is kicked until it has noticed. Once is enough, unless the kick arrives in the few instructions
/// between the look at the stop flag and `KVM_RUN`.
const KICK_EVERY: Duration = Duration::from_millis(10);

/// Runs the guest and returns when it has made its exits, when its time is up, or when SIGINT or SIGTERM arrives.
///
/// The two signals are blocked in the calling thread for the duration of the call, and taken from there. So that they reach
/// it, no other thread of the process may have them unblocked: call this before any runtime with threads of its own is
/// started.
///
/// # Errors
///
/// When KVM cannot be used, when an option asks for what this host cannot do, and when the guest did anything other than
/// the exits that were asked for.
pub fn run(options: &GuestOptions) -> Result<GuestOutcome, GuestError> {
    options.validate()?;
    // Before the thread is started: it inherits the mask, and so never takes these signals itself.
    let signals = Signals::block().map_err(GuestError::Signals)?;
    let kick = Kick::install().map_err(GuestError::Signals)?;
    let link = Arc::new(Link::new().map_err(GuestError::Signals)?);

    let thread = {
        let (options, link) = (options.clone(), Arc::clone(&link));
        let body = move || vcpu::run(&options, &link, kick);
        thread::Builder::new().name("guest-vcpu".into()).spawn(body).map_err(GuestError::Thread)?
    };
    let watched = watch(options, &signals, &link);
    // Also after an error: the thread must be gone before the handler of the kick is.
    stop(&link, kick, &thread);
    let ran = thread.join().map_err(|_| GuestError::Crashed)??;
    let ended = watched.map_err(GuestError::Signals)?;
    Ok(GuestOutcome::new(options, &ran, ended))
}

/// Sleeps until there is a reason to end the guest, and returns that reason.
fn watch(options: &GuestOptions, signals: &Signals, link: &Link) -> std::io::Result<Ended> {
    let mut deadline = None;
    loop {
        match signals.wait(link, deadline)? {
            Wake::Signal(signal) => return Ok(Ended::from_signal(signal)),
            Wake::TimeUp => return Ok(Ended::Duration),
            Wake::Vcpu => match link.stage() {
                Stage::Finished => return Ok(Ended::Finished),
                // The set-up is not part of the time that was asked for; the rest of the settling time is.
                Stage::Running => {
                    let length = options.duration.map(|length| length.saturating_add(vcpu::SETTLE));
                    deadline = length.and_then(|length| Instant::now().checked_add(length));
                }
                Stage::Preparing => {}
            },
        }
    }
}

/// Makes the vCPU's thread leave the guest, and returns once it has.
fn stop(link: &Link, kick: Kick, thread: &JoinHandle<Result<Ran, GuestError>>) {
    link.ask_to_stop();
    loop {
        match link.stage() {
            // `is_finished` is here for a thread that ended in a way that its guard could not tell.
            Stage::Finished => return,
            _ if thread.is_finished() => return,
            // Not while preparing: a signal could fail a system call of the set-up, and the flag is enough.
            Stage::Preparing => {}
            Stage::Running => kick.send(thread.as_pthread_t()),
        }
        link.wait_at_most(KICK_EVERY);
    }
}
