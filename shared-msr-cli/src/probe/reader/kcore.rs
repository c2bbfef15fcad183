//! By /proc/kcore, the kernel's memory as a core file (fs/proc/kcore.c): root may read it where CONFIG_PROC_KCORE is set. No BPF.
//!
//! Its program headers say which addresses it has, and where in the file. What it cannot read it does not say, and what it gives instead
//! must not be taken for what is there:
//! - addresses of RAM, vmlinux among it, have a physical address in their header (since Linux 4.11, 464920104bf7), and are there;
//! - others (vmalloc, modules) have pages here and there. For one that is missing, `read_kcore` gives zeros; or, where `vread`
//!   (mm/vmalloc.c) finds nothing at all and leaves its buffer as it is (5.9 by its source, 6.1 as seen; not 6.12), what was read
//!   through this file before. So a page of which all bytes are 0 is not believed, nor one that is the same as what was read right
//!   before.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use object::{
    LittleEndian,
    elf::{FileHeader64, PT_LOAD, ProgramHeader64},
    pod,
    read::elf::{FileHeader as _, ProgramHeader as _},
};

use super::{Known, WRONG_ADDRESS, Way, page::PAGE, unread};
use crate::{kernel::tables::Memory, obstacle::Obstacle};

const FILE: &str = "/proc/kcore";

type Header = FileHeader64<LittleEndian>;
type Entry = ProgramHeader64<LittleEndian>;

/// Addresses that the file has in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    start: u64,
    length: u64,
    /// Where they begin in the file.
    offset: u64,
    /// Whether each of its pages is there.
    is_ram: bool,
}

struct Kcore {
    file: File,
    /// An address in a page that is there, and not all 0.
    known: u64,
}

/// Opens the file.
pub(super) fn open(known: &Known) -> Result<Way, Obstacle> {
    let file = File::open(FILE).map_err(|error| {
        let cure = "run it as root, on a kernel with CONFIG_PROC_KCORE that is not locked down (/sys/kernel/security/lockdown)";
        Obstacle::new(format!("{FILE} cannot be opened ({error})"), cure)
    })?;
    Ok(Box::new(Kcore { file, known: known.address }))
}

impl Memory for Kcore {
    fn read(&self, address: u64, length: usize) -> Result<Vec<u8>, Obstacle> {
        // Anew each time: memory that is added to the host moves all that follows the headers.
        let segments = segments(&self.file).map_err(|error| {
            Obstacle::new(format!("{FILE} has no program headers ({error})"), "report this kernel to the authors of shared-msr")
        })?;
        read(&segments, self.known, (address, length), |bytes, offset| self.file.read_exact_at(bytes, offset))
    }
}

/// What the file's headers say.
fn segments(file: &File) -> io::Result<Vec<Segment>> {
    let mut bytes = vec![0; size_of::<Header>()];
    file.read_exact_at(&mut bytes, 0)?;
    let invalid = |()| io::Error::from(io::ErrorKind::InvalidData);
    let header = *Header::parse(bytes.as_slice()).map_err(io::Error::other)?;
    let (table, count) = (header.e_phoff(LittleEndian), usize::from(header.e_phnum(LittleEndian)));
    bytes.resize(size_of::<Entry>() * count, 0);
    file.read_exact_at(&mut bytes, table)?;
    let (entries, _) = pod::slice_from_bytes::<Entry>(&bytes, count).map_err(invalid)?;
    Ok(entries.iter().filter(|entry| entry.p_type(LittleEndian) == PT_LOAD).map(Segment::of).collect())
}

impl Segment {
    fn of(entry: &Entry) -> Self {
        Self {
            start: entry.p_vaddr(LittleEndian),
            length: entry.p_memsz(LittleEndian),
            offset: entry.p_offset(LittleEndian),
            // Before 4.11 it is 0 everywhere.
            is_ram: ![0, u64::MAX].contains(&entry.p_paddr(LittleEndian)),
        }
    }

    /// How far from its start these bytes are, if it has them all.
    fn distance(&self, address: u64, length: usize) -> Option<u64> {
        let distance = address.checked_sub(self.start)?;
        (distance.checked_add(length as u64)? <= self.length).then_some(distance)
    }
}

