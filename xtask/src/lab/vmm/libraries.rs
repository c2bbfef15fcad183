//! The shared libraries that a program needs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::process;

/// All of them and the loader, by the paths at which the program finds them.
pub(super) fn of(program: &Path) -> Result<Vec<PathBuf>> {
    listed(&process::stdout(Command::new("ldd").arg(program))?)
}

/// What ldd(1) lists: `libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f...)`, the loader by its path alone, the kernel's
/// vdso by a name alone, and `=> not found`.
fn listed(text: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in text.lines() {
        let place = line.split_once(" => ").map_or(line, |(_name, place)| place).trim();
        if place == "not found" {
            bail!("a library is missing on this machine ({}): install it", line.trim());
        }
        let path = place.rsplit_once(" (0x").map_or(place, |(path, _address)| path);
        if path.starts_with('/') {
            found.push(PathBuf::from(path));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_taken_and_what_is_no_file_is_not() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibm.so.6 => /lib/libm.so.6 (0x00007f01)\n\t/lib64/ld.so.2 (0x00007f02)\n";
        assert_eq!(listed(text).unwrap(), [PathBuf::from("/lib/libm.so.6"), PathBuf::from("/lib64/ld.so.2")]);
    }

    #[test]
    fn a_library_that_is_missing_is_named() {
        let error = listed("\tlibm.so.6 => not found\n").unwrap_err().to_string();
        assert!(error.contains("libm.so.6"), "{error}");
    }
}
