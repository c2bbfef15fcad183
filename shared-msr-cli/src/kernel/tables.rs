//! The kernel's own tables: the list of MSRs, and where each CPU's structure is.

use serde::{Deserialize, Serialize};
use shared_msr_common::{MAX_SLOTS, PEEK_BYTES};

use super::{
    layout::Layout,
    msr,
    structure::Structure,
    symbols::{ListSymbols, StructureSymbol},
};
use crate::obstacle::Obstacle;

/// A way to read kernel memory.
pub trait Memory {
    /// Copies `length` bytes (at most [`shared_msr_common::PEEK_BYTES`]) from `address`.
    fn read(&self, address: u64, length: usize) -> Result<Vec<u8>, Obstacle>;
}

/// One slot of KVM's list.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Slot {
    /// Index in the list.
    pub slot: usize,
    /// The MSR.
    pub index: u32,
    /// Its name, or its number in hexadecimal.
    pub name: String,
}

/// Reads the list of MSRs.
pub fn read_list(memory: &dyn Memory, symbols: ListSymbols) -> Result<Vec<Slot>, Obstacle> {
    let (list, length) = match symbols {
        ListSymbols::Apart { list, length } => (list, length),
        ListSymbols::Together(address) => (element(address, 1, 4)?, address),
    };
    let length = read_u32(memory, length).map_err(|why| why.of("the length of KVM's list of MSRs"))? as usize;
    if length > MAX_SLOTS {
        return Err(Obstacle::new(
            format!("KVM's list of MSRs says it has {length} slots, more than the {MAX_SLOTS} there can be"),
            "report this kernel to the authors of shared-msr",
        ));
    }
    (0..length)
        .map(|slot| {
            let index = read_u32(memory, element(list, slot as u64, 4)?).map_err(|why| why.of("KVM's list of MSRs"))?;
            Ok(Slot { slot, index, name: msr::name(index) })
        })
        .collect()
}

/// Where the structures are, without a CPU's offset.
pub fn structure_base(memory: &dyn Memory, symbol: StructureSymbol) -> Result<u64, Obstacle> {
    let base = match symbol {
        StructureSymbol::Pointer(address) => {
            read_u64(memory, address).map_err(|why| why.of("KVM's pointer to its per-CPU structures"))?
        }
        StructureSymbol::Static(offset) => offset,
    };
    if base == 0 {
        return Err(Obstacle::new(
            "KVM has not set up its per-CPU structures yet",
            "load the vendor module: modprobe kvm_intel, or modprobe kvm_amd",
        ));
    }
    Ok(base)
}

/// What is added to a per-CPU variable's address to get each CPU's copy of it (arch/x86/include/asm/percpu.h), in the order of
/// `cpus`; `array` is the address of `__per_cpu_offset`.
pub fn per_cpu_offsets(memory: &dyn Memory, array: u64, cpus: &[u32]) -> Result<Vec<u64>, Obstacle> {
    words(memory, array, cpus).map_err(|why| why.of("the CPUs' offsets in __per_cpu_offset"))
}

/// Elements of an array of words, many with each look.
fn words(memory: &dyn Memory, array: u64, positions: &[u32]) -> Result<Vec<u64>, Obstacle> {
    let mut words = Vec::with_capacity(positions.len());
    let (mut start, mut bytes) = (0, Vec::new());
    let last = positions.iter().copied().max().unwrap_or(0);
    for position in positions.iter().copied() {
        if position < start || (position - start) as usize * 8 >= bytes.len() {
            // Not beyond what was asked for: whatever lies there may not be readable.
            let count = (last - position + 1).min(PEEK_BYTES as u32 / 8) as usize;
            (start, bytes) = (position, memory.read(element(array, u64::from(position), 8)?, 8 * count)?);
        }
        let place = (position - start) as usize * 8;
        let word = bytes.get(place..place + 8).and_then(|word| word.try_into().ok()).ok_or_else(|| short(array))?;
        words.push(u64::from_le_bytes(word));
    }
    Ok(words)
}

/// Reads one CPU's structure.
pub fn read_structure(memory: &dyn Memory, address: u64, layout: Layout) -> Result<Structure, Obstacle> {
    let bytes = memory.read(address, Structure::length(layout))?;
    Structure::parse(&bytes, layout).ok_or_else(|| short(address))
}

/// The address of an element of an array, wherever the kernel says that the array is.
fn element(array: u64, position: u64, bytes: u64) -> Result<u64, Obstacle> {
    position.checked_mul(bytes).and_then(|offset| array.checked_add(offset)).ok_or_else(|| {
        Obstacle::new(
            format!("the array at {array:#x} would go beyond the end of memory"),
            "look at /proc/kallsyms: one of the kernel's variables has an impossible address",
        )
    })
}

fn read_u32(memory: &dyn Memory, address: u64) -> Result<u32, Obstacle> {
    let bytes = memory.read(address, 4)?;
    Ok(u32::from_le_bytes(bytes.try_into().map_err(|_| short(address))?))
}

/// A word of kernel memory.
pub(super) fn read_u64(memory: &dyn Memory, address: u64) -> Result<u64, Obstacle> {
    let bytes = memory.read(address, 8)?;
    Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| short(address))?))
}