/// Reads bytes, and makes sure that they are none that the file made up. `known` is in a page that is there, and not all 0.
fn read(
    segments: &[Segment],
    known: u64,
    (address, length): (u64, usize),
    read_at: impl Fn(&mut [u8], u64) -> io::Result<()>,
) -> Result<Vec<u8>, Obstacle> {
    let unread = |why: &str| unread((address, length), why, WRONG_ADDRESS);
    let place = |address: u64, length: usize| {
        let found = segments.iter().find_map(|segment| Some((segment, segment.distance(address, length)?)));
        let (segment, distance) = found?;
        Some((segment.offset.checked_add(distance)?, segment.is_ram))
    };
    let get = |offset: u64, length: usize| {
        let mut bytes = vec![0; length];
        read_at(&mut bytes, offset).map(|()| bytes).map_err(|error| unread(&format!("/proc/kcore: {error}")))
    };
    let outside = || unread("nothing is mapped there, as far as /proc/kcore knows");
    let (offset, is_ram) = place(address, length).ok_or_else(outside)?;
    if is_ram {
        return get(offset, length);
    }
    // Each page as a whole: the kernel reads page by page.
    let page = PAGE as u64;
    let mut bytes = Vec::new();
    for number in address / page..(address + length as u64).div_ceil(page) {
        let [before, this] = [known / page, number].map(|number| place(number * page, PAGE));
        let before = get(before.ok_or_else(outside)?.0, PAGE)?;
        let this = get(this.ok_or_else(outside)?.0, PAGE)?;
        if this == before || this.iter().all(|byte| *byte == 0) {
            return Err(unread("/proc/kcore gives for its page what it gives where nothing is mapped"));
        }
        bytes.extend(this);
    }
    let start = (address % page) as usize;
    Ok(bytes[start..start + length].to_vec())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const RAM: Segment = Segment { start: 0xffff_8880_0000_0000, length: 0x4000, offset: 0x1000, is_ram: true };
    const MODULES: Segment = Segment { start: 0xffff_ffff_c000_0000, length: 0x4000, offset: 0x10_0000, is_ram: false };
    /// In the third page of RAM, where all is 0 but this byte.
    const KNOWN: u64 = RAM.start + 0x2010;

    /// A file whose first page of modules is missing, and whose others are all 0 but for byte 0x18 of the second one.
    struct MadeUp {
        /// Whether what is missing comes out as what was read before, or as 0.
        keeps: bool,
        /// What the kernel reads into.
        buffer: RefCell<Vec<u8>>,
    }

    impl MadeUp {
        /// Within a page.
        fn read(&self, bytes: &mut [u8], offset: u64) {
            let mut buffer = self.buffer.borrow_mut();
            if !(self.keeps && (MODULES.offset..MODULES.offset + 0x1000).contains(&offset)) {
                buffer.resize(PAGE, 0);
                buffer[..bytes.len()].fill(0);
                for (place, value) in [(RAM.offset + 0x2010, 5), (MODULES.offset + 0x1018, 7)] {
                    let distance = place.checked_sub(offset).filter(|distance| *distance < bytes.len() as u64);
                    distance.into_iter().for_each(|distance| buffer[distance as usize] = value);
                }
            }
            bytes.copy_from_slice(&buffer[..bytes.len()]);
        }
    }

    fn read_from(segment: Segment, distance: u64, length: usize, keeps: bool) -> Result<Vec<u8>, Obstacle> {
        let file = MadeUp { keeps, buffer: RefCell::new(vec![0x55; PAGE]) };
        read(&[RAM, MODULES], KNOWN, (segment.start + distance, length), |bytes, offset| {
            file.read(bytes, offset);
            Ok(())
        })
    }

    #[test]
    fn zeros_of_memory_that_is_there_are_an_answer() {
        for keeps in [false, true] {
            let read = |segment, distance, length| read_from(segment, distance, length, keeps);
            assert_eq!(read(RAM, 0x10, 8), Ok(vec![0; 8]));
            assert_eq!(read(MODULES, 0x1010, 8), Ok(vec![0; 8]), "something else is in that page");
            assert_eq!(read(MODULES, 0x1010, 9), Ok(vec![0, 0, 0, 0, 0, 0, 0, 0, 7]));
        }
    }

    #[test]
    fn what_comes_for_a_page_that_is_missing_is_none() {
        for keeps in [false, true] {
            for (distance, length) in [(0, 8), (0xffc, 8), (0x1ffc, 8), (0x2000, 8), (0x800, 0x1000)] {
                let why = read_from(MODULES, distance, length, keeps).unwrap_err();
                assert!(why.problem.contains("where nothing is mapped"), "{keeps} {distance:#x}: {why}");
            }
        }
    }

    #[test]
    fn addresses_that_no_segment_has_are_named() {
        let outside = [(RAM.start - 8, 8), (RAM.start + 0x3ffc, 8), (0x1000, 8), (u64::MAX - 3, 8), (MODULES.start + 0x4000, 1)];
        for (address, length) in outside {
            let why = read(&[RAM, MODULES], KNOWN, (address, length), |_, _| panic!("not to be read")).unwrap_err();
            assert!(why.problem.contains(&format!("{address:#x}")) && why.problem.contains("nothing is mapped there"), "{why}");
        }
    }

    #[test]
    fn the_headers_of_a_core_file_are_understood() {
        use std::io::Write as _;

        // As Linux writes them: a note, RAM, modules.
        let mut file = tempfile::tempfile().unwrap();
        let mut header = vec![0_u8; 64];
        header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        header[32..40].copy_from_slice(&64_u64.to_le_bytes());
        header[54..58].copy_from_slice(&[56, 0, 3, 0]);
        for (kind, words) in [
            (4_u32, [0x200, 0, 0, 0x100, 0, 0]),
            (1, [RAM.offset, RAM.start, 0x1000, RAM.length, RAM.length, 0x1000]),
            (1, [MODULES.offset, MODULES.start, u64::MAX, MODULES.length, MODULES.length, 0x1000]),
        ] {
            header.extend(kind.to_le_bytes());
            header.extend(7_u32.to_le_bytes());
            header.extend(words.iter().flat_map(|word: &u64| word.to_le_bytes()));
        }
        file.write_all(&header).unwrap();
        assert_eq!(segments(&file).unwrap(), [RAM, MODULES]);
        let mut short = tempfile::tempfile().unwrap();
        short.write_all(&header[..100]).unwrap();
        assert!(segments(&short).is_err());
        assert!(segments(&tempfile::tempfile().unwrap()).is_err());
    }
}
