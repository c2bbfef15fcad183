//! Where things are in this checkout.

use std::path::{Path, PathBuf};

/// The folder with the workspace's `Cargo.toml`.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// The folder for everything that can be made again. Always in the workspace, whatever `CARGO_TARGET_DIR` says, so that
/// kernels and tools are found by every command.
pub(crate) fn target() -> PathBuf {
    root().join("target")
}

/// Tools that `cargo xtask setup` installs for this checkout only.
pub(crate) fn tools() -> PathBuf {
    target().join("tools")
}

/// What the lab keeps: kernels, logs, the files of a running lab.
pub(crate) fn lab() -> PathBuf {
    target().join("lab")
}
