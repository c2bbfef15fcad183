//! The virtual machine: one vCPU in long mode, one page of memory, nothing else.

use std::os::fd::AsRawFd as _;

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_segment, kvm_sregs, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};

use super::memory::GuestMemory;
use super::options::GuestOptions;
use super::{GuestError, code, layout};

/// A machine that is ready to run its program.
///
/// The order of the fields is the order in which they are dropped: the memory goes last.
pub(super) struct Machine {
    pub(super) vcpu: VcpuFd,
    _vm: VmFd,
    _memory: GuestMemory,
    pub(super) features: Features,
}

/// What the guest's CPUID offers of what the program or its set-up needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Features {
    /// The guest can read `TSC_AUX`.
    pub(super) rdtscp: bool,
    /// The guest has `TSC_AUX`. RDPID alone brings it, too.
    pub(super) tsc_aux: bool,
}

impl Machine {
    /// Sets everything up but the MSRs. CPUID is set here, and must be before them: it decides which of them exist.
    pub(super) fn new(options: &GuestOptions) -> Result<Self, GuestError> {
        let kvm = Kvm::new().map_err(|error| GuestError::OpenKvm(error.into()))?;
        let vm = kvm.create_vm().map_err(GuestError::ioctl("KVM_CREATE_VM"))?;

        let mut memory = GuestMemory::new().map_err(GuestError::Memory)?;
        memory.write(layout::CODE, code::bytes());
        for (address, entry) in layout::PAGE_TABLES {
            memory.write(address, &entry.to_le_bytes());
        }
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: layout::SIZE as u64,
            userspace_addr: memory.host_address(),
        };
        // SAFETY: the region is exactly the mapping, which outlives the VM, see `Machine`.
        unsafe { vm.set_user_memory_region(region) }.map_err(GuestError::ioctl("KVM_SET_USER_MEMORY_REGION"))?;

        let vcpu = vm.create_vcpu(0).map_err(GuestError::ioctl("KVM_CREATE_VCPU"))?;
        let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(GuestError::ioctl("KVM_GET_SUPPORTED_CPUID"))?;
        vcpu.set_cpuid2(&cpuid).map_err(GuestError::ioctl("KVM_SET_CPUID2"))?;
        let features = Features::of(&cpuid);

        let mut sregs = vcpu.get_sregs().map_err(GuestError::ioctl("KVM_GET_SREGS"))?;
        long_mode(&mut sregs);
        vcpu.set_sregs(&sregs).map_err(GuestError::ioctl("KVM_SET_SREGS"))?;
        vcpu.set_regs(&code::start(options, features.rdtscp)).map_err(GuestError::ioctl("KVM_SET_REGS"))?;

        Ok(Self { vcpu, _vm: vm, _memory: memory, features })
    }
}

/// `struct kvm_signal_mask` with a mask behind it (include/uapi/linux/kvm.h).
#[repr(C)]
struct SignalMask {
    length: u32,
    mask: [u8; 8],
}

/// `_IOW(KVMIO, 0x8b, struct kvm_signal_mask)`: kvm-ioctls does not have it.
const KVM_SET_SIGNAL_MASK: libc::Ioctl = 0x4004_ae8b;

impl Machine {
    /// What signals are blocked while the vCPU runs, instead of those of its thread.
    pub(super) fn set_signal_mask(&self, mask: [u8; 8]) -> Result<(), GuestError> {
        let argument = SignalMask { length: 8, mask };
        // SAFETY: the kernel reads the length and as many bytes as it says; both live through the call.
        let result = unsafe { libc::ioctl(self.vcpu.as_raw_fd(), KVM_SET_SIGNAL_MASK, &raw const argument) };
        if result == 0 {
            return Ok(());
        }
        Err(GuestError::Ioctl { call: "KVM_SET_SIGNAL_MASK", error: std::io::Error::last_os_error() })
    }
}

impl Features {
    fn of(cpuid: &CpuId) -> Self {
        let entry = |function, index| cpuid.as_slice().iter().find(|entry| entry.function == function && entry.index == index);
        let rdtscp = entry(0x8000_0001, 0).is_some_and(|entry| entry.edx & (1 << 27) != 0);
        let rdpid = entry(7, 0).is_some_and(|entry| entry.ecx & (1 << 22) != 0);
        Self { rdtscp, tsc_aux: rdtscp || rdpid }
    }
}

/// 64-bit mode with flat segments, paging on, and SYSCALL enabled.
fn long_mode(sregs: &mut kvm_sregs) {
    const CR0_PROTECTED: u64 = 1 << 0;
    const CR0_EXTENSION_TYPE: u64 = 1 << 4;
    const CR0_NUMERIC_ERROR: u64 = 1 << 5;
    const CR0_PAGING: u64 = 1 << 31;
    const CR4_PHYSICAL_ADDRESS_EXTENSION: u64 = 1 << 5;
    // SYSCALL enable: without it, KVM on Intel does not load STAR, LSTAR and SYSCALL_MASK at all.
    const EFER_SCE: u64 = 1 << 0;
    const EFER_LONG_MODE_ENABLE: u64 = 1 << 8;
    const EFER_LONG_MODE_ACTIVE: u64 = 1 << 10;

    let code = kvm_segment { selector: 0x8, type_: 0xb, l: 1, db: 0, ..flat_segment() };
    let data = kvm_segment { selector: 0x10, type_: 0x3, l: 0, db: 1, ..flat_segment() };
    sregs.cs = code;
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.cr3 = layout::PML4;
    sregs.cr4 = CR4_PHYSICAL_ADDRESS_EXTENSION;
    sregs.cr0 = CR0_PROTECTED | CR0_EXTENSION_TYPE | CR0_NUMERIC_ERROR | CR0_PAGING;
    sregs.efer = EFER_SCE | EFER_LONG_MODE_ENABLE | EFER_LONG_MODE_ACTIVE;
}

/// What code and data segments have in common.
fn flat_segment() -> kvm_segment {
    kvm_segment { base: 0, limit: u32::MAX, present: 1, dpl: 0, s: 1, g: 1, ..kvm_segment::default() }
}

#[cfg(test)]
mod tests {
    use kvm_bindings::kvm_cpuid_entry2;

    use super::*;

    fn cpuid(entries: &[(u32, u32, u32)]) -> CpuId {
        let entry = |&(function, ecx, edx)| kvm_cpuid_entry2 { function, ecx, edx, ..kvm_cpuid_entry2::default() };
        CpuId::from_entries(&entries.iter().map(entry).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn features_come_from_their_bits() {
        let of = |entries: &[_]| Features::of(&cpuid(entries));
        assert_eq!(of(&[]), Features { rdtscp: false, tsc_aux: false });
        assert_eq!(of(&[(0x8000_0001, 0, 1 << 27)]), Features { rdtscp: true, tsc_aux: true });
        assert_eq!(of(&[(7, 1 << 22, 0)]), Features { rdtscp: false, tsc_aux: true });
        assert_eq!(of(&[(7, 0, 1 << 27), (0x8000_0001, 1 << 22, 0)]), Features { rdtscp: false, tsc_aux: false });
    }

    #[test]
    fn long_mode_has_syscall_enabled() {
        let mut sregs = kvm_sregs::default();
        long_mode(&mut sregs);
        assert_eq!(sregs.efer, 0x501);
        assert_eq!(sregs.cr0, 0x8000_0031);
        assert_eq!((sregs.cs.l, sregs.cs.db), (1, 0));
    }
}
