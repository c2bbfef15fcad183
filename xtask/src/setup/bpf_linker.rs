//! bpf-linker, which turns what rustc makes for the BPF target into an object that the kernel loads.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::{process, workspace};

/// The version that goes with LLVM 22, as Rust 1.95 and 1.96 have it. 0.11 and later want LLVM 23.
const VERSION: &str = "0.10";

/// Whether it is on the PATH or among our own tools, in the right version.
pub(super) fn found() -> bool {
    let own = workspace::tools().join("bin/bpf-linker");
    [Path::new("bpf-linker"), &own]
        .into_iter()
        .any(|program| process::stdout(Command::new(program).arg("--version")).is_ok_and(|text| is_right_version(&text)))
}

/// Builds it into our own tools.
pub(super) fn install() -> Result<()> {
    let build = workspace::tools().join("build");
    let result = process::run(
        process::cargo()
            .args(["install", "--locked", "bpf-linker", "--version", &format!("^{VERSION}"), "--root"])
            .arg(workspace::tools())
            .arg("--target-dir")
            .arg(&build)
            // Flags meant for our own code.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS"),
    );
    // Half a gigabyte that nobody needs again. If it cannot be removed, it is only wasted space.
    let _ = fs::remove_dir_all(&build);
    result
}

/// Whether this is what the right version says of itself, `bpf-linker 0.10.4`.
fn is_right_version(text: &str) -> bool {
    let version = text.split_whitespace().last().unwrap_or_default();
    version.strip_prefix(VERSION).is_some_and(|rest| rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_version_for_our_llvm_will_do() {
        assert!(is_right_version("bpf-linker 0.10.4\n"));
        for text in ["bpf-linker 0.11.0\n", "bpf-linker 0.1.0", "bpf-linker 0.100.0", ""] {
            assert!(!is_right_version(text), "{text}");
        }
    }
}
