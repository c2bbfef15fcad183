//! By a program that `BPF_PROG_TEST_RUN` runs in the calling thread: raw tracepoints since Linux 5.10 (1b4d60ec162f). It is never
//! attached to anything.

use std::cell::Cell;

use shared_msr_common::PeekBuffer;

use super::{Known, Way, answer::answer};
use crate::{
    kernel::tables::Memory,
    obstacle::Obstacle,
    probe::{on_demand::Program, sys},
};

struct OnDemand {
    program: Program<PeekBuffer>,
    /// How often it was run.
    runs: Cell<u64>,
}

/// Loads the program.
pub(super) fn open(_known: &Known) -> Result<Way, Obstacle> {
    let what = "a program that reads kernel memory";
    let program = Program::load(sys::OnDemand::RawTracepoint, what, ("shared_msr_peek", "PEEK"))?;
    Ok(Box::new(OnDemand { program, runs: Cell::new(0) }))
}

impl Memory for OnDemand {
    fn read(&self, address: u64, length: usize) -> Result<Vec<u8>, Obstacle> {
        // From 1 on: the map begins with zeros.
        let run = self.runs.get() + 1;
        self.runs.set(run);
        self.program.run(&[address, length as u64, run])?;
        answer(&self.program.answer()?, (address, length), run)
    }
}
