//! Builds the `shared-msr` that is put into the lab.

use std::env;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::{process, workspace};

/// The lab's hosts are all of this kind. glibc links statically for it, so no other C library is needed.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// A release build of `shared-msr` that needs no shared library, because the lab has none.
pub(crate) fn build_static() -> Result<PathBuf> {
    build(&["--bin", "shared-msr"], "shared-msr")
}

/// The same of one of its examples.
pub(crate) fn build_static_example(name: &str) -> Result<PathBuf> {
    build(&["--example", name], &format!("examples/{name}"))
}

fn build(what: &[&str], file: &str) -> Result<PathBuf> {
    // A folder of its own: other flags in the same folder would make cargo build everything anew each time.
    let folder = workspace::target().join("static");
    let binary = folder.join(TARGET).join("release").join(file);
    if !binary.exists() {
        eprintln!("xtask: building {file} for the lab, which takes minutes the first time");
    }
    let mut flags = env::var_os("RUSTFLAGS").unwrap_or_default();
    flags.push(" -C target-feature=+crt-static");
    process::run(
        process::cargo()
            .current_dir(workspace::root())
            .args(["build", "--quiet", "--release", "--package", "shared-msr-cli", "--target", TARGET])
            .args(what)
            .arg("--target-dir")
            .arg(&folder)
            .env("RUSTFLAGS", flags)
            // Would win over RUSTFLAGS.
            .env_remove("CARGO_ENCODED_RUSTFLAGS"),
    )?;
    if !binary.exists() {
        bail!("the build ended well but left no {}", binary.display());
    }
    Ok(binary)
}
