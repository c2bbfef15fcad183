//! What a measurement has to know about the kernel.

use shared_msr_common::accounting::SetForm;

use super::peek::Peek;
use crate::{
    kernel::{
        btf::KernelBtf,
        host::{Host, Vendor},
        layout::KnownLayout,
        msr,
        structure::Structure,
        symbols::{StructureSymbol, Symbol},
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
    /// By what they were found.
    pub(super) symbol: StructureSymbol,
    /// Where vmlinux keeps the offset of each CPU's memory.
    pub(super) offsets: u64,
    /// Reads kernel memory.
    pub(super) peek: Peek,
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
    /// Whether the structures are elsewhere by now, or cannot be found any more. They are, up to 6.18, when the vendor module was
    /// loaded anew; they cannot while it is away.
    pub fn have_moved(&self, host: &Host) -> bool {
        self.addresses_now(host).as_ref() != Ok(&self.structures)
    }

    /// Where the structures are now, in the order of `host.possible_cpus`.
    pub fn addresses_now(&self, host: &Host) -> Result<Vec<u64>, Obstacle> {
        let offsets = tables::per_cpu_offsets(&self.peek, self.offsets, &host.possible_cpus)?;
        tables::structure_addresses(&self.peek, self.symbol, &offsets)
    }

    /// The structure at `address`.
    pub fn read_structure(&self, address: u64) -> Result<Structure, Obstacle> {
        tables::read_structure(&self.peek, address, self.layout.layout)
    }
}
