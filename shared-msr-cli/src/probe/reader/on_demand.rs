//! By a program that `BPF_PROG_TEST_RUN` runs in the calling thread: raw tracepoints since Linux 5.10 (1b4d60ec162f). It is never
//! attached to anything.

use std::cell::Cell;

use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::{ProgramError, RawTracePoint, RawTracePointRunOptions, TestRun as _},
};
use shared_msr_common::PeekBuffer;

use super::{Known, Way, answer::answer};
use crate::{
    kernel::tables::Memory,
    obstacle::Obstacle,
    probe::object::{self, Globals},
};

const PROGRAM: &str = "shared_msr_peek";

struct OnDemand {
    bpf: Ebpf,
    buffer: Array<MapData, PeekBuffer>,
    /// How often it was run.
    runs: Cell<u64>,
}

/// Loads the program.
pub(super) fn open(_known: &Known) -> Result<Way, Obstacle> {
    let mut bpf = object::load(&Globals::none())?;
    let map = bpf.take_map("PEEK").ok_or_else(|| object::missing("map PEEK"))?;
    let buffer = Array::try_from(map).map_err(|error| object::refused("the map PEEK", &error))?;
    let program: &mut RawTracePoint = bpf
        .program_mut(PROGRAM)
        .ok_or_else(|| object::missing(PROGRAM))?
        .try_into()
        .map_err(|error| object::refused(PROGRAM, &error))?;
    program.load().map_err(|error| object::refused("a program that reads kernel memory", &error))?;
    Ok(Box::new(OnDemand { bpf, buffer, runs: Cell::new(0) }))
}

/// `ENOTSUPP` (include/linux/errno.h), which is not meant for user space: `bpf_prog_test_run` has it for kinds of programs that it does
/// not run.
const ENOTSUPP: i32 = 524;

fn refused(error: &ProgramError) -> Obstacle {
    match error {
        ProgramError::SyscallError(call) if call.io_error.raw_os_error() == Some(ENOTSUPP) => Obstacle::new(
            "the kernel runs no program on a raw tracepoint's arguments on demand (error 524)",
            "use Linux 5.10 or later",
        ),
        _ => object::refused("to run a program on demand", error),
    }
}

impl Memory for OnDemand {
    fn read(&self, address: u64, length: usize) -> Result<Vec<u8>, Obstacle> {
        let program = self.bpf.program(PROGRAM).ok_or_else(|| object::missing(PROGRAM))?;
        let program: &RawTracePoint = program.try_into().map_err(|error| object::refused(PROGRAM, &error))?;
        // From 1 on: the map begins with zeros.
        let run = self.runs.get() + 1;
        self.runs.set(run);
        let mut options = RawTracePointRunOptions::new();
        options.args[..3].copy_from_slice(&[address, length as u64, run]);
        program.test_run(options).map_err(|error| refused(&error))?;
        let buffer = self.buffer.get(&0, 0).map_err(|error| object::refused("to read the map PEEK", &error))?;
        answer(&buffer, (address, length), run)
    }
}
