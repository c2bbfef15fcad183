//! The kernel that a real VMM runs in the lab: on each CPU it makes known numbers of VM-exits, and says what it made.
//!
//! Multiboot command line: `cpus=N` and, for each CPU, `cpuids=`, `outs=` (to a port without a device), `mmios=` (writes to an
//! address without a device), `hlts=` (each ended by the local APIC's timer) `wrmsrs=` (of an MSR that KVM always
//! intercepts) and `nested=` (entries of a guest of its own, each ended by a CPUID of that; only with SVM); what is not named is 0. When all CPUs have done their work, the first one writes a line of JSON for each to
//! port 0xe9 (QEMU: `-debugcon`), and ends the machine by writing 0x10 to port 0x501 (QEMU: `-device
//! isa-debug-exit,iobase=0x501,iosize=4`, whose exit status is then 33); with `stay=1` it halts instead. A fault resets the
//! machine.
//!
//! Each CPU has values of its own in `TSC_AUX`, STAR, LSTAR and `SYSCALL_MASK`, which no host has. A CPU but the first makes one
//! HLT more at its end, with interrupts off. What starting, the APIC and the firmware cost comes on top, on the first CPU most.

#![no_std]
#![no_main]

use core::arch::x86_64::{__cpuid, __rdtscp};
use core::arch::{asm, global_asm};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU32, Ordering};

mod nested;

global_asm!(include_str!("boot.s"), options(att_syntax));

unsafe extern "C" {
    /// Where the boot loader has left what it says; boot.s keeps it.
    static multiboot_information: u32;
}

/// As many as boot.s has stacks for.
const MOST_CPUS: usize = 64;
/// No device of QEMU's machines has it.
const UNUSED_PORT: u16 = 0x5e5e;
/// Below the I/O APIC at 0xfec00000, above where QEMU's firmware puts PCI devices.
const UNUSED_ADDRESS: u64 = 0xfeb0_0000;
/// `IA32_UCODE_REV`: KVM intercepts the write and ignores it, see `kvm_set_msr_common`.
const IGNORED_MSR: u32 = 0x8b;
const STAR: u32 = 0xc000_0081;
const LSTAR: u32 = 0xc000_0082;
const SYSCALL_MASK: u32 = 0xc000_0084;
const TSC_AUX: u32 = 0xc000_0103;
const OUTPUT_PORT: u16 = 0xe9;
const EXIT_PORT: u16 = 0x501;

/// What each CPU is told to do, and what it says it did.
const ACTS: [&[u8]; 6] = [b"cpuids", b"outs", b"mmios", b"hlts", b"wrmsrs", b"nested"];

/// What a CPU has done, in the order of [`ACTS`], and the `TSC_AUX` that it had at its end.
struct Done {
    acts: [AtomicU32; ACTS.len()],
    tsc_aux: AtomicU32,
}

static DONE: [Done; MOST_CPUS] =
    [const { Done { acts: [const { AtomicU32::new(0) }; ACTS.len()], tsc_aux: AtomicU32::new(0) } }; MOST_CPUS];
static FINISHED: AtomicU32 = AtomicU32::new(0);

/// Where each CPU comes out of boot.s.
#[unsafe(no_mangle)]
extern "C" fn cpu_main(cpu: u32) -> ! {
    apic(0xf0, 0x1ff); // on, the spurious vector
    if cpu == 0 {
        start_others();
    }
    wrmsr(TSC_AUX, u64::from(0xa00 + cpu));
    wrmsr(STAR, u64::from(0x0013_0008 + 8 * cpu) << 32);
    wrmsr(LSTAR, 0x1234_5678_9000 + u64::from(cpu));
    wrmsr(SYSCALL_MASK, u64::from(0x700 + cpu));
    let Some(done) = DONE.get(cpu as usize) else { end() };
    if argument(b"nested") > 0 {
        nested::prepare(cpu);
    }
    for (number, act) in ACTS.iter().enumerate() {
        for _ in 0..argument(act) {
            match number {
                0 => cpuid(),
                1 => out8(UNUSED_PORT, 0),
                2 => store(UNUSED_ADDRESS, 0),
                3 => halt_until_timer(),
                4 => wrmsr(IGNORED_MSR, 0),
                _ if nested::enter(cpu) => {}
                _ => break,
            };
            done.acts[number].fetch_add(1, Ordering::Relaxed);
        }
    }
    // SAFETY: reads a counter and a register; a CPU without it does not come so far, as it has no TSC_AUX either.
    unsafe {
        let mut tsc_aux = 0;
        __rdtscp(&mut tsc_aux);
        done.tsc_aux.store(tsc_aux, Ordering::Relaxed);
    }
    FINISHED.fetch_add(1, Ordering::Release);
    if cpu == 0 { finish() } else { end() }
}

