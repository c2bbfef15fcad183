//! `cargo xtask kernels update`: puts the newest kernel of each series that can be downloaded into the lock.
//!
//! What there is, an apt root of our own says: fixed suites (`debian.sources`) on this machine's mirrors, and lists of packages
//! in a folder below `target` (`apt.conf`). Nothing of the system's apt is changed, and no rights of root are needed.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};

use super::lock::{self, FILE, Kernel, Package, numbers};
use super::mirrors::{APT_HELPER, Mirrors, apt};
use crate::lab::kernel::is_series;
use crate::{process, workspace};

/// The flavour with drivers for virtual machines only: small, and all the lab needs.
const FLAVOUR: &str = "-cloud-amd64";

/// Renews the kernels of these series, or of all that the lock has. A series that the lock does not have is added.
pub(super) fn run(wanted: &[String]) -> Result<()> {
    let mut locked = lock::read()?;
    let all: Vec<String> = locked.iter().map(|kernel| kernel.series.clone()).collect();
    let mirrors = Mirrors::of_this_machine()?;
    let known = known(&mirrors)?;
    let mut failures = Vec::new();
    for series in if wanted.is_empty() { &all } else { wanted } {
        let old = locked.iter().find(|kernel| kernel.series == *series);
        let fetch = |kernel: &Kernel| super::fetch(kernel, &mirrors).inspect_err(|error| eprintln!("xtask: {error:#}"));
        match newest(series, &known, old, fetch) {
            Ok(new) => {
                println!("kernels: {series}: {}{}", new.version, if old == Some(&new) { ", as before" } else { "" });
                locked.retain(|kernel| kernel.series != *series);
                locked.push(new);
            }
            Err(error) => failures.push(format!("{series} ({error:#})")),
        }
    }
    lock::write(&locked)?;
    if !failures.is_empty() {
        bail!("no kernel to be had of {}: nothing was changed in {FILE} about that", failures.join(", "));
    }
    Ok(())
}

/// Every whole kernel in the suites.
fn known(mirrors: &Mirrors) -> Result<Vec<Kernel>> {
    let folder = workspace::lab().join("apt");
    write_root(&folder, mirrors).with_context(|| format!("cannot write apt's files in {}", folder.display()))?;
    let apt_get = |action: &str| {
        let mut command = apt("apt-get");
        command.arg("-c").arg(folder.join("apt.conf")).arg(action);
        command
    };
    println!("kernels: asking this machine's Debian mirrors what they have");
    if let Err(error) = process::run(apt_get("update").arg("-qq")) {
        // A suite that is missing matters only if a series is found nowhere else.
        eprintln!("xtask: going on with the lists there are: {error:#}");
    }
    let lists = process::stdout(apt_get("indextargets").args(["--format", "$(RELEASE) $(FILENAME)", "Created-By: Packages"]))?;
    let mut kernels = Vec::new();
    for (suite, file) in lists.lines().filter_map(|line| line.split_once(' ')) {
        kernels.extend(kernels_in(&process::stdout(apt(APT_HELPER).args(["cat-file", file]))?, suite));
    }
    Ok(kernels)
}

/// Writes the apt root, or brings it up to date with the machine's mirrors; the lists that are there stay.
fn write_root(folder: &Path, mirrors: &Mirrors) -> Result<()> {
    let sources = include_str!("debian.sources").replace("@ARCHIVE@", &mirrors.archive.join(" "));
    let configuration = include_str!("apt.conf").replace("@FOLDER@", &folder.display().to_string());
    fs::create_dir_all(folder.join("lists/partial"))?;
    fs::write(folder.join("debian.sources"), sources.replace("@SECURITY@", &mirrors.security.join(" ")))?;
    fs::write(folder.join("apt.conf"), configuration)?;
    Ok(())
}

/// The kernels in a suite's list of packages that have all their packages there.
fn kernels_in(list: &str, suite: &str) -> Vec<Kernel> {
    let stanzas = list.split("\n\n").filter_map(|stanza| Some((field(stanza, "Package")?, stanza)));
    let stanzas: BTreeMap<&str, &str> = stanzas.filter(|(name, _)| name.ends_with(FLAVOUR)).collect();
    stanzas.keys().filter_map(|image| kernel(image.strip_prefix("linux-image-")?, &stanzas, suite)).collect()
}

