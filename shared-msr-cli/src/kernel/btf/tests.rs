//! BTF of real kernels, made-up BTF, and damaged BTF.

use super::Btf;

/// Real, see tests/data/kernels/README.md.
const KVM: &[u8] = include_bytes!("../../../tests/data/kernels/6.1/kvm.btf");
const KVM_AMD: &[u8] = include_bytes!("../../../tests/data/kernels/6.1/kvm_amd.btf");

const POINTER: u32 = 2 << 24;
const STRUCT: u32 = 4 << 24;
const TYPEDEF: u32 = 8 << 24;
const FUNCTION: u32 = 12 << 24;
const PROTOTYPE: u32 = 13 << 24;
const HAS_BIT_FIELDS: u32 = 1 << 31;

/// BTF of these types, each as its words, the first of which is where its name begins in `names`.
fn made_up(types: &[&[u32]], names: &str) -> Vec<u8> {
    let body: Vec<u8> = types.concat().into_iter().flat_map(u32::to_le_bytes).collect();
    let (length, strings) = (body.len() as u32, names.len() as u32);
    // struct btf_header: magic, version 1, no flags, its length; offset and length of the types, and of the names.
    let header = [0x0001_eb9f, 24, 0, length, length, strings];
    header.into_iter().flat_map(u32::to_le_bytes).chain(body).chain(names.bytes()).collect()
}

/// Asks everything that is ever asked. What comes out does not matter here.
fn ask(btf: &Btf) -> usize {
    let structures = ["kvm_vcpu", "kvm_user_return_msrs", "vcpu_svm", "vmcb"];
    let known = structures.iter().filter_map(|name| btf.structure(&[name])).filter_map(|of| {
        let (elements, length) = of.field("values")?.of?.elements()?;
        Some(elements.size()? + length)
    });
    let offsets = [("kvm_vcpu", ["arch", "last_vmentry_cpu"]), ("vmcb", ["control", "exit_code"])];
    let offsets = offsets.iter().filter_map(|(structure, path)| btf.offset(structure, path));
    let parameters = btf.parameters("btf_trace_kvm_exit").map_or(0, |parameters| parameters.len());
    let function = btf.function_id("kvm_on_user_return").map_or(0, |id| id as usize);
    known.chain(offsets).fold(parameters, usize::wrapping_add).wrapping_add(function)
}

#[test]
fn btf_that_is_cut_off_anywhere_is_an_error_and_nothing_worse() {
    assert!(ask(&Btf::parse(KVM_AMD.to_vec()).unwrap()) > 0);
    for end in 0..KVM_AMD.len() {
        assert!(Btf::parse(KVM_AMD[..end].to_vec()).is_err(), "the first {end} bytes");
    }
}

#[test]
fn btf_with_a_wrong_byte_is_an_error_or_answers_something() {
    for original in [KVM, KVM_AMD] {
        for at in 0..original.len() {
            for wrong in [0x00, 0x01, 0x7f, 0xff] {
                let mut bytes = original.to_vec();
                bytes[at] ^= wrong;
                if let Ok(btf) = Btf::parse(bytes) {
                    ask(&btf);
                }
            }
        }
    }
}

#[test]
fn what_is_no_btf_is_called_so() {
    for bytes in [&b""[..], b"short", &[0; 64]] {
        assert!(Btf::parse(bytes.to_vec()).is_err(), "{bytes:?}");
    }
    let unknown = Btf::parse(made_up(&[&[0, 31 << 24, 0]], "\0")).unwrap_err();
    assert!(unknown.contains("unknown kind"), "{unknown}");
}

#[test]
fn a_module_s_types_and_names_go_on_where_those_of_vmlinux_end() {
    let names = "\0vm\0vm_function\0";
    let vmlinux = made_up(&[&[1, STRUCT | 1, 8, 4, 0, 0], &[4, FUNCTION, 0]], names);
    let vmlinux = Btf::parse(vmlinux).unwrap();
    let first_name = names.len() as u32;
    // The first type is number 3; it points to number 1, which is vmlinux's, and its members have names of both.
    let types: [&[u32]; 3] =
        [&[first_name + 1, STRUCT | 2, 16, first_name + 8, 1, 64, 1, 4, 0], &[0, POINTER, 1], &[first_name + 8, FUNCTION, 0]];
    let module = Btf::split(made_up(&types, "\0module\0mine\0"), &vmlinux).unwrap();
    let mine = module.structure(&["module"]).unwrap();
    assert_eq!(mine.field("mine").unwrap().offset, 8);
    assert_eq!(mine.field("mine").unwrap().of.unwrap().size(), Some(8), "vmlinux's vm");
    assert!(mine.field("vm").is_some(), "a name of vmlinux");
    assert_eq!(module.function_id("mine"), Some(5), "behind vmlinux's two and two more");
    assert_eq!(module.function_id("vm_function"), Some(2));
    assert_eq!(vmlinux.function_id("mine"), None);
    assert_eq!(module.offset("module", &["mine", "vm"]), None, "that member's own name is another one");
}

#[test]
fn the_offset_of_a_member_of_a_structure_with_bit_fields_is_in_its_lower_bits() {
    let bits = (4 << 24) | 24;
    let types: [&[u32]; 2] = [&[1, HAS_BIT_FIELDS | STRUCT | 2, 8, 3, 2, bits, 5, 2, 32], &[0, POINTER, 0]];
    let btf = Btf::parse(made_up(&types, "\0s\0a\0b\0")).unwrap();
    assert_eq!((btf.offset("s", &["a"]), btf.offset("s", &["b"])), (Some(3), Some(4)));
}

#[test]
fn a_typedef_that_names_itself_has_an_end() {
    let names = "\0hook\0itself\0";
    let types: [&[u32]; 5] = [
        &[1, TYPEDEF, 2],
        &[0, POINTER, 3],
        // Two parameters, each a name and a type.
        &[0, PROTOTYPE | 2, 0, 0, 4, 0, 5],
        &[0, POINTER, 0],
        &[6, TYPEDEF, 5],
    ];
    let btf = Btf::parse(made_up(&types, names)).unwrap();
    assert_eq!(btf.parameters("hook"), Some(vec![String::new(), "itself".to_owned()]));
    let itself = Btf::parse(made_up(&[&[1, TYPEDEF, 1]], names)).unwrap();
    assert_eq!(itself.parameters("hook"), None);
}
