//! What the emulated host has on its disk, which is its initramfs.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::initramfs::Initramfs;
use super::kernel::Module;
use super::{LabOptions, quote};

/// The first process.
const INIT: &str = include_str!("init.sh");
/// Loads KVM's modules.
const LOAD_KVM: &str = include_str!("load-kvm.sh");
/// Users, for tests of what happens without root. busybox's `su` needs a shell here.
const PASSWD: &str = "root:x:0:0:root:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";

/// Puts everything together.
pub(super) fn assemble(options: &LabOptions, modules: &[Module], shared_msr: &Path) -> Result<Initramfs> {
    let mut root = Initramfs::default();
    for folder in ["dev", "etc", "proc", "run", "sys", "tmp"] {
        root.folder(folder);
    }
    // Scripts say #!/bin/sh and #!/usr/bin/env.
    root.link("usr/bin", "../bin");
    // The kernel opens it for the first process before anything is mounted.
    root.device("dev/console", 5, 1);
    root.file("bin/busybox", read(&busybox()?)?, true);
    root.link("bin/sh", "busybox");
    root.file("init", INIT, true);
    root.file("etc/passwd", PASSWD, false);
    root.file("etc/group", GROUP, false);

    root.file("bin/load-kvm", LOAD_KVM, true);
    let mut order = String::new();
    for module in modules {
        root.file(&format!("lib/modules/{}.ko", module.name), &module.content[..], false);
        order.push_str(&module.name);
        order.push('\n');
    }
    root.file("lib/modules/order", order, false);

    root.file("bin/shared-msr", read(shared_msr)?, true);
    if let Some(vmm) = options.vmm {
        vmm.install(&mut root)?;
    }
    for file in &options.files {
        let executable = fs::metadata(&file.source).is_ok_and(|data| data.permissions().mode() & 0o111 != 0);
        root.file(&file.destination, read(&file.source)?, executable);
    }
    root.file("lab/command", quote::script(options.command.iter().map(OsString::as_os_str)), true);
    if options.load_modules {
        root.file("lab/load-modules", "", false);
    }
    Ok(root)
}

/// The content of a file of this machine.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    if path.is_dir() {
        bail!("{} is a folder, only files can be put into the lab", path.display());
    }
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A busybox that needs no shared library.
fn busybox() -> Result<PathBuf> {
    crate::setup::static_busybox().context("no static busybox on this machine, run `cargo xtask setup`")
}
