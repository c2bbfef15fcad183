//! What must be on a machine, how to see that it is, and which Debian packages have it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::apt;
use crate::{
    ebpf::{self, Compiler},
    lab::bochs_files,
    process,
};

/// Something the build or the lab needs.
#[derive(Debug)]
pub(super) struct Need {
    /// What it is, for people.
    pub(super) what: &'static str,
    /// Whether it is there.
    pub(super) present: fn() -> bool,
    /// Debian's packages of it.
    pub(super) packages: &'static [&'static str],
    /// What to do where there are no Debian packages.
    pub(super) elsewhere: &'static str,
}

/// All but bpf-linker, which no distribution has in the version we need.
pub(super) const NEEDS: [Need; 8] = [
    Need {
        what: "a C compiler with a static C library",
        present: c_compiler,
        packages: &["gcc", "libc6-dev"],
        elsewhere: "install gcc and the static C library (glibc-static on Fedora)",
    },
    Need {
        what: "a Rust tool chain with the source of its standard library",
        present: bpf_tool_chain_ready,
        packages: &["rustc-web", "cargo-web", "rust-web-src"],
        elsewhere: "install a Rust with LLVM 22, such as 1.95 to 1.97, and the source of its library: rustup component add rust-src",
    },
    Need {
        what: "clippy for the same tool chain",
        present: bpf_clippy,
        packages: &["rust-web-clippy"],
        elsewhere: "rustup component add clippy",
    },
    Need {
        what: "QEMU",
        present: || process::on_path("qemu-system-x86_64"),
        packages: &["qemu-system-x86"],
        elsewhere: "install QEMU for x86 (qemu-system-x86_64)",
    },
    Need {
        what: "Bochs",
        present: || process::on_path("bochs-bin") && bochs_files::bios().is_some() && bochs_files::display_bios().is_some(),
        // bochs-term is the smallest of the displays, one of which bochs depends on. Both BIOSes are named, because bochs
        // would also be content with SeaBIOS.
        packages: &["bochs", "bochs-term", "bochsbios", "vgabios"],
        elsewhere: "install Bochs 2.7 or 3.0 as bochs-bin, built as Debian does (with VMX, debugger and rfb display), and its \
                    BIOSes in /usr/share/bochs",
    },
    Need {
        what: "xorriso and isolinux, from which Bochs boots",
        present: || process::on_path("xorriso") && bochs_files::loader().is_some() && bochs_files::loader_library().is_some(),
        packages: &["xorriso", "isolinux", "syslinux-common"],
        elsewhere: "install xorriso and syslinux (isolinux.bin and ldlinux.c32)",
    },
    Need {
        what: "a static busybox",
        present: || static_busybox().is_some(),
        packages: &["busybox-static"],
        elsewhere: "install a statically linked busybox as /usr/bin/busybox",
    },
    Need {
        what: "dpkg-deb",
        // Unpacks what apt downloads: of no use without it.
        present: || !apt::is_there() || process::on_path("dpkg-deb"),
        packages: &["dpkg"],
        elsewhere: "install dpkg",
    },
];

/// Whether a C program can be compiled and linked statically.
pub(super) fn c_compiler() -> bool {
    let Ok(folder) = tempfile::tempdir() else { return false };
    let source = folder.path().join("try.c");
    if fs::write(&source, "#include <stdio.h>\nint main(void) { return puts(\"\") < 0; }\n").is_err() {
        return false;
    }
    process::succeeds(Command::new("cc").arg("-static").arg("-o").arg(folder.path().join("try")).arg(&source))
}

/// Whether some Rust tool chain here can build the standard library, which the BPF target needs.
fn bpf_tool_chain_ready() -> bool {
    Compiler::find().is_some()
}

/// Whether the compiler that builds the kernel-side programs has a clippy. rustup's is not ours to install: the build does
/// without, and the lints say so themselves.
fn bpf_clippy() -> bool {
    match Compiler::find() {
        Some(compiler @ Compiler::System(_)) => process::succeeds(ebpf::clippy(&compiler).arg("--version")),
        Some(Compiler::Rustup(_)) => true,
        None => false,
    }
}

/// A busybox that runs where there is no shared library.
pub(crate) fn static_busybox() -> Option<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox"].into_iter().map(PathBuf::from).find(|path| is_static(path))
}

/// Whether a program needs no shared library.
fn is_static(program: &Path) -> bool {
    fs::read(program).is_ok_and(|content| is_elf_without_interpreter(&content))
}

/// Whether this is a 64-bit ELF file for little-endian machines that names no loader for shared libraries.
fn is_elf_without_interpreter(content: &[u8]) -> bool {
    /// The kind of program header that names the loader.
    const PT_INTERP: &[u8] = &3_u32.to_le_bytes();
    let word = |at: usize| Some(usize::from(u16::from_le_bytes(content.get(at..at + 2)?.try_into().ok()?)));
    let headers = || {
        let start = u64::from_le_bytes(content.get(0x20..0x28)?.try_into().ok()?);
        let (size, count) = (word(0x36)?, word(0x38)?);
        let table = content.get(usize::try_from(start).ok()?..)?.get(..size.checked_mul(count)?)?;
        (size > 0).then(|| table.chunks(size).any(|header| header.starts_with(PT_INTERP)))
    };
    content.starts_with(b"\x7fELF\x02\x01") && headers() == Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_or_half_a_program_is_not_taken_for_a_static_one() {
        assert!(!is_elf_without_interpreter(b"#!/bin/sh\n"));
        assert!(!is_elf_without_interpreter(b"\x7fELF\x02\x01"));
    }

    #[test]
    fn a_program_without_a_loader_is_static() {
        // One program header of 56 bytes right after the file's header of 64; its kind is 1, a part to load.
        let mut program = vec![0; 64 + 56];
        program[..6].copy_from_slice(b"\x7fELF\x02\x01");
        program[0x20] = 64;
        program[0x36] = 56;
        program[0x38] = 1;
        program[64] = 1;
        assert!(is_elf_without_interpreter(&program));
        program[64] = 3;
        assert!(!is_elf_without_interpreter(&program));
    }
}
