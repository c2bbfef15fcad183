//! Names of the reasons of VM-exits, as the tracepoint `kvm_exit` of the kernel itself prints them.

mod pvm;
mod svm;
mod vmx;

use std::fmt;

use super::host::Vendor;

/// The basic reason is in the low half of VMX's; flags are above it (`kvm_print_exit_reason`, arch/x86/kvm/trace.h).
const VMX_BASIC: u32 = 0xffff;

/// `VMX_EXIT_REASONS_FAILED_VMENTRY` (arch/x86/include/uapi/asm/vmx.h).
const VMX_FAILED_ENTRY: u32 = 1 << 31;

/// `EXIT_REASON_HLT` (arch/x86/include/uapi/asm/vmx.h). TDX guests' is the same: KVM translates it (`tdx_to_vmx_exit_reason`,
/// arch/x86/kvm/vmx/tdx.c, since 6.16).
const VMX_HLT: u32 = 12;

/// `SVM_EXIT_HLT` (arch/x86/include/uapi/asm/svm.h).
const SVM_HLT: u32 = 0x78;

/// `SVM_EXIT_IDLE_HLT` (arch/x86/include/uapi/asm/svm.h, in 6.18, not yet in 6.12): a HLT with no virtual interrupt pending.
const SVM_IDLE_HLT: u32 = 0xa6;

/// `PVM_EXIT_REASONS_HC_IRQ_HALT`, in the newest PVM only. Before, a halt is one of all the hypercalls.
const PVM_HALT: u32 = (2 << 16) + 2;

/// The name of a VM-exit's reason, and what VMX says of the exit beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExitName {
    /// As in the kernel, without `EXIT_REASON_` or `SVM_EXIT_`: VMX's are in capital letters, SVM's in small ones.
    pub name: &'static str,
    /// The guest was not entered (bit 31 of VMX).
    pub failed_entry: bool,
    /// Bits 16 to 30 of VMX, of which the kernel names none: bit 26 is set when a bus lock was detected on the way out, bit 27 in
    /// an SGX enclave.
    pub other_flags: u32,
}

/// As the kernel prints it: the name, then the flags.
impl fmt::Display for ExitName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.name.to_owned();
        if self.failed_entry {
            text.push_str(" FAILED_VMENTRY");
        }
        if self.other_flags != 0 {
            text.push_str(&format!(" {:#x}", self.other_flags));
        }
        formatter.pad(&text)
    }
}

/// The name of `reason`; none when the kernels known here have none, so that the number is shown ([`Vendor::reason`]) and never
/// a wrong name.
pub fn exit_reason(vendor: Vendor, reason: u32) -> Option<ExitName> {
    let (basic, flags) = match vendor {
        Vendor::Intel => (reason & VMX_BASIC, reason & !VMX_BASIC),
        Vendor::Amd | Vendor::Pvm => (reason, 0),
    };
    let (_, name) = names(vendor).iter().find(|(number, _)| *number == basic)?;
    Some(ExitName { name, failed_entry: flags & VMX_FAILED_ENTRY != 0, other_flags: flags & !VMX_FAILED_ENTRY })
}

/// Whether the guest halted its vCPU, which KVM handles itself unless the VMM wants it otherwise.
pub fn is_halt(vendor: Vendor, reason: u32) -> bool {
    match vendor {
        // A failed entry is no halt, whatever else the reason says.
        Vendor::Intel => reason & (VMX_BASIC | VMX_FAILED_ENTRY) == VMX_HLT,
        Vendor::Amd => matches!(reason, SVM_HLT | SVM_IDLE_HLT),
        Vendor::Pvm => reason == PVM_HALT,
    }
}

