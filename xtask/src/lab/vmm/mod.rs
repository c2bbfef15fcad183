//! Real VMMs for the lab: this machine's own, with all that they need.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

mod guest;
mod libraries;

use super::initramfs::Initramfs;
use super::root::read;
use crate::ebpf;

/// Where the guest is in the lab.
pub(crate) const GUEST: &str = "/boot/known-exits";

/// A VMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Vmm {
    /// `qemu-system-x86_64` with `-accel kvm`, the one with which this machine emulates AMD hosts.
    Qemu,
}

/// Firmware and option ROMs: the BIOS, what loads a multiboot or Linux kernel, and what goes with KVM's local APIC.
const FIRMWARE: [&str; 5] = ["bios-256k.bin", "multiboot_dma.bin", "linuxboot_dma.bin", "pvh.bin", "kvmvapic.bin"];

impl Vmm {
    fn program(self) -> &'static str {
        match self {
            Self::Qemu => "qemu-system-x86_64",
        }
    }

    /// Puts the VMM, its libraries, its firmware and the tests' own guest into the lab.
    pub(super) fn install(self, root: &mut Initramfs) -> Result<()> {
        let name = self.program();
        let missing = || format!("{name} is not installed, run `cargo xtask setup`");
        let program = ebpf::on_path(name).next().with_context(missing)?;
        root.file(&format!("bin/{name}"), read(&program)?, true);
        for library in libraries::of(&program)? {
            root.file(&library.to_string_lossy(), read(&library)?, true);
        }
        // QEMU looks for them beside the folder that it finds itself in.
        root.link("share", "usr/share");
        let folders = firmware_folders(&program)?;
        for file in FIRMWARE {
            let found = folders.iter().map(|folder| folder.join(file)).find(|path| path.exists());
            let found = found.with_context(|| format!("QEMU's {file} is not installed, run `cargo xtask setup`"))?;
            root.file(&format!("usr/share/qemu/{file}"), read(&found)?, false);
        }
        root.file(GUEST, guest::build()?, false);
        Ok(())
    }
}

/// Where QEMU looks for firmware.
fn firmware_folders(program: &PathBuf) -> Result<Vec<PathBuf>> {
    let listed = crate::process::stdout(Command::new(program).args(["-L", "help"]))?;
    Ok(listed.lines().map(PathBuf::from).collect())
}
