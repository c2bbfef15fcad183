//! KVM's modules, taken out of the kernel and put in anew.

use std::{path::Path, process::Command};

use super::{Host, wait_until};

/// The module that KVM has for this host's vendor.
pub(crate) fn vendor_module() -> String {
    format!("kvm_{}", Host::this().vendor)
}

/// KVM is not loaded. It is again when the value is dropped.
pub(crate) struct WithoutKvm;

impl WithoutKvm {
    /// Takes the modules out, if they are there, which the kernel refuses as long as anything holds one of them.
    pub(crate) fn new() -> Self {
        let kvm = Self;
        let loaded = |module: &String| Path::new("/sys/module").join(module).exists();
        for module in [vendor_module(), "kvm".to_owned()].into_iter().filter(loaded) {
            // Whoever was killed just now may hold it for a moment yet.
            wait_until("nothing holds KVM's modules", || Command::new("rmmod").arg(&module).output().unwrap().status.success());
        }
        kvm
    }
}

impl Drop for WithoutKvm {
    fn drop(&mut self) {
        match Command::new("load-kvm").status() {
            Ok(status) if status.success() => {}
            other => eprintln!("cannot load KVM's modules: {other:?}"),
        }
    }
}