/// Sends INIT and SIPI to all other CPUs. The interrupt controllers that the firmware left on are masked first, so that nothing
/// but its timer ends a CPU's HLT.
fn start_others() {
    out8(0x21, 0xff);
    out8(0xa1, 0xff);
    apic(0x300, 0x000c_4500);
    apic(0x300, 0x000c_4608); // starts at page 8, boot.s' TRAMPOLINE
}

/// The timer fires once after what is about 1 ms under KVM. With interrupts off until HLT, the timer cannot come before it, so
/// that this is one exit of that reason however slow the host is.
fn halt_until_timer() {
    apic(0x3e0, 0b1011); // counts without a divisor
    apic(0x320, 0x20); // once, boot.s' TIMER_VECTOR
    apic(0x380, 1_000_000);
    // SAFETY: the handler of boot.s changes no register, and this program is built without a red zone.
    unsafe { asm!("sti", "hlt", "cli") };
}

/// Waits for all CPUs, says what they did and ends the machine.
fn finish() -> ! {
    let cpus = argument(b"cpus").max(1);
    while FINISHED.load(Ordering::Acquire) < cpus {
        core::hint::spin_loop();
    }
    for (cpu, done) in (0..cpus).zip(&DONE) {
        print(b"{\"cpu\":");
        print_number(cpu);
        print(b",\"tsc_aux\":");
        print_number(done.tsc_aux.load(Ordering::Relaxed));
        for (act, number) in ACTS.iter().zip(&done.acts) {
            print(b",\"");
            print(act);
            print(b"\":");
            print_number(number.load(Ordering::Relaxed));
        }
        print(b"}\n");
    }
    if argument(b"stay") == 0 {
        // SAFETY: ends the machine, or does nothing.
        unsafe { asm!("out dx, eax", in("dx") EXIT_PORT, in("eax") 0x10) };
    }
    end()
}

/// Nothing wakes a CPU up again that has its interrupts off.
fn end() -> ! {
    loop {
        // SAFETY: touches no memory.
        unsafe { asm!("cli", "hlt") };
    }
}

/// The number behind `NAME=` on the command line, 0 if there is none.
fn argument(name: &[u8]) -> u32 {
    // SAFETY: multiboot's information has its flags first, and the address of the command line, which ends with 0, at 16 if bit
    // 2 is set. All memory below 4 GiB is mapped where it is.
    unsafe {
        let information = multiboot_information as usize as *const u32;
        if information.read() & 4 == 0 {
            return 0;
        }
        let mut text = information.add(4).read() as usize as *const u8;
        let mut before = b' ';
        while text.read() != 0 {
            let matches = before == b' ' && (0..name.len()).all(|at| text.add(at).read() == name[at]);
            if matches && text.add(name.len()).read() == b'=' {
                return number_at(text.add(name.len() + 1));
            }
            before = text.read();
            text = text.add(1);
        }
    }
    0
}

/// The decimal number there.
///
/// # Safety
/// There must be a byte that is no digit behind it.
unsafe fn number_at(mut text: *const u8) -> u32 {
    let mut number = 0_u32;
    // SAFETY: the caller's promise.
    while let digit @ b'0'..=b'9' = unsafe { text.read() } {
        number = number.wrapping_mul(10).wrapping_add(u32::from(digit - b'0'));
        // SAFETY: it was not yet the byte behind.
        text = unsafe { text.add(1) };
    }
    number
}

fn print(text: &[u8]) {
    for &byte in text {
        out8(OUTPUT_PORT, byte);
    }
}

fn print_number(number: u32) {
    if number >= 10 {
        print_number(number / 10);
    }
    out8(OUTPUT_PORT, b'0' + (number % 10) as u8);
}

fn out8(port: u16, value: u8) {
    // SAFETY: touches no memory of this program.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) };
}

fn cpuid() {
    // KVM intercepts it always; what it says does not matter.
    __cpuid(0);
}

fn store(address: u64, value: u32) {
    // SAFETY: callers name addresses of no memory. One known instruction, because KVM has to emulate it.
    unsafe { asm!("mov dword ptr [{}], {:e}", in(reg) address, in(reg) value, options(nostack, preserves_flags)) };
}

/// Writes a register of the local APIC.
fn apic(register: u64, value: u32) {
    store(0xfee0_0000 + register, value);
}

fn wrmsr(index: u32, value: u64) {
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: callers name MSRs that change nothing for this program.
    unsafe { asm!("wrmsr", in("ecx") index, in("eax") low, in("edx") high, options(nostack, preserves_flags)) };
}

/// No test sees more of a panic than that the machine does not end.
#[panic_handler]
fn panic(_: &PanicInfo) -> ! {
    end()
}
