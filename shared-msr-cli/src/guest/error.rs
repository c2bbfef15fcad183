//! What can go wrong, each in one sentence that says what to do.

use std::io;

/// Why the guest did not run, or did not do what was asked.
///
/// Each sentence holds its cause already, so none is handed on as `source`: it would be printed twice.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The product or sum of two options does not fit 64 bits.
    #[error("that many {0} cannot be counted; ask for fewer")]
    TooMany(&'static str),
    /// A guest that spins has no end at which it could be interrupted or shut down.
    #[error("a guest that spins cannot make interrupts or a shutdown after it; leave out one of them")]
    SpinHasNoEnd,
    /// No KVM on this host, or not for this user.
    #[error("cannot open /dev/kvm: {0}; load kvm_amd or kvm_intel, or ask for access to the kvm group")]
    OpenKvm(io::Error),
    /// An ioctl of the set-up or of the read-back failed.
    #[error("KVM refused {call}: {error}; see whether another virtual machine starts on this host")]
    Ioctl {
        /// Name of the ioctl.
        call: &'static str,
        /// What the kernel returned.
        error: io::Error,
    },
    /// No memory for the guest.
    #[error("cannot get 2 MiB of memory for the guest: {0}; free some, or raise the limit")]
    Memory(io::Error),
    /// The wanted CPU does not exist, is offline or not allowed.
    #[error("cannot run on CPU {cpu}: {error}; choose one of Cpus_allowed_list in /proc/self/status")]
    Pin {
        /// The CPU that was asked for.
        cpu: usize,
        /// What the kernel returned.
        error: io::Error,
    },
    /// The CPU this runs on could not be found out.
    #[error("cannot tell which CPU this runs on: {0}; name one to run on")]
    CurrentCpu(io::Error),
    /// `--tsc-aux host` on a CPU that cannot read it.
    #[error("this CPU has no RDTSCP, so the host's TSC_AUX is unknown; give a number instead of host")]
    HostTscAuxUnknown,
    /// A value for `TSC_AUX` on a host whose guests have no such MSR.
    #[error("guests on this host have neither RDTSCP nor RDPID, so there is no TSC_AUX to set; leave it out")]
    NoTscAux,
    /// The kernel took only part of the list of MSRs.
    #[error("KVM_SET_MSRS refused {msr} = {value:#x}; see the kernel log for the reason")]
    MsrRefused {
        /// Name of the MSR.
        msr: &'static str,
        /// The value it was to get.
        value: u64,
    },
    /// An MSR has another value at the end than the one it was given.
    #[error(
        "{msr} was set to {asked:#x} but reads back as {read_back:#x} after the run; please report this with your kernel's version"
    )]
    ReadBack {
        /// Name of the MSR.
        msr: &'static str,
        /// The value it was given.
        asked: u64,
        /// The value `KVM_GET_MSRS` returned.
        read_back: u64,
    },
    /// An MSR could not be read after the run.
    #[error("KVM_GET_MSRS cannot read {0} after the run; please report this with your kernel's version")]
    MsrUnreadable(&'static str),
    /// The guest read another `TSC_AUX` than it should have.
    #[error(
        "the guest read TSC_AUX as {saw:#x} instead of {expected:#x} at OUT {out}; please report this with your kernel's version"
    )]
    TscAuxSeen {
        /// Which `OUT` carried the value, the first being 1.
        out: u64,
        /// The value it should have read.
        expected: u32,
        /// The value it read.
        saw: u32,
    },
    /// The vCPU stopped for another reason than the one that was due.
    #[error(
        "unexpected exit at KVM_RUN call {run}, RIP {rip:#x}: {exit} where {due} was due; please report this with your kernel's version"
    )]
    UnexpectedExit {
        /// Which `KVM_RUN` call, the first being 1.
        run: u64,
        /// Where the guest was.
        rip: u64,
        /// The exit, as the kernel reported it.
        exit: String,
        /// What should have come instead.
        due: &'static str,
    },
    /// The guest's own count of `CPUID`s is not what was asked for.
    #[error("the guest counted {counted} CPUIDs instead of {asked}; please report this with your kernel's version")]
    Cpuids {
        /// How many there should have been.
        asked: u64,
        /// How many the guest counted.
        counted: u64,
    },
    /// The signal that was to end a `KVM_RUN` call could not be sent, or was not there afterwards.
    #[error("a signal to end KVM_RUN could not be sent or taken back: {0}; see the limit on pending signals")]
    Interrupt(io::Error),
    /// Signals, or the means to wait for them, could not be set up.
    #[error("cannot wait for signals: {0}; see the limits on open files and pending signals")]
    Signals(io::Error),
    /// The vCPU's thread did not start.
    #[error("cannot start a thread for the vCPU: {0}; see the limit on processes")]
    Thread(io::Error),
    /// The vCPU's thread panicked.
    #[error("the vCPU's thread crashed; please report the message above")]
    Crashed,
}

impl GuestError {
    /// For `map_err` on the result of the ioctl `call`.
    pub(super) fn ioctl(call: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        move |error| Self::Ioctl { call, error: error.into() }
    }
}
