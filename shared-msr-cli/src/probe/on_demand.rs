//! The programs that are run on demand. They are few and small, and needed before what the others depend on is known; so they are an
//! object of their own, which is loaded here without aya: its loader reads all of the kernel's BTF first.

use std::{
    error::Error,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use aya::{
    Pod,
    maps::{Array, IterableMap as _, Map, MapData},
};
use aya_obj::Object;

use super::{
    object,
    sys::{self, OnDemand},
};
use crate::obstacle::Obstacle;

/// Compiled by the build script.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/shared-msr-on-demand"));

/// `ENOTSUPP` (include/linux/errno.h), which is not meant for user space: `bpf_prog_test_run` has it for kinds of programs that it does
/// not run.
const ENOTSUPP: i32 = 524;

/// A loaded program, and the map by which it is asked and answers.
pub(super) struct Program<V: Pod> {
    program: OwnedFd,
    map: Array<MapData, V>,
    /// What it is for, in an error.
    what: &'static str,
}

impl<V: Pod> Program<V> {
    /// Loads a program of the object with its map.
    pub(super) fn load(kind: OnDemand, what: &'static str, (program, map): (&str, &str)) -> Result<Self, Obstacle> {
        let refused = |error: &dyn Error| object::refused(what, error);
        let mut object = Object::parse(OBJECT).map_err(|error| refused(&error))?;
        let key = object.programs.get(program).ok_or_else(|| object::missing(program))?.function_key();
        object.programs.retain(|name, _| name == program);
        object.functions.retain(|function, _| *function == key);
        let definition = object.maps.get(map).cloned().ok_or_else(|| object::missing(map))?;
        let data = MapData::create(definition.clone(), map, None).map_err(|error| refused(&error))?;
        let array: Array<MapData, V> = Map::Array(data).try_into().map_err(|error| refused(&error))?;
        let descriptor = array.map().fd().as_fd().as_raw_fd();
        let sections = [key.0].into();
        object.relocate_maps([(map, descriptor, &definition)].into_iter(), &sections).map_err(|error| refused(&error))?;
        object.relocate_calls(&sections).map_err(|error| refused(&error))?;
        let (code, license) = (object.functions.get(&key), object.programs.get(program).map(|program| &program.license));
        let (Some(code), Some(license)) = (code, license) else { return Err(object::missing(program)) };
        let program = sys::load_on_demand(kind, program, &code.instructions, license).map_err(|error| refused(&error))?;
        Ok(Self { program, map: array, what })
    }

    /// Puts a question into the map.
    pub(super) fn ask(&mut self, question: V) -> Result<(), Obstacle> {
        self.map.set(0, question, 0).map_err(|error| object::refused(self.what, &error))
    }

    /// Runs the program once in the calling thread, with these arguments.
    pub(super) fn run(&self, arguments: &[u64]) -> Result<(), Obstacle> {
        sys::run(self.program.as_fd(), arguments).map_err(|error| match error.raw_os_error() {
            Some(ENOTSUPP) => {
                let problem = format!("the kernel does not run {} on demand (error {ENOTSUPP})", self.what);
                Obstacle::new(problem, "use Linux 5.10 or later")
            }
            _ => object::refused("to run a program on demand", &error),
        })
    }

    /// What is in the map.
    pub(super) fn answer(&self) -> Result<V, Obstacle> {
        self.map.get(&0, 0).map_err(|error| object::refused(self.what, &error))
    }
}
