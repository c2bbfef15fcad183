//! What Bochs needs besides itself, where distributions have it.

use std::path::{Path, PathBuf};

/// Folders with the BIOSes.
const BIOSES: [&str; 2] = ["/usr/share/bochs", "/usr/local/share/bochs"];
/// Folders with the parts of isolinux: Debian's two, then those of others.
const LOADERS: [&str; 4] =
    ["/usr/lib/ISOLINUX", "/usr/lib/syslinux/modules/bios", "/usr/share/syslinux", "/usr/lib/syslinux/bios"];

/// The BIOS of the machine.
pub(crate) fn bios() -> Option<PathBuf> {
    first(&BIOSES, "BIOS-bochs-latest")
}

/// The BIOS of its display, without which the other one does not start.
pub(crate) fn display_bios() -> Option<PathBuf> {
    first(&BIOSES, "VGABIOS-lgpl-latest")
}

/// The boot loader for CDs.
pub(crate) fn loader() -> Option<PathBuf> {
    first(&LOADERS, "isolinux.bin")
}

/// The boot loader's second half.
pub(crate) fn loader_library() -> Option<PathBuf> {
    first(&LOADERS, "ldlinux.c32")
}

fn first(folders: &[&str], file: &str) -> Option<PathBuf> {
    // Links to files that are not there do not count.
    folders.iter().map(|folder| Path::new(folder).join(file)).find(|path| path.is_file())
}
