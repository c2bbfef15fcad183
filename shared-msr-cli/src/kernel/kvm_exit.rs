//! Names of what `KVM_RUN` returned with to the VMM: an exit reason or an error.

/// `KVM_EXIT_*` (include/uapi/linux/kvm.h), by number, without the prefix. 0 to 30 are named by the kernel's own tracepoint
/// `kvm_userspace_exit` (include/trace/events/kvm.h, which knows no later ones even in 7.3). Numbers that several proposed
/// patches claim and no release has given away yet (44 and up) have no name.
const REASONS: [&str; 44] = [
    "UNKNOWN",
    "EXCEPTION",
    "IO",
    "HYPERCALL",
    "DEBUG",
    "HLT",
    "MMIO",
    "IRQ_WINDOW_OPEN",
    "SHUTDOWN",
    "FAIL_ENTRY",
    "INTR",
    "SET_TPR",
    "TPR_ACCESS",
    "S390_SIEIC",
    "S390_RESET",
    "DCR",
    "NMI",
    "INTERNAL_ERROR",
    "OSI",
    "PAPR_HCALL",
    "S390_UCONTROL",
    "WATCHDOG",
    "S390_TSCH",
    "EPR",
    "SYSTEM_EVENT",
    "S390_STSI",
    "IOAPIC_EOI",
    "HYPERV",
    "ARM_NISV",
    "X86_RDMSR",
    "X86_WRMSR",
    "DIRTY_RING_FULL",
    "AP_RESET_HOLD",
    "X86_BUS_LOCK",
    "XEN",
    "RISCV_SBI",
    "RISCV_CSR",
    "NOTIFY",
    "LOONGARCH_IOCSR",
    "MEMORY_FAULT",
    "TDX",
    "ARM_SEA",
    "ARM_LDST64B",
    "SNP_REQ_CERTS",
];

/// A constant of libc and its name, which are then never apart.
macro_rules! errnos {
    ($($name:ident)*) => {
        [$((libc::$name, stringify!($name))),*]
    };
}

/// Those that `KVM_RUN` is documented to return (Documentation/virt/kvm/api.rst: EINTR, ENOEXEC, ENOSYS, EPERM, and EFAULT or
/// EHWPOISON with MEMORY_FAULT), EAGAIN of a vCPU that was not started yet (`kvm_arch_vcpu_ioctl_run`, arch/x86/kvm/x86.c), and
/// those that handlers of exits may hand on.
const ERRNOS: [(i32, &str); 27] = errnos![
    E2BIG EACCES EAGAIN EBADF EBUSY EEXIST EFAULT EFBIG EHWPOISON EINTR EINVAL EIO ENODEV ENOENT ENOEXEC ENOMEM ENOSPC ENOSYS
    ENOTTY ENXIO EOPNOTSUPP EOVERFLOW EPERM ERANGE ESRCH ESTALE ETIMEDOUT
];

/// The name of a `KVM_EXIT_*` reason, without the prefix; none of a number that no kernel has named yet.
pub fn reason(reason: u32) -> Option<&'static str> {
    REASONS.get(usize::try_from(reason).ok()?).copied()
}

/// The name of the error, given as a positive number. EINTR is what a signal to the vCPU thread does; it is no failure.
pub fn errno(errno: i32) -> Option<&'static str> {
    ERRNOS.iter().find(|(number, _)| *number == errno).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::kernel::print_fmt;

    #[test]
    fn every_reason_a_saved_kernel_names_has_that_name() {
        let saved = print_fmt::kvm_userspace_exit();
        assert_eq!(saved.newest.len(), 31, "print fmt is read wrongly");
        for (number, name) in &saved.newest {
            assert_eq!(reason(*number), name.strip_prefix("KVM_EXIT_"), "{number}");
        }
        // All kernels agree. A name that changes belongs into this list, and the newest one above.
        assert_eq!(saved.renamed, BTreeMap::new());
    }

    #[test]
    fn reasons_that_the_tracepoint_does_not_know_are_as_in_the_kernels_header() {
        for (number, name) in [
            (kvm_bindings::KVM_EXIT_DIRTY_RING_FULL, "DIRTY_RING_FULL"),
            (kvm_bindings::KVM_EXIT_AP_RESET_HOLD, "AP_RESET_HOLD"),
            (kvm_bindings::KVM_EXIT_X86_BUS_LOCK, "X86_BUS_LOCK"),
            (kvm_bindings::KVM_EXIT_XEN, "XEN"),
            (kvm_bindings::KVM_EXIT_RISCV_SBI, "RISCV_SBI"),
            (kvm_bindings::KVM_EXIT_RISCV_CSR, "RISCV_CSR"),
            (kvm_bindings::KVM_EXIT_NOTIFY, "NOTIFY"),
            (kvm_bindings::KVM_EXIT_LOONGARCH_IOCSR, "LOONGARCH_IOCSR"),
            (kvm_bindings::KVM_EXIT_MEMORY_FAULT, "MEMORY_FAULT"),
            // Newer than the bindings: 6.16 and later.
            (40, "TDX"),
            (41, "ARM_SEA"),
            (42, "ARM_LDST64B"),
            (43, "SNP_REQ_CERTS"),
        ] {
            assert_eq!(reason(number), Some(name), "{number}");
        }
    }

    #[test]
    fn a_reason_of_a_later_kernel_has_no_name() {
        assert_eq!(reason(44), None);
        assert_eq!(reason(u32::MAX), None);
    }

    #[test]
    fn errors_have_the_names_that_people_know() {
        assert_eq!((errno(4), errno(11), errno(14)), (Some("EINTR"), Some("EAGAIN"), Some("EFAULT")));
        assert_eq!(errno(libc::EHWPOISON), Some("EHWPOISON"));
    }

    #[test]
    fn what_is_no_error_has_no_name() {
        assert_eq!((errno(0), errno(-4), errno(4095)), (None, None, None));
    }
}
