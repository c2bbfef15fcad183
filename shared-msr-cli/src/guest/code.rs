//! The program the guest runs.
//!
//! It counts its own CPUIDs, because nobody else can: they never reach user space. The counter is incremented after the
//! instruction, so a guest that is stopped in between has made one more than it counted; [`cpuids_made`] puts that right.

use std::arch::global_asm;
use std::slice;

use kvm_bindings::kvm_regs;

use super::layout;
use super::options::{GuestOptions, Spin};

/// The port of every OUT. The data is the guest's `TSC_AUX`.
pub(super) const PORT: u16 = 0x10;

/// Values of r14.
const SPIN_NOT: u64 = 0;
const SPIN_QUIET: u64 = 1;
const SPIN_CPUID: u64 = 2;

// What comes in:
//   r8   OUTs still to make
//   r9   CPUIDs before each OUT
//   r10  HLTs still to make
//   r11  1 if RDTSCP can be used
//   r14  what to do at the end, SPIN_*
//   r15  MMIO writes still to make
// What the program adds:
//   r12  CPUIDs still to make in this round
//   r13  CPUIDs made so far
// eax, ebx, ecx and edx are overwritten by CPUID and RDTSCP.
//
// There is no stack, no interrupt is enabled, and PAUSE is avoided, as hosts may intercept it.
global_asm!(
    ".pushsection .rodata.shared_msr_guest, \"a\", @progbits",
    ".global shared_msr_guest_start",
    ".global shared_msr_guest_after_cpuid",
    ".global shared_msr_guest_end",
    ".hidden shared_msr_guest_start",
    ".hidden shared_msr_guest_after_cpuid",
    ".hidden shared_msr_guest_end",
    "shared_msr_guest_start:",
    // One round per OUT.
    "2:",
    "test r8, r8",
    "jz 5f",
    "mov r12, r9",
    // The only CPUID of the program, so that one address tells whether its count is still due.
    "3:",
    "test r12, r12",
    "jz 4f",
    "xor eax, eax",
    "xor ecx, ecx",
    "cpuid",
    "shared_msr_guest_after_cpuid:",
    "inc r13",
    "dec r12",
    "jmp 3b",
    // The OUT, with TSC_AUX in eax, or 0.
    "4:",
    "xor ecx, ecx",
    "test r11, r11",
    "jz 6f",
    "rdtscp",
    "6:",
    "mov eax, ecx",
    "mov edx, {port}",
    "out dx, eax",
    "dec r8",
    "jmp 2b",
    // The HLTs.
    "5:",
    "test r10, r10",
    "jz 7f",
    "hlt",
    "dec r10",
    "jmp 5b",
    // The MMIO writes.
    "7:",
    "test r15, r15",
    "jz 9f",
    "mov edi, {mmio}",
    "mov [rdi], eax",
    "dec r15",
    "jmp 7b",
    // The end. 2^64 CPUIDs are endless enough. Without a wish to spin, the vCPU is run once more only if it is to shut down:
    // UD2 without an exception table is a triple fault.
    "9:",
    "mov r12, -1",
    "cmp r14, {spin_cpuid}",
    "je 3b",
    "cmp r14, {spin_quiet}",
    "je 8f",
    "ud2",
    "8:",
    "jmp 8b",
    "shared_msr_guest_end:",
    ".popsection",
    port = const PORT,
    mmio = const layout::MMIO,
    spin_quiet = const SPIN_QUIET,
    spin_cpuid = const SPIN_CPUID,
);

unsafe extern "C" {
    // Labels: only their addresses mean anything.
    safe static shared_msr_guest_start: u8;
    safe static shared_msr_guest_after_cpuid: u8;
    safe static shared_msr_guest_end: u8;
}

/// The program's machine code. It can be put anywhere.
pub(super) fn bytes() -> &'static [u8] {
    // SAFETY: the bytes between the two labels are in one read-only section of this program and never change.
    unsafe { slice::from_raw_parts(&raw const shared_msr_guest_start, offset(&raw const shared_msr_guest_end)) }
}

/// How far `label` is from the start of the program.
fn offset(label: *const u8) -> usize {
    label.addr() - (&raw const shared_msr_guest_start).addr()
}

/// The registers the program starts with.
pub(super) fn start(options: &GuestOptions, has_rdtscp: bool) -> kvm_regs {
    kvm_regs {
        rip: layout::CODE,
        rflags: 0x2, // the bit that is always set; interrupts stay off
        r8: options.outs,
        r9: options.cpuids,
        r10: options.hlts,
        r15: options.mmios,
        r11: u64::from(has_rdtscp),
        r14: match options.spin {
            None => SPIN_NOT,
            Some(Spin::Quiet) => SPIN_QUIET,
            Some(Spin::Cpuid) => SPIN_CPUID,
        },
        ..kvm_regs::default()
    }
}

/// How many CPUIDs the program has made, by its registers at any moment.
pub(super) fn cpuids_made(regs: &kvm_regs) -> u64 {
    let after_cpuid = layout::CODE + offset(&raw const shared_msr_guest_after_cpuid) as u64;
    regs.r13 + u64::from(regs.rip == after_cpuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_there_and_fits_its_page() {
        assert!(!bytes().is_empty());
        assert!(bytes().len() <= 4096);
    }

    #[test]
    fn each_exiting_instruction_is_there_once() {
        let count = |code: &[u8]| bytes().windows(code.len()).filter(|window| *window == code).count();
        assert_eq!(count(&[0x0f, 0xa2]), 1, "CPUID");
        // With the instruction before it: displacements of jumps have that byte, too.
        assert_eq!(count(&[0xba, PORT as u8, 0, 0, 0, 0xef]), 1, "MOV EDX, PORT; OUT DX, EAX");
        assert_eq!(count(&[0xf4]), 1, "HLT");
        assert_eq!(count(&[0x89, 0x07]), 1, "MOV [RDI], EAX");
        assert_eq!(count(&[0x0f, 0x0b]), 1, "UD2");
        assert_eq!(count(&[0x0f, 0x01, 0xf9]), 1, "RDTSCP");
        assert_eq!(count(&[0xf3, 0x90]), 0, "PAUSE");
    }

    #[test]
    fn the_label_is_right_after_cpuid() {
        let after = offset(&raw const shared_msr_guest_after_cpuid);
        assert_eq!(bytes()[after - 2..after], [0x0f, 0xa2]);
    }

    #[test]
    fn a_cpuid_that_is_not_counted_yet_is_added() {
        let mut regs = kvm_regs { r13: 7, rip: layout::CODE, ..kvm_regs::default() };
        assert_eq!(cpuids_made(&regs), 7);
        regs.rip += offset(&raw const shared_msr_guest_after_cpuid) as u64;
        assert_eq!(cpuids_made(&regs), 8);
    }

    #[test]
    fn options_reach_the_registers() {
        let options = GuestOptions { outs: 1, cpuids: 2, hlts: 3, mmios: 4, spin: Some(Spin::Cpuid), ..GuestOptions::default() };
        let regs = start(&options, true);
        assert_eq!((regs.r8, regs.r9, regs.r10, regs.r11, regs.r14, regs.r15), (1, 2, 3, 1, SPIN_CPUID, 4));
        assert_eq!(start(&GuestOptions::default(), false).r11, 0);
        assert_eq!(start(&GuestOptions::default(), false).r14, SPIN_NOT);
    }
}
