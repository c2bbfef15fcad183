//! The CD that Bochs boots from: it cannot load a kernel itself.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::files;
use crate::process;

/// The name of the image in the folder of a machine.
pub(super) const IMAGE: &str = "disk.iso";

/// Makes the image in `folder`.
pub(super) fn make(folder: &Path, kernel: &Path, initramfs: &Path, command_line: &str) -> Result<()> {
    let tree = folder.join("disk");
    fill(&tree, kernel, initramfs, command_line).context("cannot prepare the CD image")?;
    let mut command = Command::new("xorriso");
    command.args(["-as", "mkisofs", "-quiet", "-o", IMAGE, "-b", "isolinux.bin", "-c", "boot.cat"]);
    // How isolinux wants to be started, from its documentation.
    command.args(["-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"]);
    process::stdout(command.arg("disk").current_dir(folder))?;
    Ok(())
}

fn fill(tree: &Path, kernel: &Path, initramfs: &Path, command_line: &str) -> Result<()> {
    let missing = "no isolinux on this machine, run `cargo xtask setup`";
    fs::create_dir(tree)?;
    fs::copy(files::loader().context(missing)?, tree.join("isolinux.bin"))?;
    fs::copy(files::loader_library().context(missing)?, tree.join("ldlinux.c32"))?;
    fs::copy(kernel, tree.join("vmlinuz")).with_context(|| format!("cannot copy {}", kernel.display()))?;
    fs::rename(initramfs, tree.join("initrd"))?;
    fs::write(tree.join("isolinux.cfg"), menu(command_line))?;
    Ok(())
}

/// isolinux' menu: one entry that is taken at once.
fn menu(command_line: &str) -> String {
    format!("DEFAULT lab\nPROMPT 0\nTIMEOUT 0\nLABEL lab\n KERNEL /vmlinuz\n INITRD /initrd\n APPEND {command_line}\n")
}
