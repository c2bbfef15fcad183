//! Which rows are wanted. Filters never change what is counted: what they keep out is summed in a line of its own.

use shared_msr_common::owner::NOBODY;

use crate::{
    kernel::tables::Slot,
    ledger::{
        Ledger,
        facts::Fact,
        rows::{VcpuRow, VmRow},
    },
    sample::{owners::Vm, vcpus::VcpuId},
};

/// What is wanted; an empty list takes everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// VMs, by process or name.
    pub vms: Vec<String>,
    /// vCPUs, by KVM's number.
    pub vcpus: Vec<u32>,
    /// CPUs.
    pub cpus: Vec<u32>,
    /// MSRs, by name or number.
    pub msrs: Vec<MsrWish>,
}

/// One MSR that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MsrWish {
    /// By its name, in capital or small letters.
    Name(String),
    /// By its number.
    Index(u32),
}

impl MsrWish {
    fn takes(&self, slot: &Slot) -> bool {
        match self {
            Self::Name(name) => slot.name.eq_ignore_ascii_case(name),
            Self::Index(index) => slot.index == *index,
        }
    }
}

impl Filter {
    /// Whether everything is wanted.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a VM is wanted. The number of a process is its number, never a name.
    pub fn takes_process(&self, process: u32, vm: Option<&Vm>) -> bool {
        let name = vm.and_then(|vm| vm.name.as_deref());
        let wanted = |wish: &String| wish.parse() == Ok(process) || name == Some(wish.as_str());
        self.vms.is_empty() || self.vms.iter().any(wanted)
    }

    /// Whether a VM's row is wanted.
    pub fn takes_vm(&self, row: &VmRow) -> bool {
        self.takes_process(row.vm.process, Some(&Vm { name: row.name.clone(), command: None }))
    }

    /// Whether a vCPU's number is wanted; one that is not known never is, if any is asked for.
    pub fn takes_id(&self, id: VcpuId) -> bool {
        let wanted = |id| self.vcpus.iter().any(|wish| u64::from(*wish) == id);
        self.vcpus.is_empty() || id.number().is_some_and(wanted)
    }

    /// Whether a vCPU's row is wanted.
    pub fn takes_vcpu(&self, row: &VcpuRow, ledger: &Ledger) -> bool {
        self.takes_id(row.vcpu) && self.takes_process(row.vm.process, ledger.owners.vms.get(&row.vm.process))
    }

    /// Whether a CPU is wanted.
    pub fn takes_cpu(&self, cpu: u32) -> bool {
        self.cpus.is_empty() || self.cpus.contains(&cpu)
    }

    /// Whether an MSR is wanted.
    pub fn takes_msr(&self, slot: &Slot) -> bool {
        self.msrs.is_empty() || self.msrs.iter().any(|wish| wish.takes(slot))
    }

    /// Whether a fact is wanted. What has no MSR is of all of them.
    pub fn takes(&self, fact: &Fact, ledger: &Ledger) -> bool {
        let owner = fact.owner;
        let vcpu = ledger.owners.vcpus.get(&owner);
        let (id, process) = vcpu.map_or((VcpuId::Unknown, 0), |vcpu| (vcpu.id, vcpu.vm.process));
        let nobodys = owner == NOBODY && !(self.vms.is_empty() && self.vcpus.is_empty());
        !nobodys
            && self.takes_id(id)
            && self.takes_process(process, ledger.owners.vms.get(&process))
            && fact.cpu.is_none_or(|cpu| self.takes_cpu(cpu))
            && fact.msr.is_none_or(|msr| ledger.msrs.get(msr).is_none_or(|row| self.takes_msr(&row.slot)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> Slot {
        Slot { slot: 0, index: 0xc000_0103, name: "TSC_AUX".to_owned() }
    }

    #[test]
    fn an_msr_is_found_by_its_name_and_its_number() {
        let by = |wish| Filter { msrs: vec![wish], ..Filter::default() };
        assert!(by(MsrWish::Name("tsc_aux".to_owned())).takes_msr(&slot()));
        assert!(by(MsrWish::Index(0xc000_0103)).takes_msr(&slot()));
        assert!(!by(MsrWish::Name("STAR".to_owned())).takes_msr(&slot()));
        assert!(Filter::default().takes_msr(&slot()));
    }

    #[test]
    fn a_vm_is_found_by_its_process_and_its_name() {
        let vm = Vm { name: Some("web1".to_owned()), command: None };
        let by = |wish: &str| Filter { vms: vec![wish.to_owned()], ..Filter::default() };
        assert!(by("web1").takes_process(77, Some(&vm)) && by("77").takes_process(77, None));
        assert!(!by("web").takes_process(77, Some(&vm)) && !by("7").takes_process(77, Some(&vm)));
    }
}
