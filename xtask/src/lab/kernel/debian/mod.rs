//! Stock Debian kernels: downloaded with apt, unpacked, never installed.
//!
//! The machine's own lists of packages ([`apt`]) are looked at first, then those of other releases in an apt root of our own
//! ([`root`]). Of what is there ([`catalogue`]), the newest kernel of a series that can be downloaded is taken.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Error, Result, anyhow, bail};

mod apt;
mod catalogue;
mod mirrors;
mod root;
mod sources;

use self::{apt::Apt, root::Root};
use super::modules::ModuleFolder;
use crate::{process, scratch, workspace};

/// KVM's modules of both kinds of host.
const MODULES: [&str; 2] = ["kvm_amd", "kvm_intel"];

/// What always helps.
const CURE: &str = "use --kernel with a folder that has a kernel and its KVM modules";

/// The folder with the kernel of a series, downloaded the first time. It stays until it is removed by hand; then the
/// newest kernel of the series is downloaded again.
pub(super) fn cached(series: &str) -> Result<PathBuf> {
    let folder = workspace::lab().join("kernels");
    let cached = folder.join(series);
    if cached.is_dir() {
        return Ok(cached);
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    // One at a time: apt gives up when another apt is at the same lists. Unlocked when the file is closed.
    let lock = File::create(folder.join("lock")).context("cannot create the lock of the kernels")?;
    lock.lock().context("cannot lock the kernels")?;
    if cached.is_dir() {
        return Ok(cached);
    }
    let scratch = scratch::folder(&folder)?;
    let kernel = download(series, scratch.path())?;
    let ready = scratch.path().join("ready");
    unpack(&kernel, scratch.path(), &ready).with_context(|| format!("cannot unpack the packages of Linux {}", kernel.name))?;
    // In one step, so that what is in the cache is complete.
    fs::rename(&ready, &cached).context("cannot keep the kernel for later runs")?;
    Ok(cached)
}

/// A kernel's packages.
#[derive(Debug)]
struct Downloaded {
    /// The kernel's own name of itself.
    name: String,
    /// The folder with the packages.
    folder: PathBuf,
}

/// Downloads the newest kernel of the series that can be had.
fn download(series: &str, to: &Path) -> Result<Downloaded> {
    if !process::on_path("apt-get") {
        bail!("Debian's kernels are fetched with apt, which is not here; {CURE}");
    }
    eprintln!("xtask: downloading the newest {series} kernel, once");
    let own = match newest(&Apt::with(Vec::new()), series, to) {
        Ok(kernel) => return Ok(kernel),
        Err(error) => in_one_line(&error),
    };
    let root = Root::open().map_err(|error| anyhow!("no Debian kernel {series} to be had ({own}; {error:#}): {CURE}"))?;
    if let Ok(kernel) = newest(&root.apt, series, to) {
        return Ok(kernel);
    }
    eprintln!("xtask: asking this machine's Debian mirrors what kernels they have");
    let missing = root.update()?;
    newest(&root.apt, series, to).or_else(|error| {
        let mut releases = root.apt.kernels()?;
        releases.retain(|release| !release.is_of(series));
        let there = catalogue::series_there(&releases);
        bail!(nothing_found(series, &in_one_line(&error), &root.suites()?, &missing, &there))
    })
}

/// An error within a sentence; apt likes to use several lines.
fn in_one_line(error: &Error) -> String {
    format!("{error:#}").replace('\n', " ")
}

/// What to say when no suite has a kernel of the series.
fn nothing_found(series: &str, reason: &str, suites: &[String], missing: &[String], there: &[&str]) -> String {
    let mut text = format!("no Debian kernel {series} to be had ({reason}");
    if !suites.is_empty() {
        text += &format!("; looked for in {}", suites.join(", "));
    }
    if !missing.is_empty() {
        text += &format!("; not to be had: {}", missing.join(", "));
    }
    text += "): ";
    if !there.is_empty() {
        text += &format!("choose one of {}, or ", there.join(", "));
    }
    text + CURE
}

/// Downloads the newest kernel that apt knows and can get: a package may be gone while the list still has it. The error
/// is about the newest.
fn newest(apt: &Apt, series: &str, to: &Path) -> Result<Downloaded> {
    let mut why = None;
    for release in apt.kernels()?.into_iter().filter(|release| release.is_of(series)) {
        let failure = match release.missing {
            Some(missing) => anyhow!("Linux {} needs the package {missing}, which is not there", release.name),
            None => {
                let folder = to.join("packages");
                match apt.download(&release.packages, &folder) {
                    Ok(()) => return Ok(Downloaded { name: release.name, folder }),
                    Err(error) => error,
                }
            }
        };
        why.get_or_insert(failure);
    }
    Err(why.unwrap_or_else(|| anyhow!("apt knows no such package")))
}

/// Unpacks a kernel's packages and keeps its image and KVM's modules, which are decompressed now so that no run has to.
fn unpack(kernel: &Downloaded, scratch: &Path, ready: &Path) -> Result<()> {
    let all = scratch.join("all");
    for package in fs::read_dir(&kernel.folder)? {
        process::stdout(Command::new("dpkg-deb").arg("-x").args([&package?.path(), &all]))?;
    }
    fs::create_dir(ready)?;
    let image = super::image_below(&all)?.context("they hold no kernel image")?;
    fs::rename(image, ready.join(format!("vmlinuz-{}", kernel.name)))?;
    let modules = ModuleFolder::below(&all)?.closure(&MODULES)?;
    if modules.is_empty() {
        bail!("they hold no KVM modules");
    }
    for module in modules {
        fs::write(ready.join(module.name + ".ko"), module.content)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_a_series_that_nobody_has_is_told_which_there_are() {
        let (suites, missing) = (["bookworm".to_owned()], ["sid (404 Not Found)".to_owned()]);
        assert_eq!(
            nothing_found("4.19", "apt knows no such package", &suites, &missing, &["6.1", "6.12"]),
            "no Debian kernel 4.19 to be had (apt knows no such package; looked for in bookworm; not to be had: sid (404 Not \
             Found)): choose one of 6.1, 6.12, or use --kernel with a folder that has a kernel and its KVM modules"
        );
        assert!(nothing_found("4.19", "it is gone", &[], &[], &[]).contains("(it is gone): use --kernel"));
    }
}
