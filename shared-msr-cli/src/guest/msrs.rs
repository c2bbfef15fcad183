//! The MSRs the guest is given: those that KVM leaves in the hardware until the CPU returns to user mode.
//!
//! On Intel these are STAR, LSTAR, `SYSCALL_MASK` and `TSC_AUX`, the first three only for a long-mode guest with EFER.SCE set. On
//! AMD the first three are switched by VMLOAD and VMSAVE, and only `TSC_AUX` matters.

use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

use super::GuestError;

/// An MSR by its name and index.
pub(super) struct Msr {
    name: &'static str,
    index: u32,
}

const STAR: Msr = Msr { name: "STAR", index: 0xc000_0081 };
const LSTAR: Msr = Msr { name: "LSTAR", index: 0xc000_0082 };
const SYSCALL_MASK: Msr = Msr { name: "SYSCALL_MASK", index: 0xc000_0084 };
const TSC_AUX: Msr = Msr { name: "TSC_AUX", index: 0xc000_0103 };

// Values that no host has, or KVM would have nothing to switch. All are below 2^53, so that any reader of JSON gets them right.

/// Linux has 0x23 and 0x10 here, for its own segments.
pub(super) const STAR_VALUE: u64 = 0x0013_0008_0000_0000;
/// A host has the address of a function of its kernel here, which is in the upper half.
pub(super) const LSTAR_VALUE: u64 = 0x0000_1234_5678_9000;
/// Linux has 0x257fd5 here, and had 0x47700.
pub(super) const SYSCALL_MASK_VALUE: u64 = 0x700;

/// What the MSRs held when the guest had ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MsrsReadBack {
    pub(super) star: u64,
    pub(super) lstar: u64,
    pub(super) syscall_mask: u64,
    /// None if it was not set.
    pub(super) tsc_aux: Option<u64>,
}

/// The MSRs to set, in this order.
fn wanted(tsc_aux: Option<u32>) -> Vec<(Msr, u64)> {
    let mut list = vec![(STAR, STAR_VALUE), (LSTAR, LSTAR_VALUE), (SYSCALL_MASK, SYSCALL_MASK_VALUE)];
    list.extend(tsc_aux.map(|value| (TSC_AUX, u64::from(value))));
    list
}

/// The form in which KVM takes and returns them.
fn entries(list: &[(Msr, u64)], call: &'static str) -> Result<Msrs, GuestError> {
    let entries: Vec<_> =
        list.iter().map(|(msr, value)| kvm_msr_entry { index: msr.index, data: *value, ..kvm_msr_entry::default() }).collect();
    // Only fails for a longer list than KVM takes.
    Msrs::from_entries(&entries).map_err(|_| GuestError::Ioctl { call, error: std::io::ErrorKind::InvalidInput.into() })
}

/// Sets all of them by one `KVM_SET_MSRS`. One, because each that carries `TSC_AUX` makes KVM write it at once and restore
/// the host's value on the way back: a close more in every count.
pub(super) fn set(vcpu: &VcpuFd, tsc_aux: Option<u32>) -> Result<(), GuestError> {
    let list = wanted(tsc_aux);
    let entries = entries(&list, "KVM_SET_MSRS")?;
    let taken = vcpu.set_msrs(&entries).map_err(GuestError::ioctl("KVM_SET_MSRS"))?;
    // KVM stops at the first one that it refuses.
    list.get(taken).map_or(Ok(()), |(msr, value)| Err(GuestError::MsrRefused { msr: msr.name, value: *value }))
}

/// Reads them from KVM's own structures and compares. Nothing is loaded into the hardware for it.
pub(super) fn read_back(vcpu: &VcpuFd, tsc_aux: Option<u32>) -> Result<MsrsReadBack, GuestError> {
    let list = wanted(tsc_aux);
    let mut entries = entries(&list, "KVM_GET_MSRS")?;
    // Not what is asked for, so that an entry the kernel does not fill in cannot look right.
    entries.as_mut_slice().iter_mut().for_each(|entry| entry.data = !entry.data);
    let read = vcpu.get_msrs(&mut entries).map_err(GuestError::ioctl("KVM_GET_MSRS"))?;
    if let Some((msr, _)) = list.get(read) {
        return Err(GuestError::MsrUnreadable(msr.name));
    }
    let values: Vec<u64> = entries.as_slice().iter().map(|entry| entry.data).collect();
    compare(&list, &values)?;
    // Equal to what was asked for, or `compare` had returned.
    Ok(MsrsReadBack { star: values[0], lstar: values[1], syscall_mask: values[2], tsc_aux: values.get(3).copied() })
}

/// The first difference between what was asked for and what is there.
fn compare(list: &[(Msr, u64)], values: &[u64]) -> Result<(), GuestError> {
    for ((msr, asked), read_back) in list.iter().zip(values) {
        if asked != read_back {
            return Err(GuestError::ReadBack { msr: msr.name, asked: *asked, read_back: *read_back });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tsc_aux_is_left_alone_unless_asked_for() {
        assert!(wanted(None).iter().all(|(msr, _)| msr.index != 0xc000_0103));
        let list = wanted(Some(0xabc));
        assert_eq!(list.last().map(|(msr, value)| (msr.index, *value)), Some((0xc000_0103, 0xabc)));
        assert_eq!(list.len(), 4);
    }

    #[test]
    fn a_difference_names_the_msr() {
        let error = compare(&wanted(Some(1)), &[STAR_VALUE, LSTAR_VALUE, 0, 1]).unwrap_err().to_string();
        assert!(error.starts_with("SYSCALL_MASK was set to 0x700 but reads back as 0x0"), "{error}");
        assert!(compare(&wanted(None), &[STAR_VALUE, LSTAR_VALUE, SYSCALL_MASK_VALUE]).is_ok());
    }

    #[test]
    fn values_are_safe_in_json_and_canonical() {
        for value in [STAR_VALUE, LSTAR_VALUE, SYSCALL_MASK_VALUE] {
            assert!(value < 1 << 53);
        }
        assert_eq!(LSTAR_VALUE >> 47, 0);
    }
}
