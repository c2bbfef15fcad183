//! Kernels for the lab: stock Debian kernels kept under `target/lab/kernels`, or a folder of the user's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};

mod debian;
mod modules;
mod order;
mod signature;

pub(crate) use debian::update;
pub(super) use modules::Module;
use modules::ModuleFolder;

/// Which kernel the emulated host runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KernelChoice {
    /// The pinned Debian kernel of a series such as 6.12.
    Series(String),
    /// A folder with a kernel and its modules.
    Folder(PathBuf),
}

impl FromStr for KernelChoice {
    type Err = String;

    /// Two numbers with a dot are a series, all else is a folder; `./6.12` is a folder of that name.
    fn from_str(text: &str) -> Result<Self, String> {
        if is_series(text) {
            return Ok(Self::Series(text.to_owned()));
        }
        if Path::new(text).is_dir() {
            return Ok(Self::Folder(PathBuf::from(text)));
        }
        Err("neither a kernel series such as 6.12 nor a folder that exists".to_owned())
    }
}

/// Whether this is the likes of 6.12.
fn is_series(text: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('.').is_some_and(|(major, minor)| is_number(major) && is_number(minor))
}

/// A kernel that is there.
#[derive(Debug)]
pub(super) struct Kernel {
    name: String,
    image: PathBuf,
    modules: PathBuf,
}

impl Kernel {
    /// The chosen kernel, downloaded if it has not been before.
    pub(super) fn find(choice: &KernelChoice) -> Result<Self> {
        match choice {
            KernelChoice::Series(series) => {
                let folder = debian::cached(series)?;
                Self::in_folder(series, &folder)
            }
            KernelChoice::Folder(folder) => Self::in_folder("own", folder),
        }
    }

    /// A kernel image in this folder, or where an unpacked package or a build tree has it.
    fn in_folder(name: &str, folder: &Path) -> Result<Self> {
        match image_below(folder)? {
            Some(image) => Ok(Self { name: name.to_owned(), image, modules: folder.to_owned() }),
            None => bail!("no vmlinuz* or bzImage in {}, its boot, its arch/x86/boot or its usr/lib/modules/*", folder.display()),
        }
    }

    /// A short name for files.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The image to boot.
    pub(super) fn image(&self) -> &Path {
        &self.image
    }

    /// Where it lies.
    #[cfg(test)]
    pub(super) fn folder(&self) -> &Path {
        &self.modules
    }

    /// The module and all it depends on, in the order of loading. Empty if the kernel has no such module: then KVM is
    /// built in, or the command in the lab will find that there is none.
    pub(super) fn modules(&self, module: &str) -> Result<Vec<Module>> {
        ModuleFolder::below(&self.modules)?.closure(&[module])
    }
}

/// The kernel image in a folder, or where an unpacked package or a build tree has it.
fn image_below(folder: &Path) -> Result<Option<PathBuf>> {
    let mut places = ["", "boot", "arch/x86/boot"].map(|place| folder.join(place)).to_vec();
    // Beside its modules: Debian's from 7.2 on, and those of other distributions.
    let releases = fs::read_dir(folder.join("usr/lib/modules")).into_iter().flatten().flatten();
    places.extend(releases.map(|release| release.path()));
    for place in places {
        match &images(&place)?[..] {
            [] => {}
            [image] => return Ok(Some(place.join(image))),
            several => bail!(
                "{} has more than one kernel ({}), name a folder with one kernel and its modules",
                place.display(),
                several.join(", ")
            ),
        }
    }
    Ok(None)
}

/// Names of the kernel images in a folder; none if there is no such folder.
fn images(folder: &Path) -> Result<Vec<String>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let (mut files, mut links) = (Vec::new(), Vec::new());
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_image = (name.starts_with("vmlinuz") || name == "bzImage") && !name.ends_with(".old");
        if is_image && entry.path().is_file() {
            if entry.file_type().is_ok_and(|kind| kind.is_symlink()) { &mut links } else { &mut files }.push(name);
        }
    }
    // `vmlinuz` is often a link to the real one beside it.
    let mut found = if files.is_empty() { links } else { files };
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_numbers_are_a_series_and_a_path_is_a_folder() {
        assert_eq!("6.12".parse(), Ok(KernelChoice::Series("6.12".to_owned())));
        assert_eq!("/".parse(), Ok(KernelChoice::Folder(PathBuf::from("/"))));
        for text in ["6", "6.", "6.x", "/no/such/folder"] {
            assert!(text.parse::<KernelChoice>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_kernel_of_a_build_tree_is_found() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("arch/x86/boot")).unwrap();
        fs::write(folder.path().join("arch/x86/boot/bzImage"), "").unwrap();
        let kernel = Kernel::in_folder("own", folder.path()).unwrap();
        assert!(kernel.image().ends_with("arch/x86/boot/bzImage"));
        assert!(kernel.modules("kvm_amd").unwrap().is_empty());
    }

    #[test]
    fn the_kernel_beside_its_modules_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("usr/lib/modules/7.3.4");
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("vmlinuz"), "").unwrap();
        assert_eq!(Kernel::in_folder("own", folder.path()).unwrap().image(), place.join("vmlinuz"));
    }

    #[test]
    fn a_folder_with_two_kernels_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["vmlinuz-1", "vmlinuz-2"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let error = Kernel::in_folder("own", folder.path()).unwrap_err().to_string();
        assert!(error.contains("vmlinuz-1, vmlinuz-2"), "{error}");
    }
}
