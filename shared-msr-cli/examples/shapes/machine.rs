//! A virtual machine whose vCPUs do nothing but exit: some CPUIDs, which KVM handles itself, then an OUT, and so on for ever.

use std::{
    collections::BTreeMap,
    ptr::{self, NonNull},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context as _, bail};
use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, Msrs, kvm_msr_entry, kvm_regs, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};

/// The guest's program, in real mode. ESI: where the number of CPUIDs before each OUT is; EBP: CPUIDs made so far.
const PROGRAM: [u8; 24] = [
    0x67, 0x66, 0x8b, 0x3e, //  0: mov edi, [esi]
    0x66, 0x85, 0xff, //        4: test edi, edi
    0x74, 0x0b, //              7: jz 0x14
    0x66, 0x31, 0xc0, //        9: xor eax, eax
    0x0f, 0xa2, //              c: cpuid
    0x66, 0x45, //              e: inc ebp
    0x66, 0x4f, //             10: dec edi
    0xeb, 0xf0, //             12: jmp 4
    0xe6, 0x10, //             14: out 0x10, al
    0xeb, 0xe8, //             16: jmp 0
];
const PORT: u16 = 0x10;
/// Where the program is in the guest's memory, and how much of that there is.
const PAGE: u64 = 0x1000;
/// Where the numbers of CPUIDs are in that page, 4 bytes for each vCPU.
const NUMBERS: u64 = 0x800;
const MSR_TSC_AUX: u32 = 0xc000_0103;

/// A virtual machine. It is gone when it and all its vCPUs are dropped.
#[derive(Clone)]
pub(crate) struct Machine {
    /// 1, 2 ... in the order in which the process makes them.
    number: u32,
    /// Dropped before the memory.
    vm: Arc<(VmFd, Page)>,
}

/// A vCPU, with the number of CPUIDs of each `KVM_RUN`.
pub(crate) struct Vcpu {
    fd: VcpuFd,
    machine: Machine,
    id: u64,
    tsc_aux: u32,
    cpuids: u32,
    made: u64,
}

/// A row of the report, as the VMM knows it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    vm_number: u32,
    vcpu: u64,
    tid: u32,
    tsc_aux: u32,
}

/// `KVM_RUN`s and CPUIDs of each row.
static MADE: Mutex<BTreeMap<Row, (u64, u64)>> = Mutex::new(BTreeMap::new());

impl Machine {
    /// The `number`th of this process.
    pub(crate) fn new(number: u32) -> anyhow::Result<Self> {
        let vm = Kvm::new().context("cannot open /dev/kvm")?.create_vm().context("KVM_CREATE_VM")?;
        let page = Page::with(&PROGRAM)?;
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: PAGE,
            memory_size: PAGE,
            userspace_addr: page.0.addr().get() as u64,
        };
        // SAFETY: the region is exactly the mapping, which is dropped after the VM.
        unsafe { vm.set_user_memory_region(region) }.context("KVM_SET_USER_MEMORY_REGION")?;
        Ok(Self { number, vm: Arc::new((vm, page)) })
    }

    /// Its vCPU `id`, with a `TSC_AUX` of its own. That is set here, by the thread that calls.
    pub(crate) fn vcpu(&self, id: u64, tsc_aux: u32, cpuids: u32) -> anyhow::Result<Vcpu> {
        let fd = self.vm.0.create_vcpu(id).context("KVM_CREATE_VCPU")?;
        // First: it decides which MSRs the guest has.
        let supported = Kvm::new()?.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).context("KVM_GET_SUPPORTED_CPUID")?;
        fd.set_cpuid2(&supported).context("KVM_SET_CPUID2")?;
        let mut sregs = fd.get_sregs().context("KVM_GET_SREGS")?;
        (sregs.cs.base, sregs.cs.selector) = (0, 0);
        fd.set_sregs(&sregs).context("KVM_SET_SREGS")?;
        let regs = kvm_regs { rip: PAGE, rflags: 0x2, rsi: PAGE + NUMBERS + 4 * id, ..kvm_regs::default() };
        fd.set_regs(&regs).context("KVM_SET_REGS")?;
        let entry = kvm_msr_entry { index: MSR_TSC_AUX, data: tsc_aux.into(), ..kvm_msr_entry::default() };
        let entries = Msrs::from_entries(&[entry]).map_err(|_| anyhow::anyhow!("one MSR is too many"))?;
        if fd.set_msrs(&entries).context("KVM_SET_MSRS")? != 1 {
            bail!("KVM refuses TSC_AUX: this host's CPU has no RDTSCP");
        }
        let mut vcpu = Vcpu { fd, machine: self.clone(), id, tsc_aux, cpuids, made: 0 };
        vcpu.set_cpuids(cpuids);
        Ok(vcpu)
    }
}

