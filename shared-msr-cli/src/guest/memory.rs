//! Memory that this process shares with its guest.

use std::io;
use std::ptr::{self, NonNull};

use super::layout;

/// The guest's memory, zeroed, unmapped when dropped.
///
/// The guest reads and writes it behind the compiler's back, so it is never handed out as a slice.
pub(super) struct GuestMemory {
    start: NonNull<u8>,
}

// SAFETY: a mapping belongs to the process, not to the thread that made it.
unsafe impl Send for GuestMemory {}

impl GuestMemory {
    /// Maps [`layout::SIZE`] bytes.
    pub(super) fn new() -> io::Result<Self> {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: the kernel chooses an address that nothing else uses; no existing mapping changes.
        let start = unsafe { libc::mmap(ptr::null_mut(), layout::SIZE, access, kind, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(start.cast()).map(|start| Self { start }).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// Copies `bytes` to `address`, before the guest runs.
    pub(super) fn write(&mut self, address: u64, bytes: &[u8]) {
        let address = address as usize;
        // All addresses are constants of the layout.
        assert!(address.checked_add(bytes.len()).is_some_and(|end| end <= layout::SIZE), "outside of the guest's memory");
        // SAFETY: the assertion above keeps the result inside the mapping.
        let target = unsafe { self.start.add(address) };
        // SAFETY: both ranges are valid for the length, and they do not overlap, as nobody borrows from the mapping.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), target.as_ptr(), bytes.len()) };
    }

    /// Where the memory is in this process.
    pub(super) fn host_address(&self) -> u64 {
        self.start.addr().get() as u64
    }
}

impl Drop for GuestMemory {
    fn drop(&mut self) {
        // SAFETY: this is the whole mapping made in `new`, and nobody has a reference into it.
        // A failure would leave memory mapped until the process ends; nothing more can be done about it here.
        unsafe { libc::munmap(self.start.as_ptr().cast(), layout::SIZE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_where_they_were_sent() {
        let mut memory = GuestMemory::new().unwrap();
        memory.write(layout::SIZE as u64 - 3, b"end");
        // SAFETY: inside the mapping.
        let at = unsafe { memory.start.add(layout::SIZE - 3) };
        // SAFETY: three bytes are left from there, and nobody writes to them.
        assert_eq!(unsafe { at.cast::<[u8; 3]>().as_ptr().read_unaligned() }, *b"end");
    }

    #[test]
    #[should_panic(expected = "outside of the guest's memory")]
    fn bytes_outside_are_refused() {
        GuestMemory::new().unwrap().write(layout::SIZE as u64 - 1, b"no");
    }
}
