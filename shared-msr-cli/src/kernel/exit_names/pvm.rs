//! PVM's exit reasons.

/// `PVM_EXIT_REASONS` (arch/x86/kvm/pvm/pvm.h, in newer branches arch/x86/include/uapi/asm/pvm_trace.h, of the PVM tree, which
/// is not part of Linux). Best effort: its branches number reasons differently. 4 << 16 and 5 << 16 are `ERETS` and `INTERRUPT`
/// in the series as first posted and `INTERRUPT` and `INT80` later, so they have no name here; 6 << 16 is in the first only and
/// the hypercalls one by one are in the newest only.
pub(super) const NAMES: [(u32, &str); 33] = [
    (0, "DE excp"),
    (1, "DB excp"),
    (2, "NMI excp"),
    (3, "BP excp"),
    (4, "OF excp"),
    (5, "BR excp"),
    (6, "UD excp"),
    (7, "NM excp"),
    (8, "DF excp"),
    (10, "TS excp"),
    (12, "SS excp"),
    (13, "GP excp"),
    (14, "PF excp"),
    (16, "MF excp"),
    (17, "AC excp"),
    (18, "MC excp"),
    (19, "XM excp"),
    (20, "VE excp"),
    (1025, "FAILED_VMENTRY"),
    (1 << 16, "SYSCALL"),
    (2 << 16, "HYPERCALL"),
    ((2 << 16) + 1, "HC_IRQ_WIN"),
    ((2 << 16) + 2, "HC_IRQ_HALT"),
    ((2 << 16) + 3, "HC_LOAD_PGTBL"),
    ((2 << 16) + 4, "HC_TLB_FLUSH"),
    ((2 << 16) + 5, "HC_TLB_FLUSH_CURRENT"),
    ((2 << 16) + 6, "HC_TLB_INVLPG"),
    ((2 << 16) + 7, "HC_LOAD_GS"),
    ((2 << 16) + 8, "HC_RDMSR"),
    ((2 << 16) + 9, "HC_WRMSR"),
    ((2 << 16) + 10, "HC_LOAD_TLS"),
    (3 << 16, "ERETU"),
    (6 << 16, "INT80"),
];
