//! Layout of the kernel's per-CPU structure: `struct kvm_user_return_msrs`, before 5.10 `struct kvm_shared_msrs`.

use shared_msr_common::{MAX_SLOTS, STRUCTURE_BYTES};

use super::btf::{Btf, KernelBtf, Type};

/// Names of the structure: from 5.10, and before.
const STRUCTURE_NAMES: [&str; 2] = ["kvm_user_return_msrs", "kvm_shared_msrs"];
/// Size of one element of `values`: `struct { u64 host; u64 curr; }`.
pub const VALUE_BYTES: usize = 16;

/// Where the fields are, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// `bool registered`.
    pub registered: usize,
    /// `struct { u64 host; u64 curr; } values[16]`.
    pub values: usize,
}

/// The layout in every kernel from 4.4 to 7.3 (source, and BTF of 5.11 to 6.18), after `struct user_return_notifier`
/// with its 24 bytes.
pub const DOCUMENTED: Layout = Layout { registered: 24, values: 32 };

/// A layout, and how it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownLayout {
    /// The layout.
    pub layout: Layout,
    /// Why it does not come from BTF; none when it does.
    pub without_btf: Option<String>,
}

impl KnownLayout {
    /// Takes the layout from the running kernel's BTF; without, takes the documented layout, which the caller has to check
    /// against the structures themselves ([`super::structure::Structure::check`]).
    pub fn find(btf: &KernelBtf) -> Self {
        match btf.kvm().and_then(from_btf) {
            Ok(layout) => Self { layout, without_btf: None },
            Err(why) => Self { layout: DOCUMENTED, without_btf: Some(why) },
        }
    }
}

fn from_btf(btf: &Btf) -> Result<Layout, String> {
    let structure = btf.structure(&STRUCTURE_NAMES).ok_or("KVM's BTF does not describe its per-CPU structure")?;
    let unexpected = |what: &str| format!("KVM's BTF describes an unexpected structure: {what}");
    let field = |name: &str| structure.field(name).ok_or_else(|| unexpected(&format!("no {name}")));
    let (urn, registered) = (field("urn")?.offset, field("registered")?.offset);
    let (values, of) = (field("values")?.offset, field("values")?.of);
    let (value, length) = of.and_then(Type::elements).ok_or_else(|| unexpected("values is not an array"))?;
    let size = value.size().ok_or_else(|| unexpected("values are not structures"))?;
    let [host, curr] = ["host", "curr"].map(|name| value.field(name).map(|field| field.offset));
    let element_is_known = (host, curr, size) == (Some(0), Some(8), VALUE_BYTES) && length == MAX_SLOTS;
    if urn != 0 || !element_is_known || !values.is_multiple_of(8) || values + MAX_SLOTS * VALUE_BYTES > STRUCTURE_BYTES {
        return Err(unexpected(&format!("urn at {urn}, values at {values}, host at {host:?}, curr at {curr:?}")));
    }
    Ok(Layout { registered, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reduced, but real; see tests/data/kernels/README.md.
    const KVM: [(&str, &[u8]); 3] = [
        ("6.1", include_bytes!("../../tests/data/kernels/6.1/kvm.btf")),
        ("6.18", include_bytes!("../../tests/data/kernels/6.18/kvm.btf")),
        ("7.3", include_bytes!("../../tests/data/kernels/7.3/kvm.btf")),
    ];

    #[test]
    fn the_btf_of_real_kernels_gives_the_documented_layout() {
        for (series, bytes) in KVM {
            let btf = Btf::parse(bytes.to_vec()).unwrap();
            assert_eq!(from_btf(&btf), Ok(DOCUMENTED), "{series}");
        }
    }

    #[test]
    fn the_functions_that_are_hooked_have_ids_in_the_btf_of_real_kernels() {
        for (series, bytes) in KVM {
            let btf = Btf::parse(bytes.to_vec()).unwrap();
            for function in ["kvm_set_user_return_msr", "kvm_on_user_return"] {
                assert!(btf.function_id(function).is_some(), "{series} {function}");
            }
            assert_eq!(btf.function_id("kvm_user_return_msrs"), None, "a structure is no function");
        }
        let vmlinux = Btf::parse(include_bytes!("../../tests/data/kernels/7.3/vmlinux.btf").to_vec()).unwrap();
        assert!(vmlinux.function_id("user_return_notifier_unregister").is_some());
    }

    #[test]
    fn a_structure_with_another_element_is_refused() {
        // "curr" under another name: the string table stands uncompressed at the end.
        let mut bytes = KVM[0].1.to_vec();
        let at = bytes.windows(6).position(|window| window == b"\0curr\0").unwrap();
        bytes[at + 1] = b'x';
        let why = from_btf(&Btf::parse(bytes).unwrap()).unwrap_err();
        assert!(why.contains("unexpected structure"), "{why}");
    }
}
