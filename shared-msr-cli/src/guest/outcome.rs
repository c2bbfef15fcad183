//! What the guest did, for people and for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::msrs;
use super::options::{GuestOptions, Spin};
use super::vcpu::Ran;

/// The version of the JSON form. It changes when a field changes its name or meaning, or goes away.
pub const SCHEMA: u32 = 1;

/// What the guest did. Serializes to the JSON form; [`GuestOutcome::text`] is the form for people.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct GuestOutcome {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The CPU the vCPU was pinned to; null if the scheduler chose.
    pub cpu: Option<usize>,
    /// `KVM_RUN` calls: `outs + hlts + mmios + interrupts + shutdowns + interrupted`.
    pub kvm_runs: u64,
    /// Those that ended in an `OUT`.
    pub outs: u64,
    /// Those that ended in a `HLT`.
    pub hlts: u64,
    /// Those that ended in a write to memory that is not there.
    pub mmios: u64,
    /// Those that ended because of a signal that was sent for that.
    pub interrupts: u64,
    /// Those that ended in a triple fault.
    pub shutdowns: u64,
    /// Those that ended because of any other signal, without an exit the guest asked for.
    pub interrupted: u64,
    /// `CPUID`s asked for before each `OUT`.
    pub cpuids_per_out: u64,
    /// `CPUID`s made, all of them in-kernel exits. Counted by the guest itself.
    pub cpuids: u64,
    /// `KVM_SET_MSRS` calls. One that sets an MSR of KVM's list adds one restore to those of `kvm_runs`.
    pub set_msrs_calls: u64,
    /// The guest's `TSC_AUX`.
    pub tsc_aux: TscAuxOutcome,
    /// The guest's `STAR`.
    pub star: ReadBack,
    /// The guest's `LSTAR`.
    pub lstar: ReadBack,
    /// The guest's `SYSCALL_MASK`.
    pub syscall_mask: ReadBack,
    /// How it spent its time after the exits: null, "quiet" or "cpuid".
    pub spin: Option<Spin>,
    /// What ended it.
    pub ended: Ended,
    /// Whether it did all that was asked for: each exit, and if it had a length of time to spin, all of that.
    pub complete: bool,
    /// From before the first `KVM_RUN` until after the last, in nanoseconds.
    pub duration_ns: u64,
}

/// `TSC_AUX` from all sides. Null where a side has nothing to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct TscAuxOutcome {
    /// What it was set to; null if it was left at its reset value.
    pub asked: Option<u32>,
    /// The host's on the CPU the guest was pinned to; null without pinning, as each CPU has its own.
    pub host: Option<u32>,
    /// What the guest read by `RDTSCP` at every `OUT`; null if it made none, or has no such instruction.
    pub guest_saw: Option<u32>,
    /// What `KVM_GET_MSRS` returned after the run; null if it was not set.
    pub read_back: Option<u64>,
}

/// An MSR that was set before the run and read after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ReadBack {
    /// The value it was given.
    pub asked: u64,
    /// The value it had at the end.
    pub read_back: u64,
}

/// What ended the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// It had made all its exits.
    Finished,
    /// Its time was up.
    Duration,
    /// SIGINT, as from Ctrl-C.
    Sigint,
    /// SIGTERM.
    Sigterm,
}

impl Ended {
    pub(super) fn from_signal(signal: i32) -> Self {
        if signal == libc::SIGINT { Self::Sigint } else { Self::Sigterm }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Finished => "it had made all its exits",
            Self::Duration => "its time was up",
            Self::Sigint => "SIGINT arrived",
            Self::Sigterm => "SIGTERM arrived",
        }
    }
}

