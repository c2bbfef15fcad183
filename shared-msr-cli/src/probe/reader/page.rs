//! A page of this process's memory that is there for its faults alone.

use std::{
    io,
    ptr::{self, NonNull},
};

/// The page of x86-64.
pub(super) const PAGE: usize = 4096;

/// A private page; unmapped when dropped.
pub(super) struct Page(NonNull<u8>);

// SAFETY: a mapping belongs to the process, not to the thread that made it.
unsafe impl Send for Page {}

impl Page {
    /// Maps one.
    pub(super) fn new() -> io::Result<Self> {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: the kernel chooses an address that nothing else uses; no existing mapping changes.
        let start = unsafe { libc::mmap(ptr::null_mut(), PAGE, access, kind, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(start.cast()).map(Self).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// Makes the calling thread fault: gives the memory back, and writes to the page, which then needs memory again.
    pub(super) fn fault(&self) -> io::Result<()> {
        // SAFETY: this is the mapping made in `new`; its content matters to nobody.
        if unsafe { libc::madvise(self.0.as_ptr().cast(), PAGE, libc::MADV_DONTNEED) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the mapping can be written to, and nobody has a reference into it.
        unsafe { self.0.as_ptr().write_volatile(1) };
        Ok(())
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: this is the whole mapping made in `new`, and nobody has a reference into it.
        // A failure would leave memory mapped until the process ends; nothing more can be done about it here.
        unsafe { libc::munmap(self.0.as_ptr().cast(), PAGE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Page faults of this thread that needed no I/O, so far.
    fn faults() -> i64 {
        // SAFETY: all zero is a value of it.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: writes to the structure it is given.
        assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) }, 0);
        usage.ru_minflt
    }

    #[test]
    fn each_time_there_is_a_fault() {
        let page = Page::new().unwrap();
        let before = faults();
        for _ in 0..100 {
            page.fault().unwrap();
        }
        assert!(faults() >= before + 100);
    }
}
