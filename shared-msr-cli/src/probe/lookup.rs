//! Addresses of symbols, asked of the kernel by name. /proc/kallsyms has more than a hundred thousand lines, and the kernel writes
//! each of them anew for everyone who reads it: that takes half of the time from start to counting.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
};

use aya::maps::{Array, IterableMap as _, MapData};
use aya_obj::generated::{
    BPF_ADD, BPF_ALU64, BPF_CALL, BPF_DW, BPF_EXIT, BPF_IMM, BPF_JMP, BPF_K, BPF_LD, BPF_LDX, BPF_MEM, BPF_MOV,
    BPF_PSEUDO_MAP_VALUE, BPF_ST, BPF_STX, BPF_X, bpf_func_id::BPF_FUNC_kallsyms_lookup_name, bpf_insn,
};

use super::{object, refuse, sys};
use crate::{
    kernel::{
        btf::{KernelBtf, function_id},
        symbols::Symbols,
    },
    obstacle::Obstacle,
};

/// Room for a name, with the zero that ends it.
const NAME_WORDS: usize = 8;
const NAME_BYTES: usize = NAME_WORDS * 8;
/// What a question takes in the map: the name, the address, and what the helper returned.
const WORDS: usize = NAME_WORDS + 2;
const ADDRESS: usize = NAME_WORDS;
const RETURNED: usize = NAME_WORDS + 1;
/// Room for more questions than there are.
const QUESTIONS: usize = 48;

type Area = [u64; QUESTIONS * WORDS];

/// Asks for the symbols that matter: with a program of type `BPF_PROG_TYPE_SYSCALL` (Linux 5.14, 79a7f8bdb159) that calls
/// `bpf_kallsyms_lookup_name` (5.16, d6aef08a872b) for each name and is run once.
///
/// Before 6.2 (60443c88f3a8; also in some stable kernels) one look-up goes through all names, which takes longer than to read the file:
/// `kallsyms_lookup_names` is what makes it quick.
pub(super) fn symbols(btf: &KernelBtf) -> Result<Symbols, Obstacle> {
    refuse::check(refuse::LOOKUP)?;
    let is_quick = btf.vmlinux().is_ok_and(|vmlinux| function_id(vmlinux, "kallsyms_lookup_names").is_some());
    if !is_quick {
        return Err(Obstacle::new("a look-up by name is slow on this kernel", "use Linux 6.2 or later"));
    }
    let names = Symbols::questions();
    let refused = |error: &dyn std::error::Error| object::refused("a program that looks up symbols", error);
    let mut map: Array<MapData, Area> = Array::create(1, 0).map_err(|error| refused(&error))?;
    map.set(0, area(&names).ok_or_else(|| object::missing("room for so many names"))?, 0).map_err(|error| refused(&error))?;
    let code = program(map.map().fd().as_fd(), names.len());
    let loaded = sys::load_syscall("shared_msr_lookup", &code).map_err(|error| refused(&error))?;
    sys::run(loaded.as_fd()).map_err(|error| refused(&error))?;
    let answers = answers(&names, &map.get(&0, 0).map_err(|error| refused(&error))?).map_err(|error| refused(&error))?;
    Symbols::looked_up(|name| answers.get(name).copied())
        .ok_or_else(|| object::missing("symbol _end in what the kernel looks up"))
}

/// The questions, as they stand in the map; none if there are too many, or if one is too long.
fn area(names: &[String]) -> Option<Area> {
    let mut area = [0; QUESTIONS * WORDS];
    let places = area.chunks_exact_mut(WORDS);
    if names.len() > places.len() {
        return None;
    }
    for (place, name) in places.zip(names) {
        let mut bytes = [0; NAME_BYTES];
        bytes[..NAME_BYTES - 1].get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        for (word, of_name) in place.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_ne_bytes(of_name.try_into().ok()?);
        }
    }
    Some(area)
}

