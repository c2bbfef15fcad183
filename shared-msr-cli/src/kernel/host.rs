//! The host: release, CPUs, KVM's modules.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use serde::{Deserialize, Serialize};

use super::{cpu_list, process::Processes};
use crate::obstacle::Obstacle;

/// Which part of KVM runs guests here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// kvm_intel: VMX.
    Intel,
    /// kvm_amd: SVM.
    Amd,
    /// kvm_pvm: no hardware support needed (virt-pvm/linux).
    Pvm,
}

impl Vendor {
    /// The vendor module's name as in /sys/module.
    pub const fn module(self) -> &'static str {
        match self {
            Self::Intel => "kvm_intel",
            Self::Amd => "kvm_amd",
            Self::Pvm => "kvm_pvm",
        }
    }

    /// Whose exit reasons they are, as KVM's tracepoints have it (`KVM_ISA_*`, arch/x86/kvm/trace.h).
    pub const fn isa(self) -> &'static str {
        match self {
            Self::Intel => "vmx",
            Self::Amd => "svm",
            Self::Pvm => "pvm",
        }
    }

    /// An exit reason as the kernel's headers write it: decimal in uapi/asm/vmx.h, hexadecimal in uapi/asm/svm.h. Bit 31 of
    /// VMX marks a failed entry.
    pub fn reason(self, reason: u32) -> String {
        match self {
            Self::Intel if reason < 0x8000_0000 => reason.to_string(),
            _ => format!("{reason:#x}"),
        }
    }
}

/// This machine.
#[derive(Clone, Debug)]
pub struct Host {
    /// `uname -r`.
    pub kernel: String,
    /// CPUs that are online now, as the kernel lists them.
    pub online_cpus: Vec<u32>,
    /// CPUs that can ever be there: per-CPU maps have a value for each.
    pub possible_cpus: Vec<u32>,
    /// Whose processes /proc shows here.
    pub processes: Processes,
}

impl Host {
    /// Reads /proc and /sys.
    pub fn read() -> Result<Self, Obstacle> {
        Ok(Self {
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            online_cpus: read_cpus("/sys/devices/system/cpu/online")?,
            possible_cpus: read_cpus("/sys/devices/system/cpu/possible")?,
            processes: Processes::read(),
        })
    }
}

/// The vendor module that is loaded or built in.
pub fn vendor() -> Result<Vendor, Obstacle> {
    let loaded = |module: &str| Path::new("/sys/module").join(module).exists();
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if let Some(vendor) = choose(loaded, &cpuinfo) {
        return Ok(vendor);
    }
    let (problem, loads) = if loaded("kvm") {
        ("KVM's module kvm is loaded, but neither kvm_intel nor kvm_amd is", "load the one for this CPU")
    } else {
        ("KVM is not loaded", "load the module for this CPU")
    };
    Err(Obstacle::new(problem, format!("{loads}: modprobe kvm_intel, or modprobe kvm_amd")))
}

/// Whether KVM is a module here, rather than part of vmlinux: only what was loaded has a state (kernel/module/main.c, `modinfo_attrs`).
pub fn kvm_is_module() -> bool {
    Path::new("/sys/module/kvm/initstate").exists()
}

/// Tells one loading of the vendor's module from the next: the number of its folder in sysfs, which is made anew each time. None
/// while it is not there.
pub fn loading(vendor: Vendor) -> Option<u64> {
    fs::metadata(Path::new("/sys/module").join(vendor.module())).ok().map(|folder| folder.ino())
}

/// The vendor module that is there; where both hardware vendors' are (built into the kernel, both are always listed), the
/// one for this CPU.
fn choose(loaded: impl Fn(&str) -> bool, cpuinfo: &str) -> Option<Vendor> {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let has = |flag: &str| flags.split_whitespace().any(|found| found == flag);
    let suits = |vendor: Vendor| match vendor {
        Vendor::Pvm => true,
        Vendor::Intel => has("vmx") || !loaded(Vendor::Amd.module()),
        Vendor::Amd => has("svm") || !loaded(Vendor::Intel.module()),
    };
    let vendors = [Vendor::Pvm, Vendor::Intel, Vendor::Amd];
    vendors.into_iter().find(|vendor| loaded(vendor.module()) && suits(*vendor))
}

fn read(path: &str) -> Result<String, Obstacle> {
    fs::read_to_string(path).map_err(|error| Obstacle::new(format!("{path} cannot be read ({error})"), "mount /proc and /sys"))
}

fn read_cpus(path: &str) -> Result<Vec<u32>, Obstacle> {
    let list = read(path)?;
    cpu_list::parse(&list).ok_or_else(|| Obstacle::new(format!("{path} holds {list:?}, not a list of CPUs"), "mount /sys"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_built_in_vendors_the_cpu_decides() {
        let both = |module: &str| ["kvm", "kvm_intel", "kvm_amd"].contains(&module);
        assert_eq!(choose(both, "flags\t\t: fpu svm\n"), Some(Vendor::Amd));
        assert_eq!(choose(both, "flags\t\t: fpu vmx\n"), Some(Vendor::Intel));
    }

    #[test]
    fn a_single_module_is_taken_whatever_the_cpu_says() {
        assert_eq!(choose(|module| module == "kvm_amd", ""), Some(Vendor::Amd));
        assert_eq!(choose(|module| module == "kvm_pvm", "flags : svm"), Some(Vendor::Pvm));
        assert_eq!(choose(|module| module == "kvm", "flags : svm"), None);
    }
}
