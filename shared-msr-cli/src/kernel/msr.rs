//! Names of MSRs.

/// The MSRs that any kernel from 4.4 to 7.3, or PVM, lists (arch/x86/include/asm/msr-index.h; `vmx_uret_msrs_list` in
/// vmx.c, `tsc_aux_uret_slot` in svm.c).
const NAMES: [(u32, &str); 8] = [
    (TSX_CTRL, "TSX_CTRL"),
    (0x0000_0174, "SYSENTER_CS"),
    (0xc000_0080, "EFER"),
    (0xc000_0081, "STAR"),
    (LSTAR, "LSTAR"),
    (0xc000_0083, "CSTAR"),
    (0xc000_0084, "SYSCALL_MASK"),
    (TSC_AUX, "TSC_AUX"),
];

/// `MSR_LSTAR`.
pub const LSTAR: u32 = 0xc000_0082;

/// `MSR_TSC_AUX`.
pub const TSC_AUX: u32 = 0xc000_0103;

/// `MSR_IA32_TSX_CTRL`.
pub const TSX_CTRL: u32 = 0x122;

/// All of them, where KVM's own list cannot be read.
pub fn known() -> impl Iterator<Item = u32> {
    NAMES.iter().map(|(index, _)| *index)
}

/// The name of MSR `index`; the number itself, in hexadecimal, when it has none here.
pub fn name(index: u32) -> String {
    NAMES.iter().find(|(known, _)| *known == index).map_or_else(|| format!("{index:#x}"), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn a_known_msr_has_its_name_and_an_unknown_one_its_number() {
        assert_eq!(name(0xc000_0103), "TSC_AUX");
        assert_eq!(name(0xc001_102e), "0xc001102e");
    }
}
