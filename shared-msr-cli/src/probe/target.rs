//! What a measurement has to know about the kernel.

use shared_msr_common::accounting::SetForm;

use super::reader::Reader;
use crate::{
    kernel::{
        btf::KernelBtf,
        host::{Host, Vendor},
        layout::KnownLayout,
        msr,
        structure::Structure,
        symbols::{ListSymbols, StructureSymbol, Symbol},
        tables::{self, Slot},
    },
    obstacle::Obstacle,
};

/// What is known about the kernel.
pub struct Target {
    /// The machine.
    pub host: Host,
    /// Which part of KVM runs guests.
    pub vendor: Vendor,
    /// The setter's name.
    pub setter: Result<&'static str, Obstacle>,
    /// `kvm_on_user_return`.
    pub closer: Result<Symbol, Obstacle>,
    /// Name of the function by which KVM gives a CPU up.
    pub dropper: Result<&'static str, Obstacle>,
    /// Whether programs on the arguments of tracepoints can be preempted.
    pub tracepoints_are_preemptible: bool,
    /// The kernel's tables, or why they cannot be read.
    pub tables: Result<Tables, Obstacle>,
    /// The kernel's BTF.
    pub btf: KernelBtf,
}

/// KVM's list of MSRs and its per-CPU structures.
pub struct Tables {
    /// KVM's list; empty where this vendor's module does not use the mechanism.
    pub list: Vec<Slot>,
    /// How the setter treats masked bits.
    pub form: SetForm,
    /// Layout of the per-CPU structures.
    pub layout: KnownLayout,
    /// Where the structures are, in the order of `host.possible_cpus`.
    pub structures: Vec<u64>,
    /// The same without a CPU's offset.
    pub(super) base: u64,
    /// What each CPU adds to it.
    pub(super) per_cpu_offsets: Vec<u64>,
    /// By what they were found.
    pub(super) symbol: StructureSymbol,
    /// Where the list is.
    pub(super) list_symbols: ListSymbols,
    /// Where each CPU keeps the vCPU that is loaded on it; none where that is not known.
    pub(super) running_vcpu: Option<u64>,
    /// Reads kernel memory.
    pub reader: Reader,
}

impl Target {
    /// The kernel's tables, or why they cannot be read.
    pub fn tables(&self) -> Result<&Tables, Obstacle> {
        self.tables.as_ref().map_err(Clone::clone)
    }

    /// KVM's list; where it cannot be read, all MSRs that any KVM lists, in no particular order.
    pub fn msrs(&self) -> Vec<Slot> {
        match &self.tables {
            Ok(tables) => tables.list.clone(),
            Err(_) => {
                let slot = |(slot, index)| Slot { slot, index, name: msr::name(index) };
                msr::known().enumerate().map(slot).collect()
            }
        }
    }
}

impl Tables {
    /// Whether KVM's list is the one that was found at the start. A vendor module that is loaded anew makes it anew.
    pub fn list_stands(&self) -> bool {
        tables::read_list(&self.reader, self.list_symbols).as_ref() == Ok(&self.list)
    }

    /// Address of the pointer to the structures; 0 where they are static.
    pub(super) const fn pointer(&self) -> u64 {
        match self.symbol {
            StructureSymbol::Pointer(address) => address,
            StructureSymbol::Static(_) => 0,
        }
    }

    /// The structure at `address`.
    pub fn read_structure(&self, address: u64) -> Result<Structure, Obstacle> {
        tables::read_structure(&self.reader, address, self.layout.layout)
    }
}
