//! The running kernel's BTF: that of vmlinux, and that of the module kvm.

use std::{fs, io, path::Path};

use btf_rs::{Btf, BtfType, Member, Struct, Type};

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
        let vmlinux = parse(&folder.join("vmlinux"), Btf::from_bytes);
        let module = kvm_is_module.then(|| {
            let file = folder.join("kvm");
            let vmlinux = vmlinux.as_ref().map_err(Clone::clone)?;
            parse(&file, |bytes| Btf::from_split_bytes(bytes, vmlinux))
        });
        Self { vmlinux, module }
    }

    /// Gives its memory back, tens of megabytes: once the programs are attached it is not needed any more.
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
            return parse(&folder.join("vmlinux"), Btf::from_bytes);
        }
        let vmlinux = self.vmlinux()?;
        parse(&folder.join(vendor.module()), |bytes| Btf::from_split_bytes(bytes, vmlinux))
    }

    /// Whether [`Self::kvm`] is the BTF of a module.
    pub fn kvm_is_module(&self) -> bool {
        self.module.is_some()
    }
}

/// Reads a whole file first: btf-rs would seek in it for every type, and in sysfs every seek is a system call.
fn parse(file: &Path, parse: impl FnOnce(&[u8]) -> btf_rs::error::Result<Btf>) -> Result<Btf, String> {
    let bytes = fs::read(file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("there is no {}", file.display()),
        _ => format!("{} cannot be read ({error})", file.display()),
    })?;
    parse(&bytes).map_err(|error| format!("{} holds no BTF ({error})", file.display()))
}

/// The id of a function's type; none when BTF does not know the function.
pub fn function_id(btf: &Btf, name: &str) -> Option<u32> {
    let ids = btf.resolve_ids_by_name(name).ok()?;
    ids.into_iter().find(|id| matches!(btf.resolve_type_by_id(*id), Ok(Type::Func(_))))
}

/// The first structure of one of these names.
pub fn structure(btf: &Btf, names: &[&str]) -> Option<Struct> {
    let types = names.iter().filter_map(|name| btf.resolve_types_by_name(name).ok()).flatten();
    types.into_iter().find_map(|found| if let Type::Struct(structure) = found { Some(structure) } else { None })
}

/// Offset in bytes of the member `name`, and the member.
pub fn field<'a>(btf: &Btf, structure: &'a Struct, name: &str) -> Option<(usize, &'a Member)> {
    let has_name = |member: &&Member| btf.resolve_name(*member as &dyn BtfType).is_ok_and(|found| found == name);
    let member = structure.members.iter().find(has_name)?;
    Some((member.bit_offset() as usize / 8, member))
}
