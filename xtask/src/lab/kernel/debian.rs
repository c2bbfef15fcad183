//! Stock Debian kernels: downloaded with apt, unpacked, never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Error, Result, bail};

use super::modules::ModuleFolder;
use crate::{process, scratch, setup, workspace};

/// The flavour with drivers for virtual machines only: small, and all the lab needs.
const FLAVOUR: &str = "-cloud-amd64";

/// KVM's modules of both kinds of host.
const MODULES: [&str; 2] = ["kvm_amd", "kvm_intel"];

/// The folder with the kernel of a series, downloaded the first time. It stays until it is removed by hand; then the
/// newest kernel of the series is downloaded again.
pub(super) fn cached(series: &str) -> Result<PathBuf> {
    let folder = workspace::lab().join("kernels");
    let cached = folder.join(series);
    if cached.is_dir() {
        return Ok(cached);
    }
    let scratch = scratch::folder(&folder)?;
    let package = download(series, scratch.path())?;
    let ready = scratch.path().join("ready");
    unpack(&package, scratch.path(), &ready).with_context(|| format!("cannot unpack {}", package.display()))?;
    // In one step, so that what is in the cache is complete.
    match fs::rename(&ready, &cached) {
        // Another lab was faster, and has the same kernel.
        Err(_) if cached.is_dir() => Ok(cached),
        result => result.map(|()| cached).context("cannot keep the kernel for later runs"),
    }
}

/// Downloads the newest package of the series that can be had: an image may be gone while the index still has it.
fn download(series: &str, to: &Path) -> Result<PathBuf> {
    eprintln!("xtask: downloading the newest {series} kernel, once");
    let mut result = newest(series, to);
    if result.is_err() && setup::is_root() && process::succeeds(Command::new("apt-get").args(["-qq", "update"])) {
        // The list of packages was empty or old.
        result = newest(series, to);
    }
    result
}

/// Downloads the newest package that apt knows and can get.
fn newest(series: &str, to: &Path) -> Result<PathBuf> {
    if !process::on_path("apt-get") {
        bail!(
            "Debian's kernels are fetched with apt, which is not here; use --kernel with a folder that has a kernel and its KVM modules"
        );
    }
    let known = process::stdout(Command::new("apt-cache").args(["pkgnames", &format!("linux-image-{series}.")]))
        .map_err(|error| Error::msg(no_kernel(series, &format!("{error:#}"))))?;
    let mut reason = "apt knows no such package".to_owned();
    for package in candidates(&known, series) {
        let mut command = Command::new("apt-get");
        // Without the option apt complains that its own user cannot write to our folder.
        command.args(["-q", "-o", "APT::Sandbox::User=root", "download", &package]).current_dir(to);
        match process::stdout(&mut command) {
            Ok(_) => return the_package(to),
            Err(error) => reason = format!("{error:#}"),
        }
    }
    bail!(no_kernel(series, &reason));
}

/// What to say when apt has no such kernel.
fn no_kernel(series: &str, reason: &str) -> String {
    format!(
        "no Debian kernel {series} to be had from this machine's apt sources ({reason}): \
         run `apt-get update` as root, or use --kernel with a folder that has a kernel and its KVM modules"
    )
}

/// The packages among `known` that hold a kernel of the series, newest first. Not the unsigned and debug variants, and
/// not the package without a version that only depends on the newest.
fn candidates(known: &str, series: &str) -> Vec<String> {
    let prefix = format!("linux-image-{series}.");
    let mut found: Vec<&str> = known.lines().filter(|name| name.starts_with(&prefix) && name.ends_with(FLAVOUR)).collect();
    found.sort_by_key(|name| std::cmp::Reverse(numbers(name)));
    found.into_iter().map(str::to_owned).collect()
}

/// All numbers in a name: versions compare by these, 6.12.9 before 6.12.117.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|character: char| !character.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// The one package that was downloaded into a folder.
fn the_package(folder: &Path) -> Result<PathBuf> {
    let mut paths = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    paths.find(|path| path.extension().is_some_and(|extension| extension == "deb")).context("apt-get left no package")
}

/// Unpacks a package and keeps its image and KVM's modules, which are decompressed now so that no run has to.
fn unpack(package: &Path, scratch: &Path, ready: &Path) -> Result<()> {
    let all = scratch.join("all");
    process::stdout(Command::new("dpkg-deb").arg("-x").args([package, &all]))?;
    fs::create_dir(ready)?;
    let boot = all.join("boot");
    match &super::images(&boot)?[..] {
        [image] => fs::rename(boot.join(image), ready.join(image))?,
        _ => bail!("it holds no kernel image"),
    }
    let modules = ModuleFolder::below(&all)?.closure(&MODULES)?;
    if modules.is_empty() {
        bail!("it holds no KVM modules");
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
    fn versions_are_compared_by_number() {
        let known = "linux-image-6.12.9+deb12-cloud-amd64\nlinux-image-6.12.117+deb12-cloud-amd64\n\
                     linux-image-6.12.100+deb12-cloud-amd64\n";
        assert_eq!(
            candidates(known, "6.12"),
            [
                "linux-image-6.12.117+deb12-cloud-amd64",
                "linux-image-6.12.100+deb12-cloud-amd64",
                "linux-image-6.12.9+deb12-cloud-amd64"
            ]
        );
    }

    #[test]
    fn only_real_images_of_the_series_are_candidates() {
        let known = "linux-image-6.1.0-56-cloud-amd64\nlinux-image-6.1.0-56-cloud-amd64-dbg\n\
                     linux-image-6.1.0-56-cloud-amd64-unsigned\nlinux-image-6.1.0-56-amd64\nlinux-image-6.1-cloud-amd64\n\
                     linux-image-cloud-amd64\nlinux-image-6.12.9+deb12-cloud-amd64\nlinux-image-6.1.0-9-cloud-amd64\n";
        assert_eq!(candidates(known, "6.1"), ["linux-image-6.1.0-56-cloud-amd64", "linux-image-6.1.0-9-cloud-amd64"]);
        assert!(candidates(known, "5.10").is_empty());
    }
}
