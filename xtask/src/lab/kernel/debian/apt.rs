//! apt, with the machine's own configuration and lists of packages, or with others of ours. It never installs anything.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use super::catalogue::{self, Release};
use crate::process;

/// How to call apt.
#[derive(Debug)]
pub(super) struct Apt {
    options: Vec<OsString>,
}

impl Apt {
    /// With the machine's configuration as it is, but for these options.
    pub(super) fn with(mut options: Vec<OsString>) -> Self {
        // Without it apt complains that its own user cannot write to our folders.
        options.extend(["-o", "APT::Sandbox::User=root"].map(OsString::from));
        Self { options }
    }

    /// One of apt's programs, ready for its own arguments. It speaks English, because its messages are read here.
    fn command(&self, program: &str, action: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options).args(["-q", action]).env("LC_ALL", "C").env_remove("LANGUAGE");
        command
    }

    /// The kernels that it knows, newest first.
    pub(super) fn kernels(&self) -> Result<Vec<Release>> {
        let names = process::stdout(self.command("apt-cache", "pkgnames").arg("linux-"))?;
        let known: BTreeSet<&str> = names.lines().collect();
        let images = catalogue::images(&known);
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let shown = process::stdout(self.command("apt-cache", "show").arg("--no-all-versions").args(images))?;
        Ok(catalogue::releases(&shown, &known))
    }

    /// Downloads packages into a folder, all or none.
    pub(super) fn download(&self, packages: &[String], to: &Path) -> Result<()> {
        fs::create_dir(to)?;
        let result = process::stdout(self.command("apt-get", "download").args(packages).current_dir(to));
        if result.is_err() {
            fs::remove_dir_all(to)?;
        }
        result.map(drop)
    }

    /// Fetches the lists of packages anew, those that can be had. Returns what apt complained about, a line each.
    pub(super) fn update(&self) -> Result<Vec<String>> {
        let mut command = self.command("apt-get", "update");
        let output = command.stdin(Stdio::null()).output().map_err(|error| process::not_started(&command, error))?;
        Ok(String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect())
    }

    /// The suites whose lists are here.
    pub(super) fn suites(&self) -> Result<BTreeSet<String>> {
        let mut command = self.command("apt-get", "indextargets");
        let names = process::stdout(command.args(["--format", "$(RELEASE)", "Created-By: Packages"]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// The files with the machine's sources: one file, and a folder with more.
    pub(super) fn source_files() -> Result<[String; 2]> {
        let mut command = Command::new("apt-config");
        let said =
            process::stdout(command.args(["shell", "FILE", "Dir::Etc::sourcelist/f", "FOLDER", "Dir::Etc::sourceparts/d"]))?;
        let value = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("='")?.strip_suffix('\''));
        match (value("FILE"), value("FOLDER")) {
            (Some(file), Some(folder)) => Ok([file.to_owned(), folder.to_owned()]),
            _ => bail!("apt-config does not tell where apt's sources are"),
        }
    }
}
