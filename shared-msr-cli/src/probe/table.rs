//! A hash map of the programs, read in few system calls: a live view of a thousand vCPUs reads all rows once a second.

use std::{
    collections::BTreeMap,
    mem::zeroed,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::{
    Ebpf, Pod,
    maps::{HashMap, Map, MapData, MapError},
};

use super::{object, refuse, sys};
use crate::obstacle::Obstacle;

/// Rows that are asked for at once. More than a bucket ever holds; the rows of owners then take 1 MiB.
const BATCH: usize = 512;

/// A hash map.
pub(super) struct Table<K, V> {
    map: HashMap<MapData, K, V>,
    /// The same map, for what aya does not do.
    descriptor: OwnedFd,
}

impl<K: Pod + Ord, V: Pod> Table<K, V> {
    /// Takes it out of a loaded object.
    pub(super) fn take(bpf: &mut Ebpf, name: &str) -> Result<Self, Obstacle> {
        let refused = |error: &dyn std::error::Error| object::refused(&format!("the map {name}"), error);
        let map = bpf.take_map(name).ok_or_else(|| object::missing(&format!("map {name}")))?;
        let Map::HashMap(data) = &map else { return Err(object::missing(&format!("hash map {name}"))) };
        let descriptor = data.fd().as_fd().try_clone_to_owned().map_err(|error| refused(&error))?;
        Ok(Self { map: HashMap::try_from(map).map_err(|error| refused(&error))?, descriptor })
    }

    /// Puts a row in, or another one in its place.
    pub(super) fn insert(&mut self, key: K, value: V) -> Result<(), MapError> {
        self.map.insert(key, value, 0)
    }

    /// Takes a row out. That it is not there any more is no error.
    pub(super) fn remove(&mut self, key: &K) -> Result<(), Obstacle> {
        match self.map.remove(key) {
            Ok(()) | Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(()),
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            Err(error) => Err(object::refused("to give back the space of a vCPU that has ended", &error)),
        }
    }

    /// All rows, each at a moment of its own.
    pub(super) fn all(&self) -> Result<BTreeMap<K, V>, Obstacle> {
        // Built at once, so that its nodes are full: row by row they would be half empty, and rows are large.
        match self.batches() {
            Some(rows) => Ok(rows.into_iter().collect()),
            None => self.one_by_one(),
        }
    }

    /// All rows, many with each call; none where the kernel does not do that (before 5.6).
    fn batches(&self) -> Option<Vec<(K, V)>> {
        refuse::check(refuse::BATCH).ok()?;
        let (mut keys, mut values) = (zeros::<K>(), zeros::<V>());
        let mut rows = Vec::new();
        let mut position = None;
        loop {
            let (found, next) = sys::lookup_batch(self.descriptor.as_fd(), position, &mut keys, &mut values).ok()?;
            rows.extend(keys.iter().copied().zip(values.iter().copied()).take(found));
            if next.is_none() {
                return Some(rows);
            }
            position = next;
        }
    }

    fn one_by_one(&self) -> Result<BTreeMap<K, V>, Obstacle> {
        let mut rows = BTreeMap::new();
        for row in &self.map {
            match row {
                Ok((key, value)) => drop(rows.insert(key, value)),
                // Taken out while we looked.
                Err(MapError::KeyNotFound | MapError::ElementNotFound) => {}
                Err(error) => return Err(object::refused("to read the rows of owners", &error)),
            }
        }
        Ok(rows)
    }
}

/// Room for one batch.
fn zeros<T: Pod>() -> Vec<T> {
    // SAFETY: `Pod`: every bit pattern is a value.
    vec![unsafe { zeroed() }; BATCH]
}
