//! Compiles the kernel-side programs. Shared by the build script of `shared-msr-cli` and by `xtask`.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use super::tool_chain::ToolChain;

const TARGET: &str = "bpfel-unknown-none";
const PACKAGE: &str = "shared-msr-ebpf";
/// A profile of its own in the workspace manifest: what a user says of `release` must not change what the verifier sees.
const PROFILE: &str = "bpf";

/// Makes `cargo` (build, or clippy) work on the kernel-side programs.
pub(crate) fn for_bpf(mut cargo: Command, tool_chain: &ToolChain, workspace: &Path) -> Command {
    // What the outer cargo says to its compiler is meant for the host, not for BPF.
    const PREFIXES: [&str; 8] = [
        "CARGO_BUILD_",
        "CARGO_CFG_",
        "CARGO_ENCODED_",
        "CARGO_FEATURE_",
        "CARGO_MANIFEST_",
        "CARGO_PKG_",
        "CARGO_PROFILE_",
        "CARGO_TARGET_",
    ];
    const NAMES: [&str; 8] = [
        "CARGO_INCREMENTAL",
        "CARGO_MAKEFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTDOC",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
        "TARGET",
    ];
    for (variable, _) in env::vars_os() {
        let name = variable.to_string_lossy();
        if NAMES.contains(&&*name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            cargo.env_remove(&variable);
        }
    }
    // The debug information becomes the BTF that names our programs and maps in the kernel's listings.
    let flags = ["--cfg=bpf_target_arch=\"x86_64\"", "-Cdebuginfo=2", "-Clink-arg=--btf"].join("\u{1f}");
    cargo
        .args(["--package", PACKAGE, "--profile", PROFILE, "--target", TARGET, "-Z", "build-std=core"])
        .arg("--manifest-path")
        .arg(workspace.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target_dir(workspace))
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &tool_chain.linker)
        .env("LD_LIBRARY_PATH", &tool_chain.llvm);
    cargo
}

/// The objects, by the package's names for them.
pub(crate) const OBJECTS: [&str; 2] = [PACKAGE, "shared-msr-on-demand"];

/// Compiles the objects and returns the folder where they are; on failure, what cargo said.
pub(crate) fn build(tool_chain: &ToolChain, workspace: &Path) -> Result<PathBuf, String> {
    let mut cargo = tool_chain.compiler.command("cargo");
    cargo.arg("build");
    let output =
        for_bpf(cargo, tool_chain, workspace).output().map_err(|error| format!("cargo could not be started: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(target_dir(workspace).join(TARGET).join(PROFILE))
}

/// Apart from the host's artefacts, and one for all profiles: `core` is compiled once.
fn target_dir(workspace: &Path) -> PathBuf {
    workspace.join("target/ebpf")
}
