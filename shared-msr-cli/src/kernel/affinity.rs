//! On which CPU a thread runs.

use std::io;

/// No kernel has more CPUs than this; only keeps a slip of the finger from asking for gigabytes.
const MOST_CPUS: usize = 1 << 16;

/// Makes the calling thread run on `cpu` and nowhere else.
pub fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= MOST_CPUS {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mask = mask(cpu);
    // SAFETY: the kernel reads as many bytes as the second argument says, which is the length of the mask.
    let result = unsafe { libc::sched_setaffinity(0, size_of_val(mask.as_slice()), mask.as_ptr().cast()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The bit of a CPU. libc's `cpu_set_t` ends at 1024, and its `CPU_SET` panics beyond; the kernel takes a mask of any length.
fn mask(cpu: usize) -> Vec<u64> {
    let mut mask = vec![0; cpu / 64 + 1];
    mask[cpu / 64] = 1 << (cpu % 64);
    mask
}

/// The CPU the calling thread runs on at this moment.
pub fn current() -> io::Result<usize> {
    // SAFETY: takes no argument and has no effect.
    let cpu = unsafe { libc::sched_getcpu() };
    usize::try_from(cpu).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_beyond_libc_s_set_has_its_bit() {
        for cpu in [0, 63, 64, 1023, 1024, 5000, MOST_CPUS - 1] {
            let mask = mask(cpu);
            assert_eq!(mask.iter().map(|word| word.count_ones()).sum::<u32>(), 1, "{cpu}");
            assert_eq!((mask.len() - 1) * 64 + mask[mask.len() - 1].trailing_zeros() as usize, cpu);
        }
    }

    #[test]
    fn a_cpu_nobody_has_is_refused() {
        for cpu in [8191, MOST_CPUS, usize::MAX] {
            assert_eq!(pin(cpu).unwrap_err().raw_os_error(), Some(libc::EINVAL), "{cpu}");
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