impl Vcpu {
    /// One `KVM_RUN`: the CPUIDs, then the OUT.
    pub(crate) fn run(&mut self) -> anyhow::Result<()> {
        match self.fd.run().context("KVM_RUN")? {
            VcpuExit::IoOut(PORT, _) => {}
            other => bail!("not an OUT but {other:?}"),
        }
        self.made += u64::from(self.cpuids);
        let row = Row { vm_number: self.machine.number, vcpu: self.id, tid: tid(), tsc_aux: self.tsc_aux };
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        let (runs, cpuids) = made.entry(row).or_default();
        (*runs, *cpuids) = (*runs + 1, *cpuids + u64::from(self.cpuids));
        Ok(())
    }

    /// Several of them.
    pub(crate) fn run_times(&mut self, times: u64) -> anyhow::Result<()> {
        (0..times).try_for_each(|_| self.run())
    }

    /// Changes the number of CPUIDs of each `KVM_RUN`, without a call of the kernel.
    pub(crate) fn set_cpuids(&mut self, cpuids: u32) {
        self.cpuids = cpuids;
        self.machine.vm.1.number(self.id).store(cpuids, Ordering::Relaxed);
    }

    /// The guest's own count of CPUIDs must be what it was asked for.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let counted = self.fd.get_regs().context("KVM_GET_REGS")?.rbp;
        if counted != self.made {
            bail!("vCPU {} made {counted} CPUIDs, not {}", self.id, self.made);
        }
        Ok(())
    }
}

/// Prints what this process did, a JSON object on each line.
pub(crate) fn print_rows() {
    let tgid = std::process::id();
    for (Row { vm_number, vcpu, tid, tsc_aux }, (runs, cpuids)) in &*MADE.lock().unwrap_or_else(PoisonError::into_inner) {
        println!(
            "{{\"vm\":{tgid},\"vm_number\":{vm_number},\"vcpu\":{vcpu},\"tid\":{tid},\"tsc_aux\":{tsc_aux},\
             \"kvm_runs\":{runs},\"cpuids\":{cpuids}}}"
        );
    }
}

/// Forgets what was made so far: in a process that was forked it is its parent's.
pub(crate) fn forget_rows() {
    MADE.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// The kernel's number of the calling thread.
fn tid() -> u32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::gettid() }.unsigned_abs()
}

/// A page that this process shares with its guest.
struct Page(NonNull<u8>);

// SAFETY: a mapping belongs to the process, not to the thread that made it, and only atomic numbers in it change.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    fn with(bytes: &[u8]) -> anyhow::Result<Self> {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: the kernel chooses an address that nothing else uses; no existing mapping changes.
        let start = unsafe { libc::mmap(ptr::null_mut(), PAGE as usize, access, kind, -1, 0) };
        if start == libc::MAP_FAILED {
            bail!("cannot map memory for the guest: {}", std::io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast::<u8>()).context("memory at address 0")?;
        // SAFETY: the mapping is longer than the program, and nobody else knows of it.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), start.as_ptr(), bytes.len()) };
        Ok(Self(start))
    }
}

impl Page {
    /// How many CPUIDs this vCPU is to make.
    fn number(&self, vcpu: u64) -> &AtomicU32 {
        assert!(vcpu < (PAGE - NUMBERS) / 4, "a page has no room for more vCPUs");
        // SAFETY: by the assertion, the result is inside the mapping, where 4 bytes are aligned.
        let number = unsafe { self.0.add((NUMBERS + 4 * vcpu) as usize) };
        // SAFETY: aligned, as long as the mapping, and only ever reached through this function.
        unsafe { AtomicU32::from_ptr(number.as_ptr().cast()) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: this is the whole mapping, and the VM that used it is gone.
        unsafe { libc::munmap(self.0.as_ptr().cast(), PAGE as usize) };
    }
}
