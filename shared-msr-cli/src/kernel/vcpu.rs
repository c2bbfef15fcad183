//! Where KVM's `struct kvm_vcpu` is to be found at the tracepoint `kvm_exit`, and the vCPU's id in it.

use btf_rs::{Btf, BtfType, Type};

use super::{
    btf::{self, KernelBtf, field},
    exit_reason::offset,
};

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
        let member = |name| btf::structure(kvm, &["kvm_vcpu"]).and_then(|vcpu| Some(field(kvm, &vcpu, name)?.0));
        let last_entry_cpu = offset(kvm, "kvm_vcpu", &["arch", "last_vmentry_cpu"]);
        Self {
            is_first_argument: position == Some(0),
            kvm: member("kvm").unwrap_or_default(),
            id: member("vcpu_id"),
            last_entry_cpu,
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
    let types = kvm.resolve_types_by_name("btf_trace_kvm_exit").ok()?;
    let typedef = types.into_iter().find_map(|found| if let Type::Typedef(typedef) = found { Some(typedef) } else { None })?;
    let Ok(Type::Ptr(pointer)) = kvm.resolve_chained_type(&typedef) else { return None };
    let Ok(Type::FuncProto(function)) = kvm.resolve_chained_type(&pointer) else { return None };
    let name = |parameter: &dyn BtfType| {
        let names = kvm.chained_type_iter(parameter).filter_map(|found| kvm.resolve_name(found.as_btf_type()?).ok());
        names.filter(|name| !name.is_empty()).last()
    };
    Some(function.parameters.iter().skip(1).map(|parameter| name(parameter).unwrap_or_default()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_kernel_since_5_16_the_vcpu_comes_first() {
        for bytes in
            [&include_bytes!("../../tests/data/kernels/6.1/kvm.btf")[..], include_bytes!("../../tests/data/kernels/7.3/kvm.btf")]
        {
            assert!(VcpuFacts::from_btf(&Btf::from_bytes(bytes).unwrap()).is_first_argument);
        }
    }

    #[test]
    fn where_btf_does_not_describe_the_tracepoint_nothing_is_known() {
        let other = Btf::from_bytes(include_bytes!("../../tests/data/kernels/6.1/kvm_amd.btf")).unwrap();
        assert!(!VcpuFacts::from_btf(&other).is_first_argument);
    }
}
