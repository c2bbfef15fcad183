//! `cargo xtask demo`: the mechanism on an emulated KVM host, as told by `shared-msr` itself.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    lab::{self, LabOptions},
    product, setup,
};

/// What runs in the lab: the same number of in-kernel exits, first without, then with exits to user space.
const SCRIPT: &str = include_str!("demo.sh");

/// Sets up, builds, and shows two reports.
pub(crate) fn run() -> Result<ExitCode> {
    let ready = setup::run()?;
    if ready != ExitCode::SUCCESS {
        return Ok(ready);
    }
    product::build_static()?;
    println!("demo: booting an emulated AMD host with KVM (QEMU without hardware help, so its times mean nothing)");
    let status = lab::stream(&LabOptions::new(["sh", "-c", SCRIPT]))?;
    Ok(ExitCode::from(status))
}
