//! Kernel modules in a folder, compressed or not.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{order, signature};

/// A module ready to be loaded.
#[derive(Debug)]
pub(in crate::lab) struct Module {
    /// The kernel's name of it, `kvm_amd`.
    pub(in crate::lab) name: String,
    /// Its content, not compressed.
    pub(in crate::lab) content: Vec<u8>,
}

impl Module {
    /// Takes off the signature, for hosts that are too slow to check it. Only a kernel that insists on signatures minds.
    pub(in crate::lab) fn drop_signature(&mut self) {
        self.content.truncate(signature::without(&self.content).len());
    }
}

/// The modules anywhere below a folder.
#[derive(Debug)]
pub(super) struct ModuleFolder {
    paths: BTreeMap<String, Vec<PathBuf>>,
}

impl ModuleFolder {
    /// Looks for modules below a folder, without following links to folders.
    pub(super) fn below(folder: &Path) -> Result<Self> {
        let mut paths = BTreeMap::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
            for entry in entries {
                let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if let Some(name) = entry.file_name().to_str().and_then(module_name).filter(|_| entry.path().is_file()) {
                    paths.entry(name).or_insert_with(Vec::new).push(fs::canonicalize(entry.path())?);
                }
            }
        }
        Ok(Self { paths })
    }

    /// The file of a module, if there is one. Which of several would match the kernel, their names do not tell.
    fn only(&self, name: &str) -> Result<Option<&Path>> {
        let Some(paths) = self.paths.get(name) else { return Ok(None) };
        match paths.iter().find(|path| **path != paths[0]) {
            None => Ok(Some(&paths[0])),
            Some(other) => bail!(
                "there are two modules {name}, {} and {}: name a folder with one kernel's modules",
                paths[0].display(),
                other.display()
            ),
        }
    }

    /// These modules and all they depend on, in the order of loading, but for those that are not here.
    pub(super) fn closure(&self, wanted: &[&str]) -> Result<Vec<Module>> {
        let mut contents = BTreeMap::new();
        let order = order::loading_order(wanted, &mut |name| {
            let Some(path) = self.only(name)? else { return Ok(None) };
            let content = read(path)?;
            let dependencies = order::dependencies(&content);
            contents.insert(name.to_owned(), content);
            Ok(Some(dependencies))
        })?;
        let modules = order.into_iter().filter_map(|name| {
            let content = contents.remove(&name)?;
            Some(Module { name, content })
        });
        Ok(modules.collect())
    }
}

/// The module's name if this is the name of a module's file.
fn module_name(file: &str) -> Option<String> {
    let (name, compression) = file.split_once(".ko")?;
    matches!(compression, "" | ".xz" | ".zst" | ".gz").then(|| order::canonical(name))
}

/// The content of a module's file, decompressed if its name says that it is compressed.
fn read(path: &Path) -> Result<Vec<u8>> {
    let packed = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let content = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => unpack_xz(&packed),
        Some("zst") => unpack_zstd(&packed),
        Some("gz") => unpack_gzip(&packed),
        _ => Ok(packed),
    };
    let content = content.with_context(|| format!("cannot decompress {}", path.display()))?;
    if !content.starts_with(b"\x7fELF") {
        bail!("{} is not a kernel module", path.display());
    }
    Ok(content)
}

fn unpack_xz(mut packed: &[u8]) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    lzma_rs::xz_decompress(&mut packed, &mut content)?;
    Ok(content)
}

fn unpack_zstd(packed: &[u8]) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    ruzstd::decoding::StreamingDecoder::new(packed)?.read_to_end(&mut content)?;
    Ok(content)
}

fn unpack_gzip(packed: &[u8]) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const MODULE: &[u8] = b"\x7fELF\0license=GPL\0depends=\0";

    #[test]
    fn only_modules_are_taken_for_modules() {
        for file in ["kvm-amd.ko", "kvm-amd.ko.xz", "kvm-amd.ko.zst", "kvm_amd.ko.gz"] {
            assert_eq!(module_name(file).as_deref(), Some("kvm_amd"), "{file}");
        }
        for file in ["kvm-amd.o", ".kvm-amd.ko.cmd", "kvm.ko.debug", "kvm"] {
            assert_eq!(module_name(file), None, "{file}");
        }
    }

    #[test]
    fn every_compression_gives_the_module_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut xz = Vec::new();
        lzma_rs::xz_compress(&mut &MODULE[..], &mut xz).unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(MODULE).unwrap();
        let zstd = ruzstd::encoding::compress_to_vec(MODULE, ruzstd::encoding::CompressionLevel::Fastest);
        let files = [("ko", MODULE.to_vec()), ("ko.xz", xz), ("ko.gz", gzip.finish().unwrap()), ("ko.zst", zstd)];
        for (extension, packed) in files {
            let path = folder.path().join(format!("kvm.{extension}"));
            fs::write(&path, packed).unwrap();
            assert_eq!(read(&path).unwrap(), MODULE, "{extension}");
        }
    }

    #[test]
    fn the_closure_follows_dependencies_through_folders() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("kernel/arch/x86/kvm");
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("kvm-amd.ko"), b"\x7fELF\0a=b\0depends=kvm\0").unwrap();
        fs::write(folder.path().join("kvm.ko"), MODULE).unwrap();
        fs::write(folder.path().join("other.ko"), MODULE).unwrap();
        let modules = ModuleFolder::below(folder.path()).unwrap().closure(&["kvm_amd"]).unwrap();
        let names: Vec<_> = modules.iter().map(|module| &module.name[..]).collect();
        assert_eq!(names, ["kvm", "kvm_amd"]);
    }

    #[test]
    fn a_file_that_is_no_module_is_named_in_the_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("kvm.ko"), "<html>").unwrap();
        let error = ModuleFolder::below(folder.path()).unwrap().closure(&["kvm"]).unwrap_err().to_string();
        assert!(error.contains("kvm.ko is not a kernel module"), "{error}");
    }
}
