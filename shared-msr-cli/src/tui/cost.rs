//! What measuring costs.

use std::time::Duration;

use super::source::Cost;

/// The present cost, with what the kernel says of the programs.
pub(super) fn of(kernel: Option<Duration>) -> Cost {
    // SAFETY: all zeros is a valid `rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a place for one `rusage`.
    let done = unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    let time = |time: libc::timeval| {
        Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0))
            + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
    };
    let process = if done == 0 { time(usage.ru_utime) + time(usage.ru_stime) } else { Duration::ZERO };
    Cost { kernel, process }
}

/// The cost of an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share {
    /// Percent of one CPU that the kernel-side programs took; none where the kernel does not say.
    pub kernel: Option<f64>,
    /// Percent of one CPU that this process took.
    pub process: f64,
}

impl Share {
    /// What was spent between two samples that are so far apart.
    pub fn between(before: Cost, after: Cost, apart: Duration) -> Self {
        let seconds = apart.as_secs_f64();
        let percent = |before: Duration, after: Duration| {
            if seconds > 0.0 { after.saturating_sub(before).as_secs_f64() / seconds * 100.0 } else { 0.0 }
        };
        let kernel = before.kernel.zip(after.kernel).map(|(before, after)| percent(before, after));
        Self { kernel, process: percent(before.process, after.process) }
    }
}
