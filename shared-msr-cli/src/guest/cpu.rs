//! The host's CPU: pins this thread to it, and reads what it has in `TSC_AUX`.

use std::arch::x86_64::{__cpuid, __rdtscp};

use super::GuestError;
use crate::kernel::affinity;

/// Makes the calling thread run on `cpu` and nowhere else.
pub(super) fn pin(cpu: usize) -> Result<(), GuestError> {
    affinity::pin(cpu).map_err(|error| GuestError::Pin { cpu, error })
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
}
