//! bpf-linker, which turns what rustc makes for the BPF target into an object that the kernel loads.

use std::fs;

use anyhow::Result;

use crate::{ebpf, process, workspace};

/// Whether it is on the PATH or among our own tools, in the right version.
pub(super) fn found() -> bool {
    ebpf::find_linker(&workspace::root()).is_some()
}

/// Builds it into our own tools.
pub(super) fn install() -> Result<()> {
    let build = workspace::tools().join("build");
    let result = process::run(
        process::cargo()
            .args([
                "install",
                "--locked",
                "bpf-linker",
                "--version",
                &format!("^{}", ebpf::LINKER_SERIES.trim_end_matches('.')),
                "--root",
            ])
            .arg(workspace::tools())
            .arg("--target-dir")
            .arg(&build)
            // Flags meant for our own code.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS"),
    );
    // Much space that nobody needs again. If it cannot be removed, it is only wasted space.
    let _ = fs::remove_dir_all(&build);
    result
}