/// The kernel of this name.
fn kernel(release: &str, stanzas: &BTreeMap<&str, &str>, suite: &str) -> Option<Kernel> {
    let names = ["image", "binary", "modules"].map(|part| format!("linux-{part}-{release}"));
    let image = *stanzas.get(&names[0][..])?;
    // From 6.19 the package with the image is empty and depends on the other two.
    let depends = field(image, "Depends").unwrap_or_default();
    let needed = names.iter().filter(|name| **name == names[0] || depends.contains(&name[..]));
    let package = |name: &String| {
        let field = |wanted| field(stanzas.get(&name[..])?, wanted).map(str::to_owned);
        Some(Package { name: name.clone(), sha256: field("SHA256")?, path: field("Filename")? })
    };
    let (series, version) = (series(release)?.to_owned(), field(image, "Version")?.to_owned());
    Some(Kernel { series, version, suite: suite.to_owned(), packages: needed.map(package).collect::<Option<_>>()? })
}

/// The value of a field in a stanza.
fn field<'a>(stanza: &'a str, name: &str) -> Option<&'a str> {
    stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// The series of a kernel's name, 6.12. Packages that only depend on the newest kernel, or are not signed, have no such name.
fn series(release: &str) -> Option<&str> {
    let (end, _) = release.match_indices('.').nth(1)?;
    Some(&release[..end]).filter(|series| is_series(series))
}

/// The newest kernel of a series that can be fetched: a package may be gone while a list still has it, and that of the lock may
/// be there when no list has it any more. The error is about the newest.
fn newest(series: &str, known: &[Kernel], old: Option<&Kernel>, fetch: impl Fn(&Kernel) -> Result<()>) -> Result<Kernel> {
    let mut kernels: Vec<&Kernel> = known.iter().chain(old).filter(|kernel| kernel.series == series).collect();
    kernels.sort_by_cached_key(|kernel| Reverse(numbers(&kernel.version)));
    let mut why = None;
    for kernel in kernels {
        match fetch(kernel) {
            Ok(()) => return Ok(kernel.clone()),
            Err(error) => why.get_or_insert(error),
        };
    }
    Err(why.unwrap_or_else(|| anyhow!("no suite has it")))
}

#[cfg(test)]
mod tests {
    use super::super::lock::tests::kernel;
    use super::*;

    /// A list with packages of these names and what they depend on.
    fn list(packages: &[(&str, &str)]) -> String {
        let (rest, hash) = ("Version: 7.3.4-1\nDescription: x\n y\n", "0123456789abcdef".repeat(4));
        let stanza = |(name, depends): &(&str, &str)| {
            format!("Package: {name}\n{rest}Depends: {depends}\nFilename: pool/{name}_7.3.4-1.deb\nSHA256: {hash}\n")
        };
        packages.iter().map(stanza).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn only_real_images_are_taken_for_images() {
        let names = ["7.3.4", "7.3", "unsigned-7.3.4"].map(|release| format!("linux-image-{release}{FLAVOUR}"));
        let others = ["linux-image-7.3.4-amd64", "linux-image-cloud-amd64", "linux-image-7.3.4-cloud-amd64-dbg"];
        let all: Vec<_> = names.iter().map(|name| (&name[..], "kmod")).chain(others.map(|name| (name, ""))).collect();
        assert_eq!(kernels_in(&list(&all), "bookworm"), [kernel("7.3", "7.3.4-1", &[&names[0]])]);
    }

    #[test]
    fn a_kernel_in_several_packages_needs_them_all() {
        let names = ["image", "binary", "modules"].map(|part| format!("linux-{part}-7.3.4{FLAVOUR}"));
        let [image, binary, modules] = [0, 1, 2].map(|index| &names[index][..]);
        let depends =
            format!("a | b (>= 0.1), linux-base-7.3.4{FLAVOUR} (= 7.3.4-1), {binary} (= 7.3.4-1), {modules} (= 7.3.4-1)");
        let whole = [(image, &depends[..]), (binary, ""), (modules, "")];
        assert_eq!(kernels_in(&list(&whole), "bookworm"), [kernel("7.3", "7.3.4-1", &[image, binary, modules])]);
        assert!(kernels_in(&list(&whole[..2]), "bookworm").is_empty());
    }

    #[test]
    fn the_newest_that_can_be_fetched_is_taken_be_it_the_locks() {
        let known = ["6.12.9-1", "6.12.117-1"].map(|version| kernel("6.12", version, &["image"]));
        let old = kernel("6.12", "6.12.100-1", &["image"]);
        let newest = |fetch: fn(&Kernel) -> Result<()>| newest("6.12", &known, Some(&old), fetch);
        assert_eq!(newest(|_| Ok(())).unwrap(), known[1]);
        assert_eq!(newest(|kernel| if kernel.version == "6.12.117-1" { bail!("gone") } else { Ok(()) }).unwrap(), old);
        assert_eq!(newest(|kernel| bail!("{} is gone", kernel.version)).unwrap_err().to_string(), "6.12.117-1 is gone");
    }
}
