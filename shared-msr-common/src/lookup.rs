//! Symbols that user space asks the kernel for.

/// Room for a name, with the zero that ends it.
pub const NAME_BYTES: usize = 64;

/// Room for more questions than there are.
pub const QUESTIONS: usize = 48;

/// A symbol to look up.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Its name, with zeros after it. "kvm:" before it asks for a symbol of that module.
    pub name: [u8; NAME_BYTES],
    /// Its address, once it is found.
    pub address: u64,
    /// 0, or the negative errno of `bpf_kallsyms_lookup_name`.
    pub returned: i64,
}

impl Question {
    /// None.
    pub const EMPTY: Self = Self { name: [0; NAME_BYTES], address: 0, returned: 0 };

    /// Asks for a symbol; none if the name is too long.
    pub fn of(name: &str) -> Option<Self> {
        let mut question = Self::EMPTY;
        question.name[..NAME_BYTES - 1].get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        Some(question)
    }
}