const fn names(vendor: Vendor) -> &'static [(u32, &'static str)] {
    match vendor {
        Vendor::Intel => &vmx::NAMES,
        Vendor::Amd => &svm::NAMES,
        Vendor::Pvm => &pvm::NAMES,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::kernel::print_fmt::{self, SavedNames};

    /// The tables in the tracepoint's `print fmt`: VMX's, then SVM's.
    fn saved(vendor: Vendor) -> SavedNames {
        let table = match vendor {
            Vendor::Intel => 0,
            Vendor::Amd => 1,
            Vendor::Pvm => panic!("no kernel with PVM is saved"),
        };
        print_fmt::kvm_exit(table)
    }

    fn name(vendor: Vendor, reason: u32) -> Option<String> {
        exit_reason(vendor, reason).map(|found| found.to_string())
    }

    #[test]
    fn every_reason_a_saved_kernel_names_has_the_newest_kernels_name() {
        for (vendor, some) in [(Vendor::Intel, (30, "IO_INSTRUCTION")), (Vendor::Amd, (0x400, "npf"))] {
            let saved = saved(vendor);
            assert_eq!(saved.newest.get(&some.0).map(String::as_str), Some(some.1), "print fmt is read wrongly");
            for (reason, expected) in &saved.newest {
                assert_eq!(name(vendor, *reason).as_ref(), Some(expected), "{vendor:?} {reason:#x}");
            }
        }
    }

    #[test]
    fn no_name_is_here_that_no_saved_kernel_has() {
        for vendor in [Vendor::Intel, Vendor::Amd] {
            let saved = saved(vendor).newest;
            for (reason, name) in names(vendor) {
                assert_eq!(saved.get(reason).map(String::as_str), Some(*name), "{vendor:?} {reason:#x}");
            }
        }
    }

    /// Where this fails, a kernel renamed a reason: the newest kernel's name is ours (the test above), and the older one belongs
    /// into the list here.
    #[test]
    fn the_saved_kernels_agree_on_all_names() {
        for vendor in [Vendor::Intel, Vendor::Amd] {
            assert_eq!(saved(vendor).renamed, BTreeMap::new(), "{vendor:?}");
        }
    }

    #[test]
    fn no_reason_has_two_names() {
        for vendor in [Vendor::Intel, Vendor::Amd, Vendor::Pvm] {
            assert!(names(vendor).is_sorted_by(|(one, _), (next, _)| one < next), "{vendor:?}");
        }
    }

    #[test]
    fn an_unknown_reason_has_no_name() {
        // 5 is an SMI on I/O, which KVM does not name; 0x8_0078 would be a HLT if SVM's upper half were cut off.
        for (vendor, reason) in [(Vendor::Intel, 5), (Vendor::Intel, 999), (Vendor::Amd, 0x8_0078), (Vendor::Amd, 0xffff_fffe)] {
            assert_eq!(name(vendor, reason), None, "{vendor:?} {reason:#x}");
        }
    }

    #[test]
    fn a_failed_entry_is_named_and_not_hidden() {
        let found = exit_reason(Vendor::Intel, 0x8000_0021).unwrap();
        assert_eq!(found, ExitName { name: "INVALID_STATE", failed_entry: true, other_flags: 0 });
        assert_eq!(found.to_string(), "INVALID_STATE FAILED_VMENTRY");
        assert_eq!(name(Vendor::Intel, 0x21).as_deref(), Some("INVALID_STATE"));
        // Of an unknown reason, the number has to show it.
        assert_eq!(name(Vendor::Intel, 0x8000_0005), None);
        assert_eq!(Vendor::Intel.reason(0x8000_0005), "0x80000005");
    }

    #[test]
    fn vmx_flags_without_a_name_are_shown_as_a_number() {
        assert_eq!(name(Vendor::Intel, 0x0400_0000 | 48).as_deref(), Some("EPT_VIOLATION 0x4000000"));
    }

    #[test]
    fn bit_31_of_svm_is_part_of_the_reason() {
        assert_eq!(name(Vendor::Amd, 0x8000_0013).as_deref(), Some("vmgexit_ap_creation"));
        assert_eq!(name(Vendor::Amd, u32::MAX).as_deref(), Some("invalid_guest_state"));
    }

    #[test]
    fn of_pvm_only_what_all_its_branches_agree_on_has_a_name() {
        assert_eq!(name(Vendor::Pvm, 14).as_deref(), Some("PF excp"));
        assert_eq!(name(Vendor::Pvm, 1 << 16).as_deref(), Some("SYSCALL"));
        assert_eq!((name(Vendor::Pvm, 4 << 16), name(Vendor::Pvm, 5 << 16)), (None, None));
    }

    #[test]
    fn a_halt_is_one_by_its_name_and_nothing_else_is() {
        for vendor in [Vendor::Intel, Vendor::Amd, Vendor::Pvm] {
            for (reason, name) in names(vendor) {
                let expected = ["HLT", "hlt", "idle-halt", "HC_IRQ_HALT"].contains(name);
                assert_eq!(is_halt(vendor, *reason), expected, "{vendor:?} {name}");
            }
        }
        assert!(is_halt(Vendor::Intel, 0x0400_0000 | 12));
        assert!(!is_halt(Vendor::Intel, 0x8000_0000 | 12));
        assert!(!is_halt(Vendor::Amd, 12));
    }

    #[test]
    fn a_name_fills_a_column() {
        assert_eq!(format!("{:>6}|", exit_reason(Vendor::Intel, 12).unwrap()), "   HLT|");
    }
}
