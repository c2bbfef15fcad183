//! Kernel memory.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

/// A value at an address of the kernel; none where it cannot be read: the helper then leaves zeros.
#[inline(always)]
pub(crate) fn read<T: Default>(address: u64) -> Option<T> {
    let mut value = T::default();
    let target = (&raw mut value).cast::<c_void>();
    // SAFETY: room for a T; the helper checks the source.
    let result = unsafe { bpf_probe_read_kernel(target, size_of::<T>() as u32, address as *const c_void) };
    (result == 0).then_some(value)
}
