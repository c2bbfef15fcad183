//! Who the owners are: vCPUs of VMs, with the threads that run them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use shared_msr_common::{
    Owner, Task, Thread, VcpuKey,
    owner::{COMMAND_BYTES, SEVERAL_IDS, UNKNOWN_ID},
};

use super::owners::tgid;
use crate::kernel::vmm;

/// A VM: its process, and which of its VMs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub struct VmId {
    /// The process that made it (tgid).
    pub process: u32,
    /// 1 for the first of its VMs that was seen, and so on; none where it is not known which it is.
    pub number: Option<u32>,
}

/// KVM's number of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub enum VcpuId {
    /// `vcpu->vcpu_id`.
    Number(u64),
    /// It stands for several vCPUs, which the hooks in use cannot tell apart.
    Several,
    /// It cannot be read here, or it is not known which vCPU it is.
    Unknown,
}

impl VcpuId {
    fn of(id: u64) -> Self {
        match id {
            UNKNOWN_ID => Self::Unknown,
            SEVERAL_IDS => Self::Several,
            number => Self::Number(number),
        }
    }

    /// For people.
    pub fn label(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Several => "several".to_owned(),
            Self::Unknown => "?".to_owned(),
        }
    }

    /// For programs: a number, "several", or null.
    pub fn value(self) -> serde_json::Value {
        match self {
            Self::Number(number) => number.into(),
            Self::Several => self.label().into(),
            Self::Unknown => serde_json::Value::Null,
        }
    }

    /// The number, if it is one.
    pub const fn number(self) -> Option<u64> {
        if let Self::Number(number) = self { Some(number) } else { None }
    }
}

/// One vCPU of one VM, as one thread runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vcpu {
    /// The thread.
    pub task: Task,
    /// Its VM.
    pub vm: VmId,
    /// KVM's number of it.
    pub id: VcpuId,
    /// Whether the thread has ended, or is another program by now.
    pub ended: bool,
    /// The thread's name when it was first seen.
    pub command: [u8; COMMAND_BYTES],
}

impl Vcpu {
    /// The thread's name.
    pub fn command(&self) -> String {
        command(&self.command)
    }
}

/// A thread's name as the kernel keeps it.
pub fn command(bytes: &[u8; COMMAND_BYTES]) -> String {
    let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    vmm::printable(&String::from_utf8_lossy(name)).unwrap_or_default()
}

/// All owners that were ever seen.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    seen: BTreeMap<Owner, Seen>,
    /// VMs by their process and the address of their structure; where KVM put one after another there, in that order.
    vms: BTreeMap<(u32, u64), Vec<Machine>>,
}

/// One VM.
#[derive(Clone, Debug, Default)]
struct Machine {
    number: u32,
    /// Addresses of its vCPUs, when each was made, and its number.
    vcpus: Vec<(u64, u64, u64)>,
}

impl Machine {
    fn has(&self, key: &VcpuKey) -> bool {
        self.vcpus.iter().any(|(vcpu, made, _)| (*vcpu, *made) == (key.vcpu, key.made))
    }

    /// Whether a vCPU can be of this VM: none of its own has the same place or number.
    fn takes(&self, key: &VcpuKey) -> bool {
        self.vcpus.iter().all(|(vcpu, _, id)| *vcpu != key.vcpu && (*id != key.id || key.id == UNKNOWN_ID))
    }
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    key: VcpuKey,
    id: u64,
    ended: bool,
    command: [u8; COMMAND_BYTES],
}

/// Who each owner is.
#[derive(Clone, Debug, Default)]
pub struct Identities {
    /// Each owner that has rows of its own.
    pub vcpus: BTreeMap<Owner, Vcpu>,
    /// Owners whose rows are another one's: it was not known which vCPU the thread ran, and the thread ran only one.
    pub same: BTreeMap<Owner, Owner>,
}

impl Registry {
    /// Keeps what the programs found out.
    pub fn learn(&mut self, vcpus: &BTreeMap<VcpuKey, shared_msr_common::Vcpu>, threads: &BTreeMap<Task, Thread>) {
        // In the order in which they were met, as far as one CPU met them.
        let mut met: Vec<_> = vcpus.iter().map(|(key, vcpu)| (vcpu.owner, *key, vcpu.id)).collect();
        met.sort_unstable_by_key(|(owner, key, _)| (key.made, *owner));
        for (owner, key, id) in met {
            let thread = threads.get(&key.task).filter(|thread| thread.incarnation == key.incarnation);
            let ended = thread.is_none_or(|thread| thread.ended != 0);
            let command = thread.map(|thread| thread.command);
            let seen = self.seen.entry(owner).or_insert(Seen { key, id, ended, command: command.unwrap_or_default() });
            (seen.id, seen.ended) = (id, ended);
            if key.kvm != 0 {
                self.place(&key);
            }
        }
    }

    /// Finds the VM of a vCPU, or notes a new one.
    fn place(&mut self, key: &VcpuKey) {
        let process = tgid(key.task);
        let known = self.vms.get(&(process, key.kvm)).is_some_and(|here| here.iter().any(|machine| machine.has(key)));
        if known {
            return;
        }
        let number = self.machines(process).count() as u32 + 1;
        let vcpu = (key.vcpu, key.made, key.id);
        let here = self.vms.entry((process, key.kvm)).or_default();
        match here.last_mut().filter(|machine| machine.takes(key)) {
            Some(machine) => machine.vcpus.push(vcpu),
            None => here.push(Machine { number, vcpus: vec![vcpu] }),
        }
    }