impl GuestOutcome {
    pub(super) fn new(options: &GuestOptions, ran: &Ran, ended: Ended) -> Self {
        let all_made = ran.exits.all_made();
        // A reason to stop may come up when there is nothing left to stop.
        let ended = if all_made && options.spin.is_none() { Ended::Finished } else { ended };
        // Who spins without a length of time has a signal as the ordinary end.
        let long_enough = options.spin.is_none() || options.duration.is_none() || ended == Ended::Duration;
        let (star, lstar, syscall_mask) = (ran.read_back.star, ran.read_back.lstar, ran.read_back.syscall_mask);
        Self {
            schema: SCHEMA,
            cpu: ran.cpu,
            kvm_runs: ran.exits.runs,
            outs: ran.exits.outs,
            hlts: ran.exits.hlts,
            mmios: ran.exits.mmios,
            interrupts: ran.exits.interrupts,
            shutdowns: ran.exits.shutdowns,
            interrupted: ran.exits.interrupted,
            cpuids_per_out: options.cpuids,
            cpuids: ran.cpuids,
            set_msrs_calls: ran.set_msrs_calls,
            tsc_aux: TscAuxOutcome {
                asked: ran.tsc_aux_asked,
                host: ran.tsc_aux_host,
                guest_saw: ran.exits.tsc_aux_seen,
                read_back: ran.read_back.tsc_aux,
            },
            star: ReadBack { asked: msrs::STAR_VALUE, read_back: star },
            lstar: ReadBack { asked: msrs::LSTAR_VALUE, read_back: lstar },
            syscall_mask: ReadBack { asked: msrs::SYSCALL_MASK_VALUE, read_back: syscall_mask },
            spin: options.spin,
            ended,
            complete: all_made && long_enough,
            duration_ns: u64::try_from(ran.duration.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// A few lines for people, each ending in a newline.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_text(&mut text);
        text
    }

    /// The less usual exits, where there were any.
    fn others(&self) -> String {
        let kinds = [(self.mmios, "MMIO"), (self.interrupts, "by a signal"), (self.shutdowns, "shutdown")];
        kinds.into_iter().filter(|(number, _)| *number > 0).map(|(number, kind)| format!(", {number} {kind}")).collect()
    }

    fn write_text(&self, text: &mut String) -> std::fmt::Result {
        let on = self.cpu.map_or("wherever the scheduler put it".into(), |cpu| format!("on CPU {cpu}"));
        let time = Duration::from_nanos(self.duration_ns);
        writeln!(text, "The guest ran {on} for {time:.1?}, until {}.", self.ended.reason())?;
        if !self.complete {
            writeln!(text, "It was interrupted: it did not do all that was asked for. What it did:")?;
        }
        writeln!(
            text,
            "Exits to user space: {} ({} OUT, {} HLT{}), by {}; {} interrupted.",
            self.outs + self.hlts + self.mmios + self.interrupts + self.shutdowns,
            self.outs,
            self.hlts,
            self.others(),
            calls(self.kvm_runs, "KVM_RUN"),
            self.interrupted
        )?;
        let spinning = if self.spin == Some(Spin::Cpuid) { ", then one after the other" } else { "" };
        writeln!(text, "Exits in the kernel: {} CPUID ({} before each OUT{spinning}).", self.cpuids, self.cpuids_per_out)?;
        writeln!(text, "MSRs were set by {}, and read back as set:", calls(self.set_msrs_calls, "KVM_SET_MSRS"))?;
        for (name, msr) in [("STAR", self.star), ("LSTAR", self.lstar), ("SYSCALL_MASK", self.syscall_mask)] {
            writeln!(text, "  {name:12} {:#x}", msr.read_back)?;
        }
        let known = |value: Option<u32>, otherwise: &str| value.map_or(otherwise.into(), |value| format!("{value:#x}"));
        let asked = known(self.tsc_aux.asked, "not set");
        let saw = known(self.tsc_aux.guest_saw, "nothing");
        let host = known(self.tsc_aux.host, if self.cpu.is_some() { "one that cannot be read" } else { "another on each CPU" });
        writeln!(text, "  {:12} {asked}; the guest saw {saw}, the host has {host}", "TSC_AUX")
    }
}

/// "1 `KVM_RUN` call", "2 `KVM_RUN` calls".
fn calls(number: u64, name: &str) -> String {
    format!("{number} {name} call{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::super::exits::{Exit, Exits};
    use super::super::msrs::MsrsReadBack;
    use super::*;

    fn options() -> GuestOptions {
        GuestOptions { outs: 2, cpuids: 10, hlts: 1, ..GuestOptions::default() }
    }

    fn ran(options: &GuestOptions, exits: &[Exit]) -> Ran {
        let mut counted = Exits::new(options, Some(0xabc), true);
        for exit in exits {
            counted.count(*exit).unwrap();
        }
        let read_back =
            MsrsReadBack { star: msrs::STAR_VALUE, lstar: msrs::LSTAR_VALUE, syscall_mask: 0x700, tsc_aux: Some(0xabc) };
        Ran {
            cpuids: counted.outs * options.cpuids,
            exits: counted,
            cpu: Some(1),
            tsc_aux_asked: Some(0xabc),
            tsc_aux_host: Some(1),
            set_msrs_calls: 1,
            read_back,
            duration: Duration::from_micros(1500),
        }
    }

    const ALL: [Exit; 3] = [Exit::Out(0xabc), Exit::Out(0xabc), Exit::Hlt];

    #[test]
    fn text_of_a_finished_guest() {
        let text = GuestOutcome::new(&options(), &ran(&options(), &ALL), Ended::Finished).text();
        let expected = "\
The guest ran on CPU 1 for 1.5ms, until it had made all its exits.
Exits to user space: 3 (2 OUT, 1 HLT), by 3 KVM_RUN calls; 0 interrupted.
Exits in the kernel: 20 CPUID (10 before each OUT).
MSRs were set by 1 KVM_SET_MSRS call, and read back as set:
  STAR         0x13000800000000
  LSTAR        0x123456789000
  SYSCALL_MASK 0x700
  TSC_AUX      0xabc; the guest saw 0xabc, the host has 0x1
";
        assert_eq!(text, expected);
    }

    #[test]
    fn text_says_what_is_not_known() {
        let mut ran = ran(&options(), &[Exit::Interrupted]);
        (ran.cpu, ran.tsc_aux_asked, ran.tsc_aux_host) = (None, None, None);
        let text = GuestOutcome::new(&options(), &ran, Ended::Sigint).text();
        assert!(
            text.starts_with("The guest ran wherever the scheduler put it for 1.5ms, until SIGINT arrived.\nIt was interrupted")
        );
        assert!(text.contains("0 (0 OUT, 0 HLT), by 1 KVM_RUN call; 1 interrupted."), "{text}");
        assert!(text.ends_with("not set; the guest saw nothing, the host has another on each CPU\n"), "{text}");
    }

    #[test]
    fn json_has_the_documented_fields() {
        let outcome = GuestOutcome::new(&options(), &ran(&options(), &ALL), Ended::Finished);
        let json = serde_json::to_value(&outcome).unwrap();
        let expected = serde_json::json!({
            "schema": 1, "cpu": 1, "kvm_runs": 3, "outs": 2, "hlts": 1, "interrupted": 0,
            "mmios": 0, "interrupts": 0, "shutdowns": 0,
            "cpuids_per_out": 10, "cpuids": 20, "set_msrs_calls": 1,
            "tsc_aux": { "asked": 0xabc, "host": 1, "guest_saw": 0xabc, "read_back": 0xabc },
            "star": { "asked": 0x0013_0008_0000_0000u64, "read_back": 0x0013_0008_0000_0000u64 },
            "lstar": { "asked": 0x1234_5678_9000u64, "read_back": 0x1234_5678_9000u64 },
            "syscall_mask": { "asked": 0x700, "read_back": 0x700 },
            "spin": null, "ended": "finished", "complete": true, "duration_ns": 1_500_000,
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn text_names_the_less_usual_exits() {
        let options = GuestOptions { outs: 0, mmios: 2, interrupts: 1, shutdown: true, ..GuestOptions::default() };
        let mut ran = ran(&options, &[Exit::Mmio, Exit::Mmio]);
        ran.exits.count_interrupt(Exit::Interrupted).unwrap();
        ran.exits.count(Exit::Shutdown).unwrap();
        let text = GuestOutcome::new(&options, &ran, Ended::Finished).text();
        let expected =
            "Exits to user space: 4 (0 OUT, 0 HLT, 2 MMIO, 1 by a signal, 1 shutdown), by 4 KVM_RUN calls; 0 interrupted.";
        assert!(text.contains(expected), "{text}");
    }

    fn complete(spin: Option<Spin>, duration: Option<Duration>, exits: &[Exit], ended: Ended) -> bool {
        let options = GuestOptions { spin, duration, ..options() };
        GuestOutcome::new(&options, &ran(&options, exits), ended).complete
    }

    #[test]
    fn complete_means_all_exits_and_all_of_the_time() {
        let (quiet, second) = (Some(Spin::Quiet), Some(Duration::from_secs(1)));
        assert!(complete(None, second, &ALL, Ended::Finished));
        assert!(!complete(None, second, &ALL[..2], Ended::Duration));
        assert!(!complete(None, None, &ALL[..2], Ended::Sigterm));
        assert!(complete(quiet, None, &ALL, Ended::Sigterm));
        assert!(complete(quiet, second, &ALL, Ended::Duration));
        assert!(!complete(quiet, second, &ALL, Ended::Sigint));
        assert!(!complete(quiet, None, &ALL[..1], Ended::Sigint));
    }

    #[test]
    fn a_late_signal_changes_nothing() {
        let outcome = GuestOutcome::new(&options(), &ran(&options(), &ALL), Ended::Sigint);
        assert_eq!((outcome.ended, outcome.complete), (Ended::Finished, true));
    }
}
