//! Whether the kernel is locked down (Documentation/admin-guide/kernel-parameters.txt, `lockdown=`).

use std::fs;

/// Where the kernel says so.
const FILE: &str = "/sys/kernel/security/lockdown";

/// What to do where lockdown forbids to read kernel memory.
pub const LOCKED_DOWN: &str = "boot the kernel without lockdown=confidentiality (see /sys/kernel/security/lockdown)";

/// The file's words; none where there is no such file.
pub fn modes() -> Option<String> {
    Some(fs::read_to_string(FILE).ok()?.trim().to_owned())
}

/// Whether kernel memory must not be read: `bpf_probe_read_kernel` is refused then.
pub fn is_confidential() -> bool {
    modes().is_some_and(|modes| confidential(&modes))
}

/// The mode in force stands in brackets.
fn confidential(modes: &str) -> bool {
    modes.contains("[confidentiality]")
}

#[cfg(test)]
mod tests {
    use super::confidential;

    #[test]
    fn only_the_mode_in_brackets_is_in_force() {
        assert!(confidential("none integrity [confidentiality]"));
        assert!(!confidential("[none] integrity confidentiality"));
        assert!(!confidential("none [integrity] confidentiality"));
    }
}
