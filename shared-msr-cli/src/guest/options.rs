//! What the guest is asked to do.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::GuestError;

/// What the guest is asked to do. [`Default`] is 200 `OUT`s with 10 `CPUID`s before each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestOptions {
    /// Exits to user space by `OUT`.
    pub outs: u64,
    /// Exits that stay in the kernel, by `CPUID`, before each `OUT`.
    pub cpuids: u64,
    /// Exits to user space by `HLT`, after all `OUT`s.
    pub hlts: u64,
    /// Exits to user space by a write to memory that is not there, after all `HLT`s.
    pub mmios: u64,
    /// `KVM_RUN` calls that a signal ends before the guest is entered, after all exits above.
    pub interrupts: u64,
    /// Whether the guest ends in a triple fault, after all else.
    pub shutdown: bool,
    /// The guest's `TSC_AUX`. Without it, the MSR is left as it is at reset, which is 0.
    pub tsc_aux: Option<TscAux>,
    /// The CPU to run on. Without it, the scheduler chooses.
    pub cpu: Option<usize>,
    /// Whether the guest goes on after its `OUT`s and `HLT`s, until it is stopped.
    pub spin: Option<Spin>,
    /// Ends the guest after this time, whatever it has done by then.
    pub duration: Option<Duration>,
}

impl Default for GuestOptions {
    fn default() -> Self {
        Self {
            outs: 200,
            cpuids: 10,
            hlts: 0,
            mmios: 0,
            interrupts: 0,
            shutdown: false,
            tsc_aux: None,
            cpu: None,
            spin: None,
            duration: None,
        }
    }
}

impl GuestOptions {
    /// Refuses what no guest could do.
    pub(super) fn validate(&self) -> Result<(), GuestError> {
        let returns = [self.hlts, self.mmios, self.interrupts, u64::from(self.shutdown)];
        let sum = returns.into_iter().try_fold(self.outs, u64::checked_add);
        sum.ok_or(GuestError::TooMany("returns to user space"))?;
        self.outs.checked_mul(self.cpuids).ok_or(GuestError::TooMany("CPUIDs"))?;
        let ends = self.interrupts > 0 || self.shutdown;
        if self.spin.is_some() && ends { Err(GuestError::SpinHasNoEnd) } else { Ok(()) }
    }
}

/// How the guest spends its time once it has made its `OUT`s and `HLT`s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Spin {
    /// In guest mode, with no exit of its own.
    Quiet,
    /// With one `CPUID` exit after the other. The kernel handles them; none goes to user space.
    Cpuid,
}

/// A value for the guest's `TSC_AUX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TscAux {
    /// This value.
    Value(u32),
    /// What the host has on the CPU the guest runs on, so that KVM has nothing to switch. As every CPU has its own, the
    /// guest is then pinned to the CPU it started on, unless another was asked for.
    Host,
}

impl FromStr for TscAux {
    type Err = ParseTscAuxError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "host" {
            return Ok(Self::Host);
        }
        let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            // from_str_radix would take a sign here.
            Some(hex) if hex.starts_with('+') => None,
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        };
        number.map(Self::Value).ok_or(ParseTscAuxError)
    }
}

impl fmt::Display for TscAux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => write!(f, "{value:#x}"),
            Self::Host => f.write_str("host"),
        }
    }
}

/// The text is no value for `TSC_AUX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("give a number of at most 32 bits, like 2748 or 0xabc, or the word host")]
pub struct ParseTscAuxError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tsc_aux_is_read_from_text() {
        assert_eq!("host".parse(), Ok(TscAux::Host));
        assert_eq!("0xabc".parse(), Ok(TscAux::Value(0xabc)));
        assert_eq!("0XFFFFFFFF".parse(), Ok(TscAux::Value(u32::MAX)));
        assert_eq!("2748".parse(), Ok(TscAux::Value(2748)));
        for wrong in ["", "0x", "0x+1", "-1", "0x100000000", "Host", "abc"] {
            assert_eq!(wrong.parse::<TscAux>(), Err(ParseTscAuxError), "{wrong}");
        }
    }

    #[test]
    fn tsc_aux_is_shown_as_it_is_read() {
        for text in ["host", "0xabc"] {
            assert_eq!(text.parse::<TscAux>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn defaults_are_valid() {
        let options = GuestOptions::default();
        assert!(options.validate().is_ok());
        assert_eq!((options.outs, options.cpuids, options.hlts), (200, 10, 0));
    }

    #[test]
    fn numbers_beyond_64_bits_are_refused() {
        let full = GuestOptions { outs: u64::MAX, cpuids: 0, ..GuestOptions::default() };
        assert!(full.validate().is_ok());
        for sum in [
            GuestOptions { hlts: 1, ..full.clone() },
            GuestOptions { mmios: 1, ..full.clone() },
            GuestOptions { interrupts: 1, ..full.clone() },
            GuestOptions { shutdown: true, ..full.clone() },
        ] {
            assert!(matches!(sum.validate(), Err(GuestError::TooMany("returns to user space"))));
        }
        let product = GuestOptions { outs: 1 << 40, cpuids: 1 << 40, ..GuestOptions::default() };
        assert!(matches!(product.validate(), Err(GuestError::TooMany("CPUIDs"))));
    }

    #[test]
    fn nothing_can_come_after_spinning() {
        let spin = GuestOptions { spin: Some(Spin::Quiet), mmios: 1, ..GuestOptions::default() };
        assert!(spin.validate().is_ok());
        for after in [GuestOptions { interrupts: 1, ..spin.clone() }, GuestOptions { shutdown: true, ..spin.clone() }] {
            assert!(matches!(after.validate(), Err(GuestError::SpinHasNoEnd)));
        }
    }

    #[test]
    fn no_exits_at_all_is_a_valid_wish() {
        // A control measurement: everything is set up, KVM_SET_MSRS included, and the vCPU never runs.
        assert!(GuestOptions { outs: 0, ..GuestOptions::default() }.validate().is_ok());
    }
}
