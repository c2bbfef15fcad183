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
    from_status(&status)
}

fn from_status(status: &str) -> Result<String, Obstacle> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|value| u64::from_str_radix(value.trim(), 16).ok())
        .unwrap_or(0);
    let has = |capability: u32| effective >> capability & 1 != 0;
    if has(CAP_SYS_ADMIN) {
        return Ok("CAP_SYS_ADMIN".to_owned());
    }
    let missing: Vec<&str> = [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON"), (CAP_SYSLOG, "CAP_SYSLOG")]
        .into_iter()
        .filter_map(|(capability, name)| (!has(capability)).then_some(name))
        .collect();
    if missing.is_empty() {
        return Ok("CAP_BPF, CAP_PERFMON and CAP_SYSLOG".to_owned());
    }
    Err(Obstacle::new(
        format!("this process may not measure the kernel: it lacks {}", missing.join(", ")),
        "run it as root (sudo shared-msr ...)",
    ))
}

#[cfg(test)]
mod tests {
    use super::from_status;

    #[test]
    fn root_may_measure() {
        assert!(from_status("Name:\tx\nCapEff:\t000001ffffffffff\n").is_ok());
    }

    #[test]
    fn the_three_capabilities_are_enough() {
        assert!(from_status("CapEff:\t000000c400000000\n").is_ok());
    }

    #[test]
    fn a_plain_user_is_told_what_is_missing_and_what_to_do() {
        let obstacle = from_status("CapEff:\t0000000000000000\n").unwrap_err().to_string();
        assert!(obstacle.contains("CAP_BPF, CAP_PERFMON, CAP_SYSLOG") && obstacle.contains("sudo"), "{obstacle}");
    }
}
