//! The host's CPU: which one this thread runs on, and what it has in `TSC_AUX`.

use std::arch::x86_64::{__cpuid, __rdtscp};
use std::io;

use super::GuestError;

/// No kernel has more CPUs than this; only keeps a slip of the finger from asking for gigabytes.
const MOST_CPUS: usize = 1 << 16;

/// Makes the calling thread run on `cpu` and nowhere else.
pub(super) fn pin(cpu: usize) -> Result<(), GuestError> {
    let refused = |error| GuestError::Pin { cpu, error };
    if cpu >= MOST_CPUS {
        return Err(refused(io::Error::from_raw_os_error(libc::EINVAL)));
    }
    // libc's cpu_set_t ends at 1024; the kernel takes a mask of any length.
    let mut mask = vec![0u64; cpu / 64 + 1];
    mask[cpu / 64] = 1 << (cpu % 64);
    // SAFETY: the kernel reads as many bytes as the second argument says, which is the length of the mask.
    let result = unsafe { libc::sched_setaffinity(0, size_of_val(mask.as_slice()), mask.as_ptr().cast()) };
    if result == 0 { Ok(()) } else { Err(refused(io::Error::last_os_error())) }
}

/// The CPU the calling thread runs on at this moment.
pub(super) fn current() -> io::Result<usize> {
    // SAFETY: takes no argument and has no effect.
    let cpu = unsafe { libc::sched_getcpu() };
    usize::try_from(cpu).map_err(|_| io::Error::last_os_error())
}

/// The host's `TSC_AUX` on the CPU that runs this, if that can be read.
pub(super) fn tsc_aux() -> Option<u32> {
    const EXTENDED: u32 = 0x8000_0001;
    const RDTSCP: u32 = 1 << 27;
    if __cpuid(EXTENDED & 0x8000_0000).eax < EXTENDED || __cpuid(EXTENDED).edx & RDTSCP == 0 {
        return None;
    }
    let mut value = 0;
    // SAFETY: CPUID said that the instruction exists, and it writes to the variable it is given.
    unsafe { __rdtscp(&raw mut value) };
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_nobody_has_is_refused_in_one_sentence() {
        for cpu in [8191, usize::MAX] {
            let error = pin(cpu).unwrap_err().to_string();
            assert!(error.starts_with(&format!("cannot run on CPU {cpu}: ")), "{error}");
        }
    }

    #[test]
    fn pinned_is_where_it_runs() {
        // In a thread of its own: the test harness goes on using this one.
        let (asked, got) = std::thread::spawn(|| {
            let cpu = current().unwrap();
            pin(cpu).unwrap();
            (cpu, current().unwrap())
        })
        .join()
        .unwrap();
        assert_eq!(asked, got);
    }
}
