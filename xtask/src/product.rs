//! Builds the `shared-msr` that is put into the lab.

use std::{env, path::PathBuf, process::Stdio};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{process, workspace};

/// The lab's hosts are all of this kind. glibc links statically for it, so no other C library is needed.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Examples of `shared-msr-cli` that are run in the lab.
const EXAMPLES: [&str; 1] = ["shapes"];

/// What the tests of the lab need.
#[derive(Debug)]
pub(crate) struct LabBuild {
    /// The program that is tested.
    pub(crate) shared_msr: PathBuf,
    /// The tests' own program.
    pub(crate) tests: PathBuf,
    /// Examples of `shared-msr-cli` that the tests use, by their names.
    pub(crate) examples: Vec<(String, PathBuf)>,
}

/// A release build of `shared-msr` that needs no shared library, because the lab has none.
pub(crate) fn build_static() -> Result<PathBuf> {
    let built = build(&["--bin", "shared-msr"])?;
    one(&built, "bin", "shared-msr")
}

/// The same of what the tests of the lab need, all at once.
pub(crate) fn build_for_tests() -> Result<LabBuild> {
    let mut what = vec!["--bin", "shared-msr", "--test", "lab"];
    what.extend(EXAMPLES.iter().flat_map(|name| ["--example", name]));
    let built = build(&what)?;
    let example = |name: &&str| Ok(((*name).to_owned(), one(&built, "example", name)?));
    Ok(LabBuild {
        shared_msr: one(&built, "bin", "shared-msr")?,
        tests: one(&built, "test", "lab")?,
        examples: EXAMPLES.iter().map(example).collect::<Result<_>>()?,
    })
}

/// The same, and with it one example of `shared-msr-cli`.
pub(crate) fn build_static_and_example(name: &str) -> Result<(PathBuf, PathBuf)> {
    let built = build(&["--bin", "shared-msr", "--example", name])?;
    Ok((one(&built, "bin", "shared-msr")?, one(&built, "example", name)?))
}

fn build(what: &[&str]) -> Result<Vec<Artifact>> {
    // A folder of its own: other flags in the same folder would make cargo build everything anew each time.
    let folder = workspace::target().join("static");
    if !folder.exists() {
        eprintln!("xtask: building shared-msr for the lab, which takes minutes the first time");
    }
    let mut flags = env::var_os("RUSTFLAGS").unwrap_or_default();
    flags.push(" -C target-feature=+crt-static");
    let output = process::cargo()
        .current_dir(workspace::root())
        .args(["build", "--quiet", "--release", "--package", "shared-msr-cli", "--target", TARGET])
        // Always, so that nothing is built twice.
        .args(["--features", "lab", "--message-format", "json-render-diagnostics"])
        .args(what)
        .arg("--target-dir")
        .arg(&folder)
        .env("RUSTFLAGS", flags)
        // Would win over RUSTFLAGS.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("building for the lab failed, see above");
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// What cargo tells of a thing that it has built (or found built).
#[derive(Debug, Deserialize)]
struct Artifact {
    target: Target,
    executable: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Target {
    kind: Vec<String>,
    name: String,
}

fn one(built: &[Artifact], kind: &str, name: &str) -> Result<PathBuf> {
    let is_it = |artifact: &&Artifact| artifact.target.name == name && artifact.target.kind.iter().any(|found| found == kind);
    let found = built.iter().find(is_it).and_then(|artifact| artifact.executable.clone());
    found.with_context(|| format!("the build ended well but left no {kind} {name}"))
}
