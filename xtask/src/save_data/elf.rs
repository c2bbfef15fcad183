//! Finds a section in an ELF file, as much of it as a kernel module needs.

use anyhow::{Context, Result, bail};

/// The content of the section of this name in a 64-bit little-endian file (elf(5)).
pub(super) fn section<'a>(file: &'a [u8], name: &str) -> Result<&'a [u8]> {
    if !file.starts_with(b"\x7fELF\x02\x01") {
        bail!("this is no 64-bit ELF file for little-endian machines");
    }
    let table = usize::try_from(long(file, 0x28)?)?;
    let (size, count, names) = (short(file, 0x3a)?, short(file, 0x3c)?, short(file, 0x3e)?);
    let content = |number: usize| {
        let header = table + number * size;
        let (start, length) = (usize::try_from(long(file, header + 0x18)?)?, usize::try_from(long(file, header + 0x20)?)?);
        file.get(start..).and_then(|rest| rest.get(..length)).context("the ELF file is cut off")
    };
    let names = content(names)?;
    let wanted = [name.as_bytes(), b"\0"].concat();
    for number in 0..count {
        let offset = word(file, table + number * size)? as usize;
        if names.get(offset..).is_some_and(|rest| rest.starts_with(&wanted)) {
            return content(number);
        }
    }
    bail!("the ELF file has no section {name}")
}

fn bytes<const N: usize>(file: &[u8], at: usize) -> Result<[u8; N]> {
    file.get(at..).and_then(<[u8]>::first_chunk).copied().context("the ELF file is cut off")
}

fn short(file: &[u8], at: usize) -> Result<usize> {
    Ok(u16::from_le_bytes(bytes(file, at)?).into())
}

fn word(file: &[u8], at: usize) -> Result<u32> {
    bytes(file, at).map(u32::from_le_bytes)
}

fn long(file: &[u8], at: usize) -> Result<u64> {
    bytes(file, at).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of a section with the names of the sections, and another one: `.BTF`.
    fn file() -> Vec<u8> {
        let names = b"\0.names\0.BTF\0";
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let content = file.len();
        file.extend(b"content");
        let names_at = file.len();
        file.extend(names);
        let table = file.len();
        file[0x28..0x30].copy_from_slice(&(table as u64).to_le_bytes());
        for (at, number) in [(0x3a, 64_u16), (0x3c, 2), (0x3e, 0)] {
            file[at..at + 2].copy_from_slice(&number.to_le_bytes());
        }
        for (name, start, length) in [(1_u32, names_at, names.len()), (8, content, 7)] {
            let mut header = vec![0; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[0x18..0x20].copy_from_slice(&(start as u64).to_le_bytes());
            header[0x20..0x28].copy_from_slice(&(length as u64).to_le_bytes());
            file.extend(header);
        }
        file
    }

    #[test]
    fn a_section_is_found_by_its_whole_name() {
        assert_eq!(section(&file(), ".BTF").unwrap(), b"content");
        assert!(section(&file(), ".BT").unwrap_err().to_string().contains("no section .BT"));
    }

    #[test]
    fn what_is_cut_off_or_something_else_is_refused() {
        let file = file();
        assert!(section(&file[..file.len() - 40], ".BTF").is_err());
        assert!(section(b"#!/bin/sh", ".BTF").is_err());
    }
}