fn short(address: u64) -> Obstacle {
    Obstacle::new(
        format!("the kernel memory at {address:#x} could be read only in part"),
        "report this kernel to the authors of shared-msr",
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Memory of a made-up kernel: chunks of bytes by address.
    struct Chunks(HashMap<u64, Vec<u8>>);

    impl Memory for Chunks {
        fn read(&self, address: u64, length: usize) -> Result<Vec<u8>, Obstacle> {
            let chunk = self.0.get(&address).ok_or_else(|| Obstacle::new(format!("{address:#x} not mapped"), ""))?;
            Ok(chunk[..length].to_vec())
        }
    }

    fn chunks<const N: usize>(chunks: [(u64, &[u8]); N]) -> Chunks {
        Chunks(chunks.into_iter().map(|(address, bytes)| (address, bytes.to_vec())).collect())
    }

    #[test]
    fn a_list_since_5_13_is_read_with_its_names() {
        let memory = chunks([(0x100, &1u32.to_le_bytes()), (0x200, &0xc000_0103_u32.to_le_bytes())]);
        let list = read_list(&memory, ListSymbols::Apart { list: 0x200, length: 0x100 }).unwrap();
        assert_eq!(list, [Slot { slot: 0, index: 0xc000_0103, name: "TSC_AUX".to_owned() }]);
    }

    #[test]
    fn a_list_up_to_5_12_follows_its_length() {
        let memory =
            chunks([(0x100, &2u32.to_le_bytes()), (0x104, &0xc000_0084_u32.to_le_bytes()), (0x108, &0xdead_u32.to_le_bytes())]);
        let names: Vec<String> =
            read_list(&memory, ListSymbols::Together(0x100)).unwrap().into_iter().map(|slot| slot.name).collect();
        assert_eq!(names, ["SYSCALL_MASK", "0xdead"]);
    }

    #[test]
    fn an_impossible_length_is_an_obstacle() {
        let memory = chunks([(0x100, &17u32.to_le_bytes())]);
        assert!(read_list(&memory, ListSymbols::Together(0x100)).is_err());
    }

    #[test]
    fn a_list_at_the_very_top_of_memory_is_an_obstacle() {
        let top = u64::MAX - 3;
        let memory = chunks([(top, &2u32.to_le_bytes()), (0x100, &2u32.to_le_bytes())]);
        for symbols in [ListSymbols::Together(top), ListSymbols::Apart { list: top, length: 0x100 }] {
            let why = read_list(&memory, symbols).unwrap_err();
            assert!(why.problem.contains("beyond the end of memory"), "{why}");
        }
        let why = per_cpu_offsets(&memory, u64::MAX - 7, &[1]).unwrap_err();
        assert!(why.problem.contains("beyond the end of memory"), "{why}");
    }

    #[test]
    fn the_base_is_behind_a_pointer_or_static_and_offsets_are_read_together() {
        let (first, second) = (0x10_0000_u64.to_le_bytes(), 0x20_0000_u64.to_le_bytes());
        let both = [first, second].concat();
        let memory = chunks([(0x100, &0x5000_u64.to_le_bytes()), (0x900, &both), (0x908, &second), (0x200, &[0; 8])]);
        assert_eq!(structure_base(&memory, StructureSymbol::Pointer(0x100)), Ok(0x5000));
        assert_eq!(structure_base(&memory, StructureSymbol::Static(0x40)), Ok(0x40));
        assert!(structure_base(&memory, StructureSymbol::Pointer(0x200)).is_err(), "not set up");
        assert_eq!(per_cpu_offsets(&memory, 0x900, &[0, 1]), Ok(vec![0x10_0000, 0x20_0000]));
        assert_eq!(per_cpu_offsets(&memory, 0x900, &[1]), Ok(vec![0x20_0000]));
    }

    #[test]
    fn what_cannot_be_read_is_an_error_that_says_what_it_was() {
        let memory = chunks([(0x100, &1u32.to_le_bytes())]);
        let problem = |result: Result<(), Obstacle>| result.unwrap_err().problem;
        let length = read_list(&memory, ListSymbols::Apart { list: 0x200, length: 0x1000 }).map(drop);
        assert!(problem(length).contains("the length of KVM's list of MSRs: 0x1000 not mapped"));
        let list = read_list(&memory, ListSymbols::Apart { list: 0x2000, length: 0x100 }).map(drop);
        assert!(problem(list).contains("KVM's list of MSRs: 0x2000 not mapped"));
        let offsets = per_cpu_offsets(&memory, 0x3000, &[0]).map(drop);
        assert!(problem(offsets).contains("__per_cpu_offset: 0x3000 not mapped"));
        let pointer = structure_base(&memory, StructureSymbol::Pointer(0x4000)).map(drop);
        assert!(problem(pointer).contains("0x4000 not mapped"));
        let structure = read_structure(&memory, 0x5000, crate::kernel::layout::DOCUMENTED).map(drop);
        assert!(problem(structure).contains("0x5000 not mapped"));
    }
}
