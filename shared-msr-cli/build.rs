//! Compiles the kernel-side programs, so that the binary carries them: one file to install.

#[path = "build/object.rs"]
mod object;
#[path = "build/tool_chain.rs"]
mod tool_chain;

use std::{env, fs, path::Path};

use tool_chain::ToolChain;

fn main() {
    // Cargo shows `cargo::error` lines as errors of this package and fails the build.
    match embed_object() {
        // Shown by `doctor`. Without the linker: its path is of no use on another machine.
        Ok(tool_chain) => println!("cargo::rustc-env=SHARED_MSR_BPF_COMPILER={}", tool_chain.compiler),
        Err(message) => message.lines().for_each(|line| println!("cargo::error={line}")),
    }
}

fn embed_object() -> Result<ToolChain, String> {
    let manifest = env::var("CARGO_MANIFEST_DIR").map_err(|_| "not run by cargo".to_owned())?;
    let out = env::var("OUT_DIR").map_err(|_| "not run by cargo".to_owned())?;
    let workspace = Path::new(&manifest).parent().ok_or("shared-msr-cli is not inside its workspace")?;
    for input in
        ["shared-msr-ebpf", "shared-msr-common", "shared-msr-cli/build", "shared-msr-cli/build.rs", "Cargo.toml", "Cargo.lock"]
    {
        println!("cargo::rerun-if-changed={}", workspace.join(input).display());
    }
    let tool_chain = ToolChain::find(workspace).map_err(|missing| missing.to_string())?;
    let folder = object::build(&tool_chain, workspace)?;
    for object in object::OBJECTS {
        let built = folder.join(object);
        fs::copy(&built, Path::new(&out).join(object)).map_err(|error| format!("{}: {error}", built.display()))?;
    }
    Ok(tool_chain)
}
