//! `xtask/kernels.lock`: which files of Debian the lab's kernels are made of.

use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result, bail};

use crate::workspace;

/// Where the lock is, from the workspace's folder.
pub(super) const FILE: &str = "xtask/kernels.lock";

/// What stands above the kernels.
const HEAD: &str = "\
# The lab's kernels, made and renewed by `cargo xtask kernels update`: of each its series, its version and Debian's suite, and
# below it its packages: the name, the SHA256 that the file must have, and where a mirror has it.
";

/// One file with a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Package {
    /// Its name, `linux-image-6.12.101+deb12-cloud-amd64`.
    pub(super) name: String,
    /// What the file's content must have.
    pub(super) sha256: String,
    /// Where the file is, from the folder of the mirror.
    pub(super) path: String,
}

/// A kernel: one package, or since 6.19 an empty one and those with the image and the modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kernel {
    /// Its series, `6.12`.
    pub(super) series: String,
    /// The version of all its packages, `6.12.101-1~deb12u1`.
    pub(super) version: String,
    /// The suite that has, or had, it in its list of packages.
    pub(super) suite: String,
    /// Its packages.
    pub(super) packages: Vec<Package>,
}

/// The kernels of this checkout's lock.
pub(super) fn read() -> Result<Vec<Kernel>> {
    parse(&fs::read_to_string(workspace::root().join(FILE)).with_context(|| format!("cannot read {FILE}, take it from git"))?)
}

/// Writes this checkout's lock.
pub(super) fn write(kernels: &[Kernel]) -> Result<()> {
    fs::write(workspace::root().join(FILE), text(kernels)).with_context(|| format!("cannot write {FILE}"))
}

fn parse(text: &str) -> Result<Vec<Kernel>> {
    let mut kernels: Vec<Kernel> = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#')) {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match (<[String; 3]>::try_from(words), line.starts_with(' '), kernels.last_mut()) {
            (Ok([name, sha256, path]), true, Some(kernel)) if is_sha256(&sha256) => {
                kernel.packages.push(Package { name, sha256, path });
            }
            (Ok([series, version, suite]), false, _) => {
                kernels.push(Kernel { series, version, suite, packages: Vec::new() });
            }
            _ => bail!("{FILE}, line {}, is neither a kernel nor a package with its SHA256: take it from git", index + 1),
        }
    }
    Ok(kernels)
}

/// Whether this is a hash. What is none apt takes for no hash at all, and then checks nothing.
fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The lock's text. The oldest series is first.
fn text(kernels: &[Kernel]) -> String {
    let mut kernels: Vec<&Kernel> = kernels.iter().collect();
    kernels.sort_by_cached_key(|kernel| numbers(&kernel.series));
    let mut text = HEAD.to_owned();
    for Kernel { series, version, suite, packages } in kernels {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\n{series} {version} {suite}");
        for Package { name, sha256, path } in packages {
            let _ = writeln!(text, "  {name} {sha256} {path}");
        }
    }
    text
}

/// All numbers in a version: by these versions are compared, 6.12.9 before 6.12.117.
pub(super) fn numbers(version: &str) -> Vec<u64> {
    version.split(|character: char| !character.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A kernel with packages of these names.
    pub(in super::super) fn kernel(series: &str, version: &str, names: &[&str]) -> Kernel {
        let package = |name: &&str| Package {
            name: (*name).to_owned(),
            sha256: "0123456789abcdef".repeat(4),
            path: format!("pool/{name}_{version}.deb"),
        };
        let [series, version, suite] = [series, version, "bookworm"].map(str::to_owned);
        Kernel { series, version: version.clone(), suite, packages: names.iter().map(package).collect() }
    }

    #[test]
    fn what_is_written_is_read_again_in_order() {
        let kernels = [("7.3", vec!["image", "modules"]), ("6.12", vec!["image"]), ("6.1", vec!["image"])]
            .map(|(series, names)| kernel(series, &format!("{series}.9-1"), &names));
        let read = parse(&text(&kernels)).unwrap();
        assert_eq!(read, [kernels[2].clone(), kernels[1].clone(), kernels[0].clone()]);
        assert_eq!(text(&read), text(&kernels));
    }

    #[test]
    fn the_lock_of_this_checkout_is_as_it_would_be_written() {
        assert_eq!(text(&read().unwrap()), fs::read_to_string(workspace::root().join(FILE)).unwrap());
    }

    #[test]
    fn the_documents_name_each_series() {
        for document in ["README.md", "docs/compatibility.md"] {
            let text = fs::read_to_string(workspace::root().join(document)).unwrap();
            let words = text.split(|character: char| !(character.is_ascii_digit() || character == '.'));
            let words: Vec<_> = words.map(|word| word.trim_end_matches('.')).collect();
            for kernel in read().unwrap() {
                assert!(words.contains(&&kernel.series[..]), "{document}: {}", kernel.series);
            }
        }
    }

    #[test]
    fn a_line_that_is_no_kernel_and_no_package_is_refused() {
        let hash = "0123456789abcdef".repeat(4);
        for lines in ["6.1 6.1.9-1", &format!("  image {hash} pool/a"), "6.1 6.1.9-1 bookworm\n  image 0123 pool/a"] {
            let error = parse(lines).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{FILE}, line {}, ", lines.lines().count())), "{error}");
        }
    }
}
