//! The running kernel's BTF: that of vmlinux, and that of the module kvm.

use std::{fs, io, path::Path};

#[cfg(test)]
mod tests;
mod types;

pub use types::{Btf, Field, Type};

use super::host::Vendor;

/// Where the kernel shows its BTF.
const FOLDER: &str = "/sys/kernel/btf";

/// BTF, or why there is none.
pub struct KernelBtf {
    vmlinux: Result<Btf, String>,
    /// None where KVM is part of vmlinux.
    module: Option<Result<Btf, String>>,
}

impl KernelBtf {
    /// Reads what the kernel shows.
    pub fn read(kvm_is_module: bool) -> Self {
        Self::in_folder(Path::new(FOLDER), kvm_is_module)
    }

    fn in_folder(folder: &Path, kvm_is_module: bool) -> Self {
        let vmlinux = read(&folder.join("vmlinux"), Btf::parse);
        let module = kvm_is_module.then(|| {
            let file = folder.join("kvm");
            let vmlinux = vmlinux.as_ref().map_err(Clone::clone)?;
            read(&file, |bytes| Btf::split(bytes, vmlinux))
        });
        Self { vmlinux, module }
    }

    /// Gives its memory back, some megabytes: once the programs are attached it is not needed any more.
    pub fn forget(&mut self) {
        const GONE: &str = "it is no longer kept";
        self.vmlinux = Err(GONE.to_owned());
        self.module = self.module.is_some().then(|| Err(GONE.to_owned()));
    }

    /// BTF of vmlinux.
    pub fn vmlinux(&self) -> Result<&Btf, String> {
        self.vmlinux.as_ref().map_err(Clone::clone)
    }

    /// BTF of KVM: the module's, or vmlinux's where KVM is part of it.
    pub fn kvm(&self) -> Result<&Btf, String> {
        self.module.as_ref().unwrap_or(&self.vmlinux).as_ref().map_err(Clone::clone)
    }

    /// BTF of the vendor's module, read anew: it is not needed often.
    pub fn vendor(&self, vendor: Vendor) -> Result<Btf, String> {
        let folder = Path::new(FOLDER);
        if self.module.is_none() {
            return read(&folder.join("vmlinux"), Btf::parse);
        }
        let vmlinux = self.vmlinux()?;
        read(&folder.join(vendor.module()), |bytes| Btf::split(bytes, vmlinux))
    }

    /// Whether [`Self::kvm`] is the BTF of a module.
    pub fn kvm_is_module(&self) -> bool {
        self.module.is_some()
    }
}

/// Reads a file.
fn read(file: &Path, parse: impl FnOnce(Vec<u8>) -> Result<Btf, String>) -> Result<Btf, String> {
    let bytes = fs::read(file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("there is no {}", file.display()),
        _ => format!("{} cannot be read ({error})", file.display()),
    })?;
    parse(bytes).map_err(|why| format!("{} holds no BTF ({why})", file.display()))
}
