//! What this process may do.

use std::fs;

use crate::obstacle::Obstacle;

// include/uapi/linux/capability.h
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYSLOG: u32 = 34;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Whether this process may load and attach the programs; says in words by which right.
pub fn check() -> Result<String, Obstacle> {
    let status = fs::read_to_string("/proc/self/status")
        .map_err(|error| Obstacle::new(format!("/proc/self/status cannot be read ({error})"), "mount /proc"))?;
    judge(&status)
}

/// Whether this process may attach kprobes, which are perf events.
pub fn check_perf_events() -> Result<(), Obstacle> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    // Absent without perf events; attaching says so then.
    let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").ok();
    judge_perf_events(&status, paranoid.and_then(|level| level.trim().parse().ok()))
}

/// Judges the text of /proc/self/status.
fn judge(status: &str) -> Result<String, Obstacle> {
    if has(status, CAP_SYS_ADMIN) {
        return Ok("CAP_SYS_ADMIN".to_owned());
    }
    let missing: Vec<&str> = [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON"), (CAP_SYSLOG, "CAP_SYSLOG")]
        .into_iter()
        .filter_map(|(capability, name)| (!has(status, capability)).then_some(name))
        .collect();
    if missing.is_empty() {
        return Ok("CAP_BPF, CAP_PERFMON and CAP_SYSLOG".to_owned());
    }
    Err(Obstacle::new(
        format!("this process may not measure the kernel: it lacks {}", missing.join(", ")),
        "run it as root (sudo shared-msr ...)",
    ))
}

/// Judges also the sysctl kernel.perf_event_paranoid: Debian's and Ubuntu's kernels have a level that lets only
/// CAP_SYS_ADMIN open perf events.
fn judge_perf_events(status: &str, paranoid: Option<i32>) -> Result<(), Obstacle> {
    if has(status, CAP_SYS_ADMIN) || paranoid.is_none_or(|level| level <= 2) {
        return Ok(());
    }
    Err(Obstacle::new(
        "this process may not attach kprobes, nor open other perf events: it lacks CAP_SYS_ADMIN, and the sysctl kernel.perf_event_paranoid is above 2",
        "run it as root (sudo shared-msr ...), or set that sysctl to 2",
    ))
}

/// Whether the process of this status has a capability in effect.
fn has(status: &str, capability: u32) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|value| u64::from_str_radix(value.trim(), 16).ok()).unwrap_or(0);
    effective >> capability & 1 != 0
}

#[cfg(test)]
mod tests {
    use super::{judge, judge_perf_events};

    #[test]
    fn root_may_measure() {
        assert!(judge("Name:\tx\nCapEff:\t000001ffffffffff\n").is_ok());
    }

    #[test]
    fn the_three_capabilities_are_enough() {
        assert!(judge("CapEff:\t000000c400000000\n").is_ok());
    }

    #[test]
    fn debian_s_default_wants_more_than_the_three_capabilities_for_kprobes() {
        let obstacle = judge_perf_events("CapEff:\t000000c400000000\n", Some(3)).unwrap_err().to_string();
        assert!(obstacle.contains("perf_event_paranoid") && obstacle.contains("root"), "{obstacle}");
        assert!(judge_perf_events("CapEff:\t000000c400000000\n", Some(2)).is_ok());
        assert!(judge_perf_events("CapEff:\t000001ffffffffff\n", Some(4)).is_ok());
    }

    #[test]
    fn a_plain_user_is_told_what_is_missing_and_what_to_do() {
        let obstacle = judge("CapEff:\t0000000000000000\n").unwrap_err().to_string();
        assert!(obstacle.contains("CAP_BPF, CAP_PERFMON, CAP_SYSLOG") && obstacle.contains("sudo"), "{obstacle}");
    }
}