    fn machines(&self, process: u32) -> impl Iterator<Item = &Machine> {
        self.vms.range((process, 0)..=(process, u64::MAX)).flat_map(|(_, machines)| machines)
    }

    /// The process of each thread, and the thread's name.
    pub fn threads(&self) -> impl Iterator<Item = (u32, &[u8; COMMAND_BYTES])> {
        self.seen.values().map(|seen| (tgid(seen.key.task), &seen.command))
    }

    /// Who each owner is, as far as it is known by now.
    pub fn identities(&self) -> Identities {
        // The vCPUs that each thread is known to have run.
        let mut run: BTreeMap<(Task, u64), BTreeSet<Owner>> = BTreeMap::new();
        for (owner, seen) in self.seen.iter().filter(|(_, seen)| seen.key.vcpu != 0) {
            run.entry((seen.key.task, seen.key.incarnation)).or_default().insert(*owner);
        }
        let mut identities = Identities::default();
        for (owner, seen) in &self.seen {
            let all = run.get(&(seen.key.task, seen.key.incarnation)).map(|owners| (owners.len(), owners.first()));
            match all {
                Some((1, Some(only))) if seen.key.vcpu == 0 => drop(identities.same.insert(*owner, *only)),
                _ => drop(identities.vcpus.insert(*owner, self.vcpu(seen))),
            }
        }
        identities
    }

    fn vcpu(&self, seen: &Seen) -> Vcpu {
        let process = tgid(seen.key.task);
        let here = self.vms.get(&(process, seen.key.kvm)).into_iter().flatten();
        let number = here.filter(|machine| machine.has(&seen.key)).map(|machine| machine.number).next();
        let number = number.or_else(|| {
            // Of a process that has one VM it is that one.
            let mut all = self.machines(process).map(|machine| machine.number);
            all.next().filter(|_| all.next().is_none())
        });
        let vm = VmId { process, number };
        Vcpu { task: seen.key.task, vm, id: VcpuId::of(seen.id), ended: seen.ended, command: seen.command }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Task = 7 << 32 | 8;
    const SECOND: Task = 7 << 32 | 9;

    fn key(task: Task, vcpu: u64, kvm: u64, id: u64) -> VcpuKey {
        VcpuKey { task, incarnation: 0, vcpu, made: 0, kvm, id }
    }

    fn registry(rows: &[(Owner, VcpuKey)]) -> Registry {
        let vcpus = rows.iter().map(|(owner, key)| (*key, shared_msr_common::Vcpu { owner: *owner, id: key.id })).collect();
        let threads = [FIRST, SECOND].map(|task| (task, Thread::default())).into();
        let mut registry = Registry::default();
        registry.learn(&vcpus, &threads);
        registry
    }

    #[test]
    fn a_thread_that_runs_two_vms_is_two_owners_of_vms_1_and_2() {
        let registry = registry(&[(5, key(FIRST, 0x10, 0xb00, 0)), (6, key(FIRST, 0x20, 0xa00, 0))]);
        let vms: Vec<VmId> = registry.identities().vcpus.values().map(|vcpu| vcpu.vm).collect();
        assert_eq!(vms, [VmId { process: 7, number: Some(1) }, VmId { process: 7, number: Some(2) }]);
    }

    #[test]
    fn a_vm_that_is_made_where_another_one_was_is_another_one() {
        let at = |made, vcpu, id| VcpuKey { made, ..key(FIRST, vcpu, 0xa00, id) };
        let first = [(5, at(0, 0x10, 0)), (6, at(0, 0x20, 1))];
        let second = [(7, at(90, 0x20, 0)), (8, at(91, 0x10, 1))];
        let registry = registry(&[first[0], first[1], second[0], second[1]]);
        let numbers: Vec<_> = registry.identities().vcpus.values().map(|vcpu| vcpu.vm.number).collect();
        assert_eq!(numbers, [Some(1), Some(1), Some(2), Some(2)]);
    }

    #[test]
    fn what_a_thread_did_for_an_unknown_vcpu_is_that_of_the_only_one_it_ran() {
        let one = [(5, key(FIRST, 0, 0, UNKNOWN_ID)), (6, key(FIRST, 0x20, 0xa00, 3))];
        let identities = registry(&one).identities();
        assert_eq!((identities.same.get(&5), identities.vcpus.len()), (Some(&6), 1));
        let two = [one[0], one[1], (7, key(FIRST, 0x30, 0xa00, 4))];
        let identities = registry(&two).identities();
        assert_eq!((identities.same.len(), identities.vcpus[&5].id), (0, VcpuId::Unknown));
        assert_eq!(identities.vcpus[&5].vm.number, Some(1), "the only VM of its process");
    }

    #[test]
    fn a_thread_that_is_another_one_by_now_has_ended() {
        let mut registry = registry(&[(5, key(FIRST, 0x10, 0xb00, 0))]);
        assert!(!registry.identities().vcpus[&5].ended);
        let vcpus = [(key(FIRST, 0x10, 0xb00, 0), shared_msr_common::Vcpu { owner: 5, id: 0 })].into();
        registry.learn(&vcpus, &[(FIRST, Thread { incarnation: 1, ..Thread::default() })].into());
        assert!(registry.identities().vcpus[&5].ended);
    }
}
