//! `cargo xtask ebpf`: lints the kernel-side programs and compiles their object, without the rest.

use std::process::Command;

use anyhow::{Error, Result};

#[path = "../../shared-msr-cli/build/object.rs"]
mod object;
#[path = "../../shared-msr-cli/build/tool_chain.rs"]
mod tool_chain;

pub(crate) use tool_chain::{Compiler, LINKER_SERIES, ToolChain, find_linker, on_path};

use crate::{process, workspace};

/// Lints, compiles, and says with which tool chain and where the object is.
pub(crate) fn run() -> Result<()> {
    let tool_chain = find()?;
    println!("xtask: the tool chain for BPF is {tool_chain}");
    lint(&tool_chain)?;
    let folder = object::build(&tool_chain, &workspace::root()).map_err(Error::msg)?;
    println!("xtask: {} are in {}", object::OBJECTS.join(" and "), folder.display());
    Ok(())
}

/// The tool chain for BPF, or what is missing.
pub(crate) fn find() -> Result<ToolChain> {
    ToolChain::find(&workspace::root()).map_err(|missing| Error::msg(missing.to_string()))
}

/// Runs clippy on the programs, for the BPF target: for the host there is nothing to see. Warnings are errors.
pub(crate) fn lint(tool_chain: &ToolChain) -> Result<()> {
    let mut clippy = object::for_bpf(clippy(&tool_chain.compiler), tool_chain, &workspace::root());
    process::run(clippy.args(["--", "--deny", "warnings"]))
}

/// A command that runs the clippy of this compiler.
pub(crate) fn clippy(compiler: &Compiler) -> Command {
    let mut command = match compiler {
        Compiler::Rustup(_) => compiler.command("cargo"),
        Compiler::System(rustc) => {
            // Called by its path, because cargo would take rustup's, which belongs to another compiler.
            let mut command = compiler.command("cargo-clippy");
            command.env("CARGO", rustc.with_file_name("cargo"));
            command
        }
    };
    command.arg("clippy");
    command
}
