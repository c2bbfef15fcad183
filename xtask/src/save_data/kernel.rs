//! What a kernel says of itself: `shared-msr-cli/tests/data/kernels`.

use std::collections::BTreeMap;
use std::io::{self, Read as _};

use anyhow::{Context, Result, bail};
use flate2::read::GzDecoder;

use super::btf::{self, Btf, Kept, Kind};
use super::{Files, elf, run};
use crate::lab::{self, KernelChoice, LabOptions};

const SCRIPT: &str = include_str!("kernel.sh");

/// Which files are kept of a kernel: as many as tests read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Saved {
    pub(super) series: &'static str,
    /// The names that its tracepoints have for numbers.
    names: bool,
    /// Its type information.
    btf: bool,
}

/// From the first that the lab has to the last, and those in which something is new.
pub(super) const SAVED: [Saved; 7] = [
    Saved { series: "5.10", names: true, btf: false },
    Saved { series: "6.1", names: true, btf: true },
    Saved { series: "6.12", names: true, btf: false },
    Saved { series: "6.16", names: false, btf: false },
    Saved { series: "6.18", names: true, btf: true },
    Saved { series: "7.2", names: false, btf: false },
    Saved { series: "7.3", names: true, btf: true },
];

/// Types that shared-msr looks up in vmlinux, in the module kvm, and in the vendors' modules.
const VMLINUX: [(Kind, &str); 2] = [(Kind::Function, "user_return_notifier_unregister"), (Kind::Typedef, "btf_trace_write_msr")];
const KVM: [(Kind, &str); 4] = [
    (Kind::Struct, "kvm_user_return_msrs"),
    (Kind::Function, "kvm_on_user_return"),
    (Kind::Function, "kvm_set_user_return_msr"),
    (Kind::Typedef, "btf_trace_kvm_exit"),
];
const VENDORS: [(&str, &str); 2] = [("kvm_amd", "vcpu_svm"), ("kvm_intel", "vcpu_vmx")];

/// Of structures that are large, the members on the way to what is read.
const KEPT: Kept<'_> = &[
    ("kvm_vcpu", &["kvm", "vcpu_id", "arch"]),
    ("kvm_vcpu_arch", &["last_vmentry_cpu"]),
    ("kvm", &[]),
    ("vcpu_svm", &["vcpu", "vmcb"]),
    ("vmcb", &["control"]),
    ("vmcb_control_area", &["exit_code"]),
    ("vcpu_vmx", &["vcpu", "exit_reason", "vt"]),
    ("vcpu_vt", &["exit_reason"]),
];

/// Boots the kernel and returns its files.
pub(super) fn save(saved: Saved) -> Result<Files> {
    let mut wanted = vec!["release", "kallsyms", "kvm_exit.format"];
    if saved.names {
        wanted.extend(["kvm_exit.print_fmt", "kvm_userspace_exit.print_fmt"]);
    }
    if saved.btf {
        wanted.extend(["vmlinux.btf", "kvm.btf"]);
    }
    let kernel = KernelChoice::Series(saved.series.to_owned());
    let command = ["sh", "-c", SCRIPT, "kernel.sh"].into_iter().chain(wanted.iter().copied());
    // Addresses that are the same in every boot.
    let options = LabOptions { kernel: kernel.clone(), kernel_arguments: "nokaslr".to_owned(), ..LabOptions::new(command) };
    let mut files = unpack(&run(&options)?)?;
    if let Some(missing) = wanted.iter().find(|name| files.get(**name).is_none_or(Vec::is_empty)) {
        bail!("the kernel said nothing for {missing}");
    }
    if saved.btf {
        reduce(&mut files, &kernel)?;
    }
    let named = |(name, content)| (format!("kernels/{}/{name}", saved.series), content);
    Ok(files.into_iter().map(named).collect())
}

/// Puts reduced type information in place of the whole, and that of the vendors' modules beside it.
fn reduce(files: &mut Files, kernel: &KernelChoice) -> Result<()> {
    let whole = |name: &str| files.get(name).with_context(|| format!("there is no {name}"));
    let vmlinux = Btf::parse(whole("vmlinux.btf")?, None)?;
    let kvm = Btf::parse(whole("kvm.btf")?, Some(&vmlinux))?;
    let mut reduced = Files::from([
        ("vmlinux.btf".to_owned(), btf::reduce(&vmlinux, &VMLINUX, KEPT)?),
        ("kvm.btf".to_owned(), btf::reduce(&kvm, &KVM, KEPT)?),
    ]);
    for (module, structure) in VENDORS {
        // From its file: the host has only one of the two loaded.
        let content = lab::module(kernel, module)?;
        let vendor = Btf::parse(elf::section(&content, ".BTF")?, Some(&vmlinux))?;
        reduced.insert(format!("{module}.btf"), btf::reduce(&vendor, &[(Kind::Struct, structure)], KEPT)?);
    }
    files.extend(reduced);
    Ok(())
}

/// The files of a compressed archive.
fn unpack(archive: &[u8]) -> Result<Files> {
    let mut unpacked = Vec::new();
    GzDecoder::new(archive).read_to_end(&mut unpacked).context("the archive of the lab is broken")?;
    let mut rest = &unpacked[..];
    let mut files = BTreeMap::new();
    loop {
        let mut reader = cpio::newc::Reader::new(rest).context("the archive of the lab is broken")?;
        if reader.entry().is_trailer() {
            return Ok(files);
        }
        let name = reader.entry().name().to_owned();
        let mut content = Vec::new();
        io::copy(&mut reader, &mut content)?;
        files.insert(name, content);
        rest = reader.finish()?;
    }
}
