//! Builds the kernel that the tests' VMMs run, `xtask/guest`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{process, scratch, workspace};

/// What rustc needs to make a program that runs without an operating system: no unwinding, nothing below the stack pointer (an
/// interrupt would overwrite it), and addresses as they are linked.
const FLAGS: [&str; 20] = [
    "--edition",
    "2024",
    "--crate-name",
    "known_exits",
    "--crate-type",
    "bin",
    "--target",
    "x86_64-unknown-linux-gnu",
    "--deny",
    "warnings",
    "-O",
    "-Cpanic=abort",
    "-Cno-redzone=yes",
    "-Crelocation-model=static",
    "-Ccode-model=small",
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-static",
    "-Clink-arg=-no-pie",
    "-Clink-arg=-Wl,--build-id=none",
];

/// The guest, in the form in which multiboot loaders take it.
///
/// By rustc itself: as a package it would need flags that cargo has for whole workspaces only.
pub(super) fn build() -> Result<Vec<u8>> {
    let source = workspace::root().join("xtask/guest");
    let folder = scratch::folder(&workspace::lab().join("run"))?;
    let output = folder.path().join("known-exits");
    let mut script = OsString::from("-Clink-arg=-T");
    script.push(source.join("link.ld"));
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc")));
    process::run(rustc.args(FLAGS).arg(script).arg("-o").arg(&output).arg(source.join("main.rs")))?;
    fs::read(&output).context("rustc ended well but left no guest for the lab's VMM")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Multiboot 0.6.96, 3.1: the header is in the first 8192 bytes, and a checksum makes its first three words add up to 0.
    #[test]
    fn the_guest_has_a_header_that_a_loader_finds() {
        let image = build().unwrap();
        let words: Vec<u32> =
            image[..8192].chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect();
        let header = words.iter().position(|word| *word == 0x1bad_b002).unwrap();
        let [magic, flags, checksum] = words[header..header + 3] else { panic!("it is cut off") };
        assert_eq!(magic.wrapping_add(flags).wrapping_add(checksum), 0);
        let [load, end] = [words[header + 4], words[header + 5]];
        let first = header * 4;
        assert!(load == 0x10_0000 && first + (end - load) as usize <= image.len(), "{load:x} to {end:x}");
    }
}
