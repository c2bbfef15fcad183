//! Stock Debian kernels: the files that `xtask/kernels.lock` names ([`lock`]), downloaded from this machine's mirrors
//! ([`mirrors`]), unpacked, never installed. `cargo xtask kernels update` renews the lock ([`update`]).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

mod lock;
mod mirrors;
mod update;

use self::lock::{FILE, Kernel};
use self::mirrors::Mirrors;
use super::modules::ModuleFolder;
use crate::{process, scratch, workspace};

/// KVM's modules of both kinds of host.
const MODULES: [&str; 2] = ["kvm_amd", "kvm_intel"];

/// What always helps.
const CURE: &str = "use --kernel with a folder that has a kernel and its KVM modules";

/// The folder with the kernel of a series, downloaded the first time. It stays until it is removed by hand.
pub(super) fn cached(series: &str) -> Result<PathBuf> {
    let kernels = lock::read()?;
    let Some(kernel) = kernels.iter().find(|kernel| kernel.series == series) else { bail!(not_locked(series, &kernels)) };
    let place = place(kernel);
    if place.is_dir() {
        return Ok(place);
    }
    let _alone = alone()?;
    if !place.is_dir() {
        eprintln!("xtask: downloading Linux {}, once", kernel.version);
        if let Err(error) = Mirrors::of_this_machine().and_then(|mirrors| fetch(kernel, &mirrors)) {
            bail!("{error:#}: `cargo xtask kernels update` puts the newest kernels there are into {FILE}; or {CURE}");
        }
    }
    Ok(place)
}

/// Renews these series of the lock, or all.
pub(crate) fn update(series: &[String]) -> Result<()> {
    let _alone = alone()?;
    update::run(series)
}

/// Where a kernel is kept. One of another version than the lock's is in another folder, so it is not taken for the lock's.
fn place(kernel: &Kernel) -> PathBuf {
    workspace::lab().join("kernels").join(&kernel.version)
}

/// One at a time: apt gives up when another apt is at the same lists. Unlocked when the file is closed.
fn alone() -> Result<File> {
    if !process::on_path("apt-get") {
        bail!("Debian's kernels are fetched with apt, which is not here; {CURE}");
    }
    let folder = workspace::lab().join("kernels");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let lock = File::create(folder.join("lock")).context("cannot create the lock of the kernels")?;
    lock.lock().context("cannot lock the kernels")?;
    Ok(lock)
}

/// What to say when the lock has no kernel of the series.
fn not_locked(series: &str, kernels: &[Kernel]) -> String {
    let there: Vec<&str> = kernels.iter().map(|kernel| &kernel.series[..]).collect();
    format!("{FILE} has no kernel {series}: choose one of {}, or {CURE}", there.join(", "))
}

/// Downloads a kernel's packages into its place, unless it is there: then they are only tried.
fn fetch(kernel: &Kernel, mirrors: &Mirrors) -> Result<()> {
    let scratch = scratch::folder(&workspace::lab().join("kernels"))?;
    let (all, ready) = (scratch.path().join("all"), scratch.path().join("ready"));
    for package in &kernel.packages {
        let file = scratch.path().join("package.deb");
        mirrors.download(kernel, package, &file)?;
        process::stdout(Command::new("dpkg-deb").arg("-x").args([&file, &all]))?;
        fs::remove_file(file)?;
    }
    keep(&all, &ready).with_context(|| format!("the packages of Linux {} are of no use", kernel.version))?;
    // In one step, so that what is in the cache is complete.
    let place = place(kernel);
    if place.is_dir() { Ok(()) } else { fs::rename(&ready, place).context("cannot put the kernel into its place") }
}

/// Keeps the image and KVM's modules of unpacked packages. The modules are decompressed now so that no run has to.
fn keep(all: &Path, ready: &Path) -> Result<()> {
    fs::create_dir(ready)?;
    fs::rename(super::image_below(all)?.context("they hold no kernel image")?, ready.join("vmlinuz"))?;
    let modules = ModuleFolder::below(all)?.closure(&MODULES)?;
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
    fn who_asks_for_a_series_that_is_not_pinned_is_told_which_there_are() {
        let kernels = ["6.1", "6.12"].map(|series| lock::tests::kernel(series, "1", &[]));
        assert_eq!(
            not_locked("4.19", &kernels),
            "xtask/kernels.lock has no kernel 4.19: choose one of 6.1, 6.12, or use --kernel with a folder that has a kernel \
             and its KVM modules"
        );
    }
}
