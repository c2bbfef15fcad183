//! `cargo xtask save-data`: writes anew what tests read of real hosts, `shared-msr-cli/tests/data`.

mod btf;
mod elf;
mod kernel;
mod ledgers;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::lab::{self, LabOptions};
use crate::workspace;

/// Contents of files by their paths in the folder of the data.
type Files = BTreeMap<String, Vec<u8>>;

/// What to save.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Selection {
    /// Only what has a name with this in it, such as "kernel 6.1" or "ledgers".
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

/// Runs the lab for each part and writes its files. A part that fails leaves its files as they are.
pub(crate) fn run_all(selection: &Selection) -> Result<ExitCode> {
    let kernels = kernel::SAVED.map(|saved| (format!("kernel {}", saved.series), Part::Kernel(saved)));
    let ledgers = ledgers::SAVED.map(|saved| (format!("ledgers {}", saved.name), Part::Ledgers(saved)));
    let wanted = |name: &str| selection.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    let parts: Vec<_> = kernels.into_iter().chain(ledgers).filter(|(name, _)| wanted(name)).collect();
    if parts.is_empty() {
        bail!("nothing is called so: there are \"kernel SERIES\" and \"ledgers HOST\"");
    }
    let mut all_well = true;
    for (name, part) in parts {
        let files = match part {
            Part::Kernel(saved) => kernel::save(saved),
            Part::Ledgers(saved) => ledgers::save(&saved),
        };
        match files.and_then(|files| write(&files)) {
            Ok(changes) => println!("{name}: {changes}"),
            Err(error) => {
                all_well = false;
                println!("{name}: not saved: {error:#}");
            }
        }
    }
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

enum Part {
    Kernel(kernel::Saved),
    Ledgers(ledgers::Saved),
}

/// Runs the lab, whose command must go well, and returns what it prints.
fn run(options: &LabOptions) -> Result<Vec<u8>> {
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let run = lab::run(options, &mut out, &mut errors)?;
    let errors = String::from_utf8_lossy(&errors).trim().to_owned();
    if let Some(problem) = run.problem {
        bail!("{problem} {errors}");
    }
    if run.status != 0 {
        bail!("the command in the lab ended with status {}: {errors}", run.status);
    }
    Ok(out)
}

/// Writes the files and says which of them are now others than before.
fn write(files: &Files) -> Result<String> {
    let folder = folder();
    let mut changes = Vec::new();
    for (name, content) in files {
        let path = folder.join(name);
        let before = match fs::read(&path) {
            Ok(before) => Some(before),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        match before {
            Some(before) if before == *content => continue,
            Some(_) => changes.push(format!("{name} is another one")),
            None => changes.push(format!("{name} is new")),
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        }
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let count = files.len();
    Ok(if changes.is_empty() { format!("{count} files, all as they were") } else { changes.join(", ") })
}

fn folder() -> PathBuf {
    workspace::root().join("shared-msr-cli/tests/data")
}
