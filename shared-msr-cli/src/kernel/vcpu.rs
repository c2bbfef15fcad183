//! Where KVM's `struct kvm_vcpu` is to be found at the tracepoint `kvm_exit`, and the vCPU's id in it.

use btf_rs::{Btf, BtfType, Type};

use super::{
    btf::{self, KernelBtf, field},
    exit_reason::offset,
};

/// So many types may stand behind each other; the kernel itself takes no more (`BTF_MAX_RESOLVE_DEPTH`, Linux
/// kernel/bpf/btf.c). Without a bound a typedef that names itself would have no end.
const LONGEST_CHAIN: usize = 32;

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
        let chain = kvm.chained_type_iter(parameter).take(LONGEST_CHAIN);
        let names = chain.filter_map(|found| kvm.resolve_name(found.as_btf_type()?).ok());
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
    fn what_is_read_of_a_vcpu_is_where_real_kernels_have_it() {
        for (series, last_entry_cpu, bytes) in [
            ("6.1", 296 + 5016, &include_bytes!("../../tests/data/kernels/6.1/kvm.btf")[..]),
            ("6.18", 288 + 5108, include_bytes!("../../tests/data/kernels/6.18/kvm.btf")),
            ("7.3", 296 + 4924, include_bytes!("../../tests/data/kernels/7.3/kvm.btf")),
        ] {
            let facts = VcpuFacts::from_btf(&Btf::from_bytes(bytes).unwrap());
            let expected = VcpuFacts { is_first_argument: true, kvm: 0, id: Some(36), last_entry_cpu: Some(last_entry_cpu) };
            assert_eq!(facts, expected, "{series}");
        }
    }

    /// BTF of these types, each its name (an offset in `names`), kind, number of parts, type and parts.
    fn made_up(types: &[(u32, u32, u32, &[u32])], names: &str) -> Vec<u8> {
        let words = |&(name, kind_and_parts, of, parts): &(u32, u32, u32, &[u32])| [&[name, kind_and_parts, of], parts].concat();
        let body: Vec<u8> = types.iter().flat_map(words).flat_map(u32::to_le_bytes).collect();
        let (length, strings) = (body.len() as u32, names.len() as u32);
        // struct btf_header: magic, version 1, no flags, its length; offset and length of the types, and of the names.
        let header = [0x0001_eb9f, 24, 0, length, length, strings];
        header.into_iter().flat_map(u32::to_le_bytes).chain(body).chain(names.bytes()).collect()
    }

    #[test]
    fn a_typedef_that_names_itself_has_an_end() {
        const POINTER: u32 = 2 << 24;
        const TYPEDEF: u32 = 8 << 24;
        const FUNCTION: u32 = 13 << 24;
        let names = "\0btf_trace_kvm_exit\0itself\0";
        let itself = names.find("itself").unwrap() as u32;
        let types: [(u32, u32, u32, &[u32]); 5] = [
            (1, TYPEDEF, 2, &[]),
            (0, POINTER, 3, &[]),
            // Two parameters, each a name and a type: the tracepoint's own, and the typedef.
            (0, FUNCTION | 2, 0, &[0, 4, 0, 5]),
            (0, POINTER, 0, &[]),
            (itself, TYPEDEF, 5, &[]),
        ];
        let btf = Btf::from_bytes(&made_up(&types, names)).unwrap();
        assert_eq!(exit_arguments(&btf), Some(vec!["itself".to_owned()]));
        assert_eq!(VcpuFacts::from_btf(&btf), VcpuFacts::default());
        // The same where the tracepoint's own type is the one without an end.
        let types = [(1, TYPEDEF, 1, &[][..])];
        assert_eq!(exit_arguments(&Btf::from_bytes(&made_up(&types, names)).unwrap()), None);
    }

    #[test]
    fn where_btf_does_not_describe_the_tracepoint_nothing_is_known() {
        let other = Btf::from_bytes(include_bytes!("../../tests/data/kernels/6.1/kvm_amd.btf")).unwrap();
        assert!(!VcpuFacts::from_btf(&other).is_first_argument);
    }
}
