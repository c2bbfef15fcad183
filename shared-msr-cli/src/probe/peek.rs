//! Kernel memory, read by a BPF program that runs on demand.

use std::cell::Cell;

use shared_msr_common::{PEEK_BYTES, PeekBuffer};

use super::{on_demand::Program, sys::OnDemand};
use crate::{
    kernel::{lockdown::LOCKED_DOWN, tables::Memory},
    obstacle::Obstacle,
};

/// The loaded peek program.
pub(super) struct Peek {
    program: Program<PeekBuffer>,
    /// How often it was run.
    runs: Cell<u64>,
}

impl Peek {
    /// Loads the program.
    pub(super) fn load() -> Result<Self, Obstacle> {
        let what = "a program that reads kernel memory";
        let program = Program::load(OnDemand::RawTracepoint, what, ("shared_msr_peek", "PEEK"))?;
        Ok(Self { program, runs: Cell::new(0) })
    }
}

impl Memory for Peek {
    fn read(&self, address: u64, length: usize) -> Result<Vec<u8>, Obstacle> {
        // From 1 on: the map begins with zeros.
        let run = self.runs.get() + 1;
        self.runs.set(run);
        self.program.run(&[address, length as u64, run])?;
        answer(&self.program.answer()?, (address, length), run)
    }
}

/// The bytes that run `run` was asked for, if the buffer holds them.
fn answer(buffer: &PeekBuffer, (address, length): (u64, usize), run: u64) -> Result<Vec<u8>, Obstacle> {
    let unread = |why: &str, cure: &str| {
        Err(Obstacle::new(format!("{length} bytes of kernel memory at {address:#x} cannot be read ({why})"), cure))
    };
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

/// The kernel says where its variables are; what it says is wrong, or not of the kernel that runs.
const WRONG_ADDRESS: &str = "see that /proc/kallsyms is this kernel's own and nothing is mounted over it; if it is, report this kernel \
                             to the authors of shared-msr";

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
