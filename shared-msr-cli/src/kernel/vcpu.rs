//! Where KVM's `struct kvm_vcpu` is to be found at the tracepoint `kvm_exit`, and the vCPU's id in it.

use super::btf::{Btf, KernelBtf};

/// What the programs have to know of vCPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VcpuFacts {
    /// Whether the vCPU is known to be the first argument of `trace_kvm_exit` (from 5.16 on).
    pub is_first_argument: bool,
    /// Offset of `kvm`, the vCPU's VM. The first member in all versions, where BTF does not tell.
    pub kvm: usize,
    /// Offset of `vcpu_id` (include/linux/kvm_host.h); none where BTF does not tell.
    pub id: Option<usize>,
    /// Offset of `arch.last_vmentry_cpu`, where a vCPU was entered last (1aa561b1a4c0, Linux 5.9); none where BTF does not tell.
    pub last_entry_cpu: Option<usize>,
}

impl VcpuFacts {
    /// On the running kernel.
    pub fn find(kernel: &KernelBtf) -> Self {
        kernel.kvm().map_or_else(|_| Self::default(), Self::from_btf)
    }

    fn from_btf(kvm: &Btf) -> Self {
        let position = exit_arguments(kvm).and_then(|arguments| position(&arguments));
        let offset = |path: &[&str]| kvm.offset("kvm_vcpu", path);
        Self {
            is_first_argument: position == Some(0),
            kvm: offset(&["kvm"]).unwrap_or_default(),
            id: offset(&["vcpu_id"]),
            last_entry_cpu: offset(&["arch", "last_vmentry_cpu"]),
        }
    }
}

/// Which of the arguments is the vCPU.
pub(super) fn position(arguments: &[String]) -> Option<usize> {
    arguments.iter().position(|argument| argument == "kvm_vcpu")
}

/// The tracepoint's arguments without the first, which is not ours: names of the structures that pointers go to, else the
/// types' own names.
pub(super) fn exit_arguments(kvm: &Btf) -> Option<Vec<String>> {
    kvm.parameters("btf_trace_kvm_exit").map(|parameters| parameters.into_iter().skip(1).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_kernel_since_5_16_the_vcpu_comes_first() {
        for bytes in
            [&include_bytes!("../../tests/data/kernels/6.1/kvm.btf")[..], include_bytes!("../../tests/data/kernels/7.3/kvm.btf")]
        {
            assert!(VcpuFacts::from_btf(&Btf::parse(bytes.to_vec()).unwrap()).is_first_argument);
        }
    }

    #[test]
    fn what_is_read_of_a_vcpu_is_where_real_kernels_have_it() {
        for (series, last_entry_cpu, bytes) in [
            ("6.1", 296 + 5016, &include_bytes!("../../tests/data/kernels/6.1/kvm.btf")[..]),
            ("6.18", 288 + 5108, include_bytes!("../../tests/data/kernels/6.18/kvm.btf")),
            ("7.3", 296 + 4924, include_bytes!("../../tests/data/kernels/7.3/kvm.btf")),
        ] {
            let facts = VcpuFacts::from_btf(&Btf::parse(bytes.to_vec()).unwrap());
            let expected = VcpuFacts { is_first_argument: true, kvm: 0, id: Some(36), last_entry_cpu: Some(last_entry_cpu) };
            assert_eq!(facts, expected, "{series}");
        }
    }

    #[test]
    fn where_btf_does_not_describe_the_tracepoint_nothing_is_known() {
        let other = Btf::parse(include_bytes!("../../tests/data/kernels/6.1/kvm_amd.btf").to_vec()).unwrap();
        assert!(!VcpuFacts::from_btf(&other).is_first_argument);
    }
}
