//! What this machine has of hardware virtualization.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;

use crate::lab::Host;

const DEVICE: &str = "/dev/kvm";

/// As far as the lab needs it.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// The vendor of the CPU, if it is one whose KVM the lab knows.
    pub(super) cpu: Option<Host>,
    /// What the vendor's module says of nesting; none where it is not loaded.
    pub(super) nested: Option<String>,
    /// Whether the device can be opened, or why not.
    pub(super) device: Result<(), String>,
}

impl Machine {
    /// This one.
    pub(crate) fn this() -> Self {
        let cpu = vendor(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default());
        let parameter = |host: Host| fs::read_to_string(format!("/sys/module/{}/parameters/nested", host.kvm_module())).ok();
        Self { cpu, nested: cpu.and_then(parameter), device: device() }
    }

    /// One that has all of it.
    #[cfg(test)]
    pub(crate) fn that_nests(host: Host) -> Self {
        Self { cpu: Some(host), nested: Some("1".to_owned()), device: Ok(()) }
    }

    /// The host that its CPU makes, or why it makes none: an end of a sentence.
    pub(super) fn cpu(&self) -> Result<Host, String> {
        self.cpu.ok_or_else(|| "this machine's CPU is neither AMD's nor Intel's".to_owned())
    }

    /// Whether such a host can run here under KVM and have guests, or why not: an end of a sentence, with what to do.
    pub(super) fn nests(&self, host: Host) -> Result<(), String> {
        let module = host.kvm_module();
        let nested =
            self.nested.as_deref().ok_or_else(|| format!("{module} is not loaded on this machine (modprobe {module})"))?;
        if !is_on(nested) {
            return Err(format!("this machine's {module} does not nest (load it with nested=1)"));
        }
        self.device.clone()
    }
}

/// The vendor in the text of /proc/cpuinfo. Hygon's CPUs are AMD's to KVM (arch/x86/kvm/svm/svm.c, `svm_cpu_id`).
fn vendor(cpuinfo: &str) -> Option<Host> {
    let line = cpuinfo.lines().find(|line| line.starts_with("vendor_id"))?;
    match line.split_once(':')?.1.trim() {
        "AuthenticAMD" | "HygonGenuine" => Some(Host::Amd),
        "GenuineIntel" => Some(Host::Intel),
        _ => None,
    }
}

/// A module's switch: kvm_amd has a number, kvm_intel `Y` or `N`, and both have been the other.
fn is_on(parameter: &str) -> bool {
    matches!(parameter.trim(), "1" | "Y" | "y")
}

fn device() -> Result<(), String> {
    let opened = OpenOptions::new().read(true).write(true).open(DEVICE);
    opened.map(drop).map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("there is no {DEVICE} on this machine"),
        ErrorKind::PermissionDenied => format!("{DEVICE} may not be opened (run it as root, or join the group of {DEVICE})"),
        _ => format!("{DEVICE} cannot be opened ({error})"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vendor_is_the_one_that_kvm_knows() {
        let cpuinfo = |vendor: &str| format!("processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: 6\n");
        assert_eq!(vendor(&cpuinfo("AuthenticAMD")), Some(Host::Amd));
        assert_eq!(vendor(&cpuinfo("HygonGenuine")), Some(Host::Amd));
        assert_eq!(vendor(&cpuinfo("GenuineIntel")), Some(Host::Intel));
        assert_eq!(vendor(&cpuinfo("CentaurHauls")), None);
        assert_eq!(vendor("CPU implementer\t: 0x41\n"), None);
    }

    #[test]
    fn a_switch_is_a_number_or_a_letter() {
        for (text, on) in [("1\n", true), ("Y\n", true), ("0\n", false), ("N\n", false), ("", false)] {
            assert_eq!(is_on(text), on, "{text:?}");
        }
    }
}
