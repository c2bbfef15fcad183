//! What the kernel-side programs that read kernel memory say of one read.

use shared_msr_common::{PEEK_BYTES, PeekBuffer};

use super::{WRONG_ADDRESS, unread};
use crate::{kernel::lockdown::LOCKED_DOWN, obstacle::Obstacle};

/// The bytes that run `run` was asked for, if the buffer holds them.
pub(super) fn answer(buffer: &PeekBuffer, (address, length): (u64, usize), run: u64) -> Result<Vec<u8>, Obstacle> {
    let unread = |why: &str, cure: &str| Err(unread((address, length), why, cure));
    if buffer.run != run || buffer.address != address {
        // The kernel skips a program that it finds running on the same CPU already.
        return unread("the program that reads it did not run", "try again");
    }
    let errno = i32::try_from(buffer.status.unsigned_abs()).unwrap_or(i32::MAX);
    match (buffer.status, errno) {
        (0, _) if length <= PEEK_BYTES => Ok(buffer.bytes[..length].to_vec()),
        (0, _) | (_, libc::E2BIG) => unread("that is more than at once", "report this as a defect"),
        (_, libc::EPERM) => unread("EPERM: the kernel is locked down", LOCKED_DOWN),
        (_, libc::EFAULT) => unread("EFAULT: nothing is mapped there", WRONG_ADDRESS),
        (_, libc::ERANGE) => unread("ERANGE: that is no address of the kernel", WRONG_ADDRESS),
        (status, _) => unread(&format!("error {status}"), WRONG_ADDRESS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(status: i64) -> PeekBuffer {
        PeekBuffer { run: 3, address: 0x1000, status, bytes: [0; PEEK_BYTES] }
    }

    #[test]
    fn zeros_that_were_read_are_an_answer() {
        assert_eq!(answer(&buffer(0), (0x1000, 4), 3), Ok(vec![0; 4]));
    }

    #[test]
    fn zeros_of_a_failed_read_are_none() {
        for (status, word) in [(-14, "nothing is mapped"), (-34, "no address of the kernel"), (-95, "error -95")] {
            let obstacle = answer(&buffer(status), (0x1000, 4), 3).unwrap_err();
            assert!(obstacle.problem.contains("0x1000") && obstacle.problem.contains(word), "{obstacle}");
            assert!(obstacle.cure.contains("/proc/kallsyms"), "{obstacle}");
        }
    }

    #[test]
    fn a_locked_down_kernel_is_named_with_its_cure() {
        let obstacle = answer(&buffer(-1), (0x1000, 4), 3).unwrap_err();
        assert!(obstacle.problem.contains("locked down") && obstacle.cure.contains("lockdown=confidentiality"), "{obstacle}");
    }

    #[test]
    fn the_answer_to_another_run_or_address_is_none() {
        assert!(answer(&buffer(0), (0x1000, 4), 4).is_err(), "the run did not happen");
        assert!(answer(&buffer(0), (0x1008, 4), 3).is_err(), "another address");
        assert!(answer(&buffer(0), (0x1000, PEEK_BYTES + 1), 3).is_err(), "more than was copied");
    }
}
