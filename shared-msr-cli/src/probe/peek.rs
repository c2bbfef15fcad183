//! Kernel memory, read by a BPF program that runs on demand.

use std::cell::{Cell, RefCell};

use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::{RawTracePoint, RawTracePointRunOptions, TestRun as _},
};
use shared_msr_common::{PEEK_BYTES, PeekBuffer};

use super::object::{self, Globals};
use crate::{
    kernel::{lockdown::LOCKED_DOWN, tables::Memory},
    obstacle::Obstacle,
};

const PROGRAM: &str = "shared_msr_peek";

/// The loaded peek program. It is never attached to anything: `BPF_PROG_TEST_RUN` runs it in the calling thread
/// (raw tracepoints: Linux 5.10 and later).
pub(super) struct Peek {
    bpf: Ebpf,
    buffer: RefCell<Array<MapData, PeekBuffer>>,
    /// How often it was run.
    runs: Cell<u64>,
}

impl Peek {
    /// Loads the program.
    pub(super) fn load() -> Result<Self, Obstacle> {
        let mut bpf = object::load(&Globals::none())?;
        let map = bpf.take_map("PEEK").ok_or_else(|| object::missing("map PEEK"))?;
        let buffer = Array::try_from(map).map_err(|error| object::refused("the map PEEK", &error))?;
        let program: &mut RawTracePoint = bpf
            .program_mut(PROGRAM)
            .ok_or_else(|| object::missing(PROGRAM))?
            .try_into()
            .map_err(|error| object::refused(PROGRAM, &error))?;
        program.load().map_err(|error| object::refused("a program that reads kernel memory", &error))?;
        Ok(Self { bpf, buffer: RefCell::new(buffer), runs: Cell::new(0) })
    }
}

impl Memory for Peek {
    fn read(&self, address: u64, length: usize) -> Result<Vec<u8>, Obstacle> {
        let program = self.bpf.program(PROGRAM).ok_or_else(|| object::missing(PROGRAM))?;
        let program: &RawTracePoint = program.try_into().map_err(|error| object::refused(PROGRAM, &error))?;
        // From 1 on: the map begins with zeros.
        let run = self.runs.get() + 1;
        self.runs.set(run);
        let mut options = RawTracePointRunOptions::new();
        options.args[..3].copy_from_slice(&[address, length as u64, run]);
        program.test_run(options).map_err(|error| object::refused("to run a program on demand", &error))?;
        let buffer = self.buffer.borrow().get(&0, 0).map_err(|error| object::refused("to read the map PEEK", &error))?;
        answer(&buffer, (address, length), run)
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