/// The addresses by name. The helper says that there is no such symbol in the same way when its value is 0; and it answers nobody who
/// may not see addresses, also for names that there are not.
fn answers<'a>(names: &'a [String], area: &Area) -> io::Result<HashMap<&'a str, u64>> {
    let mut found = HashMap::new();
    for (place, name) in area.chunks_exact(WORDS).zip(names) {
        match i32::try_from(place[RETURNED].cast_signed()).unwrap_or(i32::MIN) {
            0 => {
                found.insert(name.as_str(), place[ADDRESS]);
            }
            error if error == -libc::ENOENT => {}
            error => return Err(io::Error::from_raw_os_error(error.saturating_neg())),
        }
    }
    Ok(found)
}

/// The program: the same few instructions for each question.
fn program(map: BorrowedFd<'_>, questions: usize) -> Vec<bpf_insn> {
    /// Where the questions are.
    const AREA: u8 = 6;
    const FRAME: u8 = 10;
    /// On the stack: the helper writes the address there, which must be a place of its own.
    const RESULT: i16 = -8;
    let mut code = vec![
        instruction(BPF_LD | BPF_DW | BPF_IMM, (AREA, BPF_PSEUDO_MAP_VALUE as u8), 0, map.as_raw_fd()),
        instruction(0, (0, 0), 0, 0),
    ];
    for question in 0..questions {
        let byte = question * WORDS * 8;
        let at = |word: usize| (byte + word * 8) as i16;
        code.extend([
            instruction(BPF_ST | BPF_MEM | BPF_DW, (FRAME, 0), RESULT, 0),
            instruction(BPF_ALU64 | BPF_MOV | BPF_X, (1, AREA), 0, 0),
            instruction(BPF_ALU64 | BPF_ADD | BPF_K, (1, 0), 0, byte as i32),
            instruction(BPF_ALU64 | BPF_MOV | BPF_K, (2, 0), 0, NAME_BYTES as i32),
            instruction(BPF_ALU64 | BPF_MOV | BPF_K, (3, 0), 0, 0),
            instruction(BPF_ALU64 | BPF_MOV | BPF_X, (4, FRAME), 0, 0),
            instruction(BPF_ALU64 | BPF_ADD | BPF_K, (4, 0), 0, RESULT.into()),
            instruction(BPF_JMP | BPF_CALL, (0, 0), 0, BPF_FUNC_kallsyms_lookup_name as i32),
            instruction(BPF_STX | BPF_MEM | BPF_DW, (AREA, 0), at(RETURNED), 0),
            instruction(BPF_LDX | BPF_MEM | BPF_DW, (1, FRAME), RESULT, 0),
            instruction(BPF_STX | BPF_MEM | BPF_DW, (AREA, 1), at(ADDRESS), 0),
        ]);
    }
    code.push(instruction(BPF_ALU64 | BPF_MOV | BPF_K, (0, 0), 0, 0));
    code.push(instruction(BPF_JMP | BPF_EXIT, (0, 0), 0, 0));
    code
}

fn instruction(code: u32, (to, from): (u8, u8), off: i16, imm: i32) -> bpf_insn {
    bpf_insn { code: code as u8, _bitfield_align_1: [], _bitfield_1: bpf_insn::new_bitfield_1(to, from), off, imm }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_questions_find_room() {
        let names = Symbols::questions();
        let area = area(&names).unwrap();
        assert!(names.len() > 20);
        let second: Vec<u8> = area[WORDS..][..NAME_WORDS].iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert!(second.starts_with(names[1].as_bytes()) && second[names[1].len()] == 0, "{second:?}");
        assert!(super::area(&["x".repeat(NAME_BYTES)]).is_none(), "no room for the zero");
        assert!(super::area(&vec![String::new(); QUESTIONS + 1]).is_none());
    }

    #[test]
    fn what_is_not_there_is_told_from_what_may_not_be_seen() {
        let names = ["a".to_owned(), "b".to_owned()];
        let mut area = [0; QUESTIONS * WORDS];
        area[ADDRESS] = 0xffff_ffff_8000_0000;
        area[WORDS + RETURNED] = i64::from(-libc::ENOENT).cast_unsigned();
        assert_eq!(answers(&names, &area).unwrap(), HashMap::from([("a", 0xffff_ffff_8000_0000)]));
        area[WORDS + RETURNED] = i64::from(-libc::EPERM).cast_unsigned();
        assert_eq!(answers(&names, &area).unwrap_err().raw_os_error(), Some(libc::EPERM));
    }
}
