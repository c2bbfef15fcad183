//! Kernel memory, read by a BPF program that runs on demand.

use std::cell::RefCell;

use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::{RawTracePoint, RawTracePointRunOptions, TestRun as _},
};
use shared_msr_common::{PEEK_BYTES, PeekBuffer};

use super::object::{self, Globals};
use crate::{kernel::tables::Memory, obstacle::Obstacle};

const PROGRAM: &str = "shared_msr_peek";

/// The loaded peek program. It is never attached to anything: `BPF_PROG_TEST_RUN` runs it in the calling thread
/// (raw tracepoints: Linux 5.10 and later).
pub(super) struct Peek {
    bpf: Ebpf,
    buffer: RefCell<Array<MapData, PeekBuffer>>,
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
        Ok(Self { bpf, buffer: RefCell::new(buffer) })
    }
}

impl Memory for Peek {
    fn read(&self, address: u64, length: usize) -> Result<Vec<u8>, Obstacle> {
        let program = self.bpf.program(PROGRAM).ok_or_else(|| object::missing(PROGRAM))?;
        let program: &RawTracePoint = program.try_into().map_err(|error| object::refused(PROGRAM, &error))?;
        let mut options = RawTracePointRunOptions::new();
        options.args[0] = address;
        options.args[1] = length as u64;
        let result = program.test_run(options).map_err(|error| object::refused("to run a program on demand", &error))?;
        if result.return_value != 0 || length > PEEK_BYTES {
            return Err(Obstacle::new(
                format!(
                    "{length} bytes of kernel memory at {address:#x} cannot be read (error {})",
                    result.return_value.cast_signed()
                ),
                "if the kernel is locked down (/sys/kernel/security/lockdown), boot it without lockdown=confidentiality",
            ));
        }
        let buffer = self.buffer.borrow().get(&0, 0).map_err(|error| object::refused("to read the map PEEK", &error))?;
        Ok(buffer.bytes[..length].to_vec())
    }
}
