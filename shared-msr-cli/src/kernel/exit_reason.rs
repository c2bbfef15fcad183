//! Where the reason of a VM-exit is to be found at the tracepoint `kvm_exit`.

use std::fs;

use super::{
    btf::{Btf, KernelBtf},
    host::Vendor,
    vcpu,
};

/// The way from the tracepoint's arguments to the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasonPath {
    /// It is the first argument (up to 5.15).
    Argument,
    /// It is in the vCPU, which is the argument of this number.
    Vcpu {
        /// 0 from 5.16 on, 1 before.
        argument: u64,
        /// Offset in the vendor's vCPU structure: of the reason, or of a pointer.
        first: usize,
        /// Offset from where that pointer goes.
        second: Option<usize>,
    },
}

/// The classic tracepoint's record has the reason here from 4.4 to 7.3; used where the `format` file cannot be read.
pub const IN_RECORD: usize = 8;

impl ReasonPath {
    /// The way on the running kernel, or why BTF does not tell it.
    pub fn find(kvm: &KernelBtf, vendor: Vendor) -> Result<Self, String> {
        Self::from_btf(kvm.kvm()?, || kvm.vendor(vendor), vendor)
    }

    fn from_btf(kvm: &Btf, vendor_btf: impl FnOnce() -> Result<Btf, String>, vendor: Vendor) -> Result<Self, String> {
        let arguments = vcpu::exit_arguments(kvm).ok_or("KVM's BTF does not describe the tracepoint kvm_exit")?;
        let argument = match vcpu::position(&arguments) {
            Some(0) => 0,
            // (exit_reason, vcpu, isa): nothing needs to be read.
            Some(1) => return Ok(Self::Argument),
            _ => return Err(format!("the tracepoint kvm_exit has unknown arguments ({})", arguments.join(", "))),
        };
        let vendor_btf = vendor_btf()?;
        let offset = |structure: &str, path: &[&str]| {
            vendor_btf.offset(structure, path).ok_or_else(|| format!("BTF has no {structure}.{}", path.join(".")))
        };
        match vendor {
            // struct vcpu_vt is shared with TDX, at the same place (6.16 on); before, the reason was in vcpu_vmx itself.
            Vendor::Intel => {
                let first = offset("vcpu_vmx", &["vt", "exit_reason"]).or_else(|_| offset("vcpu_vmx", &["exit_reason"]))?;
                Ok(Self::Vcpu { argument, first, second: None })
            }
            Vendor::Amd => Ok(Self::Vcpu {
                argument,
                first: offset("vcpu_svm", &["vmcb"])?,
                second: Some(offset("vmcb", &["control", "exit_code"])?),
            }),
            Vendor::Pvm => Err("where kvm_pvm keeps the reason is not known".to_owned()),
        }
    }
}

/// Offsets in the classic tracepoint's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Of `exit_reason`.
    pub reason: usize,
    /// Of `vcpu_id`; none before 5.4, or where it is not known.
    pub vcpu_id: Option<usize>,
}

impl Record {
    /// On the running kernel.
    pub fn here() -> Self {
        let places = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
        let format = |place| fs::read_to_string(format!("{place}/events/kvm/kvm_exit/format")).ok();
        Self::parse(&places.into_iter().find_map(format).unwrap_or_default())
    }

    /// By the tracepoint's `format` file.
    fn parse(format: &str) -> Self {
        let offset = |field: &str| {
            let line = format.lines().find(|line| line.contains(&format!(" {field};")))?;
            line.split("offset:").nth(1)?.split(';').next()?.trim().parse().ok()
        };
        Self { reason: offset("exit_reason").unwrap_or(IN_RECORD), vcpu_id: offset("vcpu_id") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Real, see tests/data/kernels/README.md.
    macro_rules! saved {
        ($path:literal) => {
            include_bytes!(concat!("../../tests/data/kernels/", $path))
        };
    }

    fn path(kvm: &[u8], vendor_btf: &[u8], vendor: Vendor) -> Result<ReasonPath, String> {
        ReasonPath::from_btf(&Btf::parse(kvm.to_vec()).unwrap(), || Ok(Btf::parse(vendor_btf.to_vec()).unwrap()), vendor)
    }

    fn in_vcpu(first: usize, second: Option<usize>) -> Result<ReasonPath, String> {
        Ok(ReasonPath::Vcpu { argument: 0, first, second })
    }

    #[test]
    fn on_amd_it_is_behind_the_vmcb_pointer() {
        assert_eq!(path(saved!("6.1/kvm.btf"), saved!("6.1/kvm_amd.btf"), Vendor::Amd), in_vcpu(6552, Some(112)));
        assert_eq!(path(saved!("7.3/kvm.btf"), saved!("7.3/kvm_amd.btf"), Vendor::Amd), in_vcpu(6456, Some(112)));
    }

    #[test]
    fn on_intel_it_is_in_the_vcpu_and_from_6_16_in_what_vmx_and_tdx_share() {
        assert_eq!(path(saved!("6.1/kvm.btf"), saved!("6.1/kvm_intel.btf"), Vendor::Intel), in_vcpu(7808, None));
        assert_eq!(path(saved!("6.18/kvm.btf"), saved!("6.18/kvm_intel.btf"), Vendor::Intel), in_vcpu(6656 + 80, None));
        assert_eq!(path(saved!("7.3/kvm.btf"), saved!("7.3/kvm_intel.btf"), Vendor::Intel), in_vcpu(6464 + 80, None));
    }

    #[test]
    fn what_btf_does_not_tell_is_said() {
        let why = path(saved!("6.1/kvm_amd.btf"), saved!("6.1/kvm_amd.btf"), Vendor::Amd).unwrap_err();
        assert!(why.contains("kvm_exit"), "{why}");
        let why = path(saved!("6.1/kvm.btf"), saved!("6.1/kvm.btf"), Vendor::Amd).unwrap_err();
        assert!(why.contains("vcpu_svm.vmcb"), "{why}");
    }

    #[test]
    fn the_record_has_the_reason_at_the_same_place_in_all_eras_but_not_the_id() {
        for (series, vcpu_id, format) in [
            ("5.4", 48, include_str!("../../tests/data/kernels/5.4-from-source/kvm_exit.format")),
            ("5.10", 56, include_str!("../../tests/data/kernels/5.10/kvm_exit.format")),
            ("6.1", 56, include_str!("../../tests/data/kernels/6.1/kvm_exit.format")),
            ("7.3", 56, include_str!("../../tests/data/kernels/7.3/kvm_exit.format")),
        ] {
            assert_eq!(Record::parse(format), Record { reason: IN_RECORD, vcpu_id: Some(vcpu_id) }, "{series}");
        }
        assert_eq!(Record::parse("name: other"), Record { reason: IN_RECORD, vcpu_id: None });
    }
}
