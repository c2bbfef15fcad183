//! fentry programs, also on functions inside modules.
//!
//! aya 0.14 looks for functions in vmlinux alone (aya-rs/aya#301), and distributions ship KVM as modules. So the programs
//! are parsed and relocated by aya-obj, bound to the maps that aya has made, and loaded here.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

use aya::{Ebpf, maps::Map};
use aya_obj::Object;

use super::{
    object::{self, OBJECT},
    sys::{self, At, TracingProgram},
};
use crate::{kernel::btf::KernelBtf, obstacle::Obstacle};

/// A function of the kernel that BTF knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In KVM: a module, or part of vmlinux.
    Kvm,
    /// In vmlinux.
    Vmlinux,
}

/// The object's programs, relocated to the maps of one [`Ebpf`].
pub(super) struct Programs(Object);

/// An attached program; detached when this is dropped.
pub(super) struct Attached {
    pub(super) program: OwnedFd,
    _link: OwnedFd,
}

impl Programs {
    /// Relocates the programs to the maps of `bpf`, which must not have given any of them away.
    pub(super) fn relocate(bpf: &Ebpf) -> Result<Self, Obstacle> {
        let mut object = Object::parse(OBJECT).map_err(|error| object::refused("the embedded object", &error))?;
        let definitions = object.maps.clone();
        let maps: Vec<(&str, RawFd)> = bpf.maps().filter_map(|(name, map)| Some((name, descriptor(map)?.as_raw_fd()))).collect();
        let maps = maps.iter().filter_map(|(name, descriptor)| Some((*name, *descriptor, definitions.get(*name)?)));
        let sections = object.functions.keys().map(|(section, _)| *section).collect();
        object.relocate_maps(maps, &sections).map_err(|error| object::refused("the maps of the object", &error))?;
        object.relocate_calls(&sections).map_err(|error| object::refused("the calls of the object", &error))?;
        Ok(Self(object))
    }

    /// Attaches `program` to the entry or the return of `function`.
    pub(super) fn attach(
        &self,
        program: &str,
        at: At,
        (place, function): (Place, &str),
        btf: &KernelBtf,
    ) -> Result<Attached, Obstacle> {
        let no_btf = |why: String| {
            let cure = "fentry needs a kernel from 5.11 with CONFIG_DEBUG_INFO_BTF and CONFIG_DEBUG_INFO_BTF_MODULES";
            Obstacle::new(why, cure)
        };
        let types = match place {
            Place::Kvm => btf.kvm(),
            Place::Vmlinux => btf.vmlinux(),
        };
        let types = types.map_err(no_btf)?;
        let id = types.function_id(function).ok_or_else(|| no_btf(format!("BTF has no function {function}")))?;
        let module = if place == Place::Kvm && btf.kvm_is_module() {
            Some(sys::module_btf("kvm").map_err(|error| object::refused("the BTF of the module kvm", &error))?)
        } else {
            None
        };
        let code = self.0.programs.get(program).ok_or_else(|| object::missing(program))?;
        let instructions = &self.0.functions.get(&code.function_key()).ok_or_else(|| object::missing(program))?.instructions;
        let request = TracingProgram {
            name: program,
            instructions,
            license: &code.license,
            at,
            function: id,
            module: module.as_ref().map(OwnedFd::as_fd),
        };
        let program = sys::load_tracing(&request)
            .map_err(|(error, words)| object::refused_with(&format!("a program for a function's {at}"), &error, &words))?;
        let hook = |error| object::refused(&format!("to hook a function's {at}"), &error);
        let link = sys::attach(program.as_fd()).map_err(hook)?;
        Ok(Attached { program, _link: link })
    }
}

/// The descriptor of the kinds of maps that our object has.
fn descriptor(map: &Map) -> Option<BorrowedFd<'_>> {
    match map {
        Map::Array(data) | Map::PerCpuArray(data) | Map::RingBuf(data) | Map::HashMap(data) | Map::Queue(data) => {
            Some(data.fd().as_fd())
        }
        _ => None,
    }
}
