//! Single events, one line each, so that a person can follow a window from the set that opens it to the close.

pub mod json;
pub mod text;

use std::collections::BTreeMap;

use shared_msr_common::{
    Owner,
    cause::CauseKey,
    event::{self, Event},
};

use crate::{
    kernel::{host::Vendor, tables::Slot},
    ledger::facts::{Cause, Payer},
    report::{filter::Filter, labels},
    sample::{
        names::Names,
        owners::{Vm, tgid},
        vcpus::{Identities, Vcpu, VcpuId, command},
    },
};

/// What has to be known to put an event into words.
#[derive(Clone, Debug)]
pub struct Words {
    /// Whose exit reasons they are.
    pub vendor: Vendor,
    /// KVM's list.
    pub slots: Vec<Slot>,
    /// When counting began, in nanoseconds of the monotonic clock.
    pub began: u64,
    /// Who the owners are.
    pub owners: Identities,
    /// Their processes.
    pub vms: BTreeMap<u32, Vm>,
    /// Names of processes.
    pub names: Names,
}

impl Words {
    /// Name of a slot's MSR.
    fn msr(&self, slot: u64) -> String {
        let slot_of = usize::try_from(slot).ok().and_then(|slot| self.slots.get(slot));
        slot_of.map_or_else(|| format!("slot {slot}"), |slot| slot.name.clone())
    }

    /// Who an event is of: whose values are in the hardware, or who makes the exit; none where there is nobody, or it is not known yet.
    pub fn whose(&self, event: &Event) -> Option<&Vcpu> {
        let owner: Owner = self.owners.same.get(&event.owner).copied().unwrap_or(event.owner);
        self.owners.vcpus.get(&owner)
    }

    /// The process that paid for a close; with its thread's name where its own was not looked up.
    fn payer(&self, event: &Event) -> Payer {
        let tgid = tgid(event.task);
        Payer { tgid, command: self.names.of(tgid).map_or_else(|| command(&event.command), str::to_owned) }
    }

    /// Names of the MSRs of a set of slots.
    fn dirty(&self, dirty: u64) -> Vec<String> {
        (0..self.slots.len() as u64).filter(|slot| dirty >> slot & 1 != 0).map(|slot| self.msr(slot)).collect()
    }

    /// Whether an event is wanted. What has no MSR is of all of them.
    pub fn wants(&self, event: &Event, filter: &Filter) -> bool {
        let vcpu = self.whose(event);
        let (process, id) = vcpu.map_or((0, VcpuId::Unknown), |vcpu| (vcpu.vm.process, vcpu.id));
        let has_slot = matches!(event.kind, event::SET_WRITTEN | event::SET_SKIPPED | event::SET_FAILED | event::RESTORE);
        let slot = usize::try_from(event.slot).ok().and_then(|slot| self.slots.get(slot));
        filter.takes_process(process, self.vms.get(&process))
            && filter.takes_id(id)
            && filter.takes_cpu(event.cpu)
            && (!has_slot || slot.is_none_or(|slot| filter.takes_msr(slot)))
    }
}

fn cause(event: &Event) -> Cause {
    let key = CauseKey { kind: event.cause, code: event.code, ..CauseKey::NONE };
    (key.kind, key.code)
}

/// Exit reason of an exit; none where it could not be read.
fn reason(event: &Event) -> Option<u32> {
    (event.slot == 1).then_some(event.code)
}

fn reason_text(event: &Event, words: &Words) -> String {
    labels::reason_cell(words.vendor, reason(event))
}

#[cfg(test)]
mod tests;
