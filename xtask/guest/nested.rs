//! A guest of the guest, on AMD: AMD64 Architecture Programmer's Manual, volume 2, 15 and appendix B.
//!
//! It does nothing but CPUID, which the guest intercepts: it changes no register, and each entry ends with the next one.

use core::arch::{asm, naked_asm};
use core::cell::UnsafeCell;

use crate::{MOST_CPUS, wrmsr};

const EFER: u32 = 0xc000_0080;
const EFER_SVME: u64 = 1 << 12;
const VM_HSAVE_PA: u32 = 0xc001_0117;
/// What ends an entry: VMEXIT_CPUID.
const CPUID: u64 = 0x72;

/// A page, which the processor knows by its address: all memory is mapped where it is.
#[repr(C, align(4096))]
struct Page(UnsafeCell<[u8; 4096]>);

// SAFETY: each CPU has pages of its own.
unsafe impl Sync for Page {}

/// Of each CPU what it runs, and where its own state goes meanwhile.
static CONTROL: [Page; MOST_CPUS] = [const { Page(UnsafeCell::new([0; 4096])) }; MOST_CPUS];
static HOST: [Page; MOST_CPUS] = [const { Page(UnsafeCell::new([0; 4096])) }; MOST_CPUS];

/// What the guest of the guest does.
#[unsafe(naked)]
extern "C" fn nothing_but_cpuid() -> ! {
    naked_asm!("2:", "cpuid", "jmp 2b")
}

/// Sets a CPU up: its guest has its memory and its segments. Only for a processor with SVM.
pub(crate) fn prepare(cpu: u32) {
    let cpu = cpu as usize;
    let set = |offset: usize, bytes: &[u8]| {
        let page = CONTROL[cpu].0.get().cast::<u8>();
        // SAFETY: callers name offsets inside of the page, which is this CPU's own.
        unsafe { page.add(offset).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    };
    let set_word = |offset: usize, value: u64| set(offset, &value.to_le_bytes());
    let (efer, cr0, cr3, cr4) = (rdmsr(EFER) | EFER_SVME, control(0), control(3), control(4));
    wrmsr(EFER, efer);
    wrmsr(VM_HSAVE_PA, HOST[cpu].0.get() as u64);
    // Intercepted: CPUID, and VMRUN, as it has to be.
    set(0x00c, &(1_u32 << 18).to_le_bytes());
    set(0x010, &1_u32.to_le_bytes());
    // An address space number that is not the host's.
    set(0x058, &1_u32.to_le_bytes());
    // ES, CS, SS, DS: selector, attributes, limit, base; those of boot.s.
    for (offset, selector, attributes) in
        [(0x400, 0x10_u16, 0xc93_u16), (0x410, 0x18, 0xa9b), (0x420, 0x10, 0xc93), (0x430, 0x10, 0xc93)]
    {
        set(offset, &selector.to_le_bytes());
        set(offset + 2, &attributes.to_le_bytes());
        set(offset + 4, &u32::MAX.to_le_bytes());
    }
    set_word(0x4d0, efer);
    set_word(0x548, cr4);
    set_word(0x550, cr3);
    set_word(0x558, cr0);
    set_word(0x560, 0x400); // DR7
    set_word(0x568, 0xffff_0ff0); // DR6
    set_word(0x570, 2); // RFLAGS
    set_word(0x578, nothing_but_cpuid as *const () as u64);
}

/// Enters the guest of the guest until its next CPUID; whether that is what ended it.
pub(crate) fn enter(cpu: u32) -> bool {
    let page = CONTROL[cpu as usize].0.get().cast::<u64>();
    // SAFETY: the page has what `prepare` left there. The guest changes neither memory nor registers.
    unsafe {
        asm!("vmrun rax", "stgi", in("rax") page as u64, options(nostack));
        let (code, rip) = (page.byte_add(0x070), page.byte_add(0x578));
        rip.write_volatile(rip.read_volatile() + 2);
        code.read_volatile() == CPUID
    }
}

fn rdmsr(index: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: callers name MSRs that there are.
    unsafe { asm!("rdmsr", in("ecx") index, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// A control register, of those that are needed here.
fn control(number: u8) -> u64 {
    let value;
    // SAFETY: reads a register.
    unsafe {
        match number {
            0 => asm!("mov {}, cr0", out(reg) value, options(nomem, nostack, preserves_flags)),
            3 => asm!("mov {}, cr3", out(reg) value, options(nomem, nostack, preserves_flags)),
            _ => asm!("mov {}, cr4", out(reg) value, options(nomem, nostack, preserves_flags)),
        }
    }
    value
}
