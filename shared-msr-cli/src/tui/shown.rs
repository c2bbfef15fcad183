//! What is on the screen: a sample, with what is derived from it once instead of at each drawing.

use std::{collections::BTreeMap, sync::Arc};

use shared_msr_common::{Owner, Tally};

use super::{cost::Share, history::History, source::Sample};
use crate::{
    ledger::{Ledger, facts::Measures},
    report::labels,
    sample::{
        owners::tid,
        vcpus::{Vcpu, VmId},
    },
};

/// One vCPU.
#[derive(Clone, Debug, PartialEq)]
pub struct VcpuNumbers {
    /// Which owner it is.
    pub owner: Owner,
    /// Who that is.
    pub vcpu: Vcpu,
    /// In the last interval.
    pub lately: Measures,
    /// Since start or reset.
    pub total: Measures,
}

impl VcpuNumbers {
    /// Its number and its thread.
    pub fn label(&self) -> String {
        let Vcpu { id, task, ended, .. } = self.vcpu;
        let ended = if ended { ", ended" } else { "" };
        format!("vCPU {} (thread {} {}{ended})", id.label(), tid(task), self.vcpu.command())
    }
}

/// One VM.
#[derive(Clone, Debug, PartialEq)]
pub struct VmNumbers {
    /// Its process, and which of its VMs.
    pub vm: VmId,
    /// Whether the process has several.
    pub one_of_several: bool,
    /// Its name, or its process' own name.
    pub name: Option<String>,
    /// Its vCPUs.
    pub vcpus: Vec<VcpuNumbers>,
    /// In the last interval.
    pub lately: Measures,
    /// Since start or reset.
    pub total: Measures,
}

impl VmNumbers {
    /// Its process and its name.
    pub fn label(&self) -> String {
        let process = self.vm.process;
        let number = labels::vm_number(self.vm, self.one_of_several);
        self.name.as_ref().map_or_else(|| process.to_string(), |name| format!("{process} {name}")) + &number
    }

    /// Whether nothing of it runs any more.
    pub fn ended(&self) -> bool {
        self.vcpus.iter().all(|vcpu| vcpu.vcpu.ended)
    }
}

/// A sample, ready to be drawn.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The sample.
    pub sample: Arc<Sample>,
    /// What happened since the sample before.
    pub lately: Ledger,
    /// What happened since start or reset.
    pub total: Arc<Ledger>,
    /// The VMs.
    pub vms: Vec<VmNumbers>,
    /// What is nobody's.
    pub unattributed: (Measures, Measures),
    /// What measuring costs.
    pub cost: Share,
    /// What happened before.
    pub history: History,
}

impl Shown {
    /// Derives everything. `before` is the sample before, `base` the one at the last reset.
    pub fn new(sample: Arc<Sample>, before: Option<&Sample>, base: Option<&Sample>, mut history: History) -> Self {
        let ledger = &sample.ledger;
        let lately = before.map_or_else(|| Ledger::clone(ledger), |before| ledger.since(&before.ledger));
        let total = base.map_or_else(|| Arc::clone(ledger), |base| Arc::new(ledger.since(&base.ledger)));
        let cost = before.map_or_else(Share::default, |before| Share::between(before.cost, sample.cost, lately.duration));
        let (vms, unattributed) = vms(ledger, &lately, &total);
        let vcpus = vms.iter().flat_map(|vm| &vm.vcpus).filter(|vcpu| !vcpu.vcpu.ended);
        let rates: Vec<(Owner, Measures)> = vcpus.map(|vcpu| (vcpu.owner, vcpu.lately)).collect();
        let host = Measures {
            exits: lately.events.exits,
            deferred: lately.totals.deferred.unwrap_or(0),
            performed: lately.totals.performed.unwrap_or(0),
            ..Measures::default()
        };
        history.note(&host, &rates, lately.duration.as_secs_f64());
        Self { sample, lately, total, vms, unattributed, cost, history }
    }

    /// A VM.
    pub fn vm(&self, vm: VmId) -> Option<&VmNumbers> {
        self.vms.iter().find(|row| row.vm == vm)
    }

    /// A vCPU and its VM.
    pub fn vcpu(&self, vm: VmId, owner: Owner) -> Option<(&VmNumbers, &VcpuNumbers)> {
        let vm = self.vm(vm)?;
        Some((vm, vm.vcpus.iter().find(|vcpu| vcpu.owner == owner)?))
    }
}

/// All VMs, with those that did nothing lately. In one pass: there may be thousands of vCPUs.
fn vms(ledger: &Ledger, lately: &Ledger, total: &Ledger) -> (Vec<VmNumbers>, (Measures, Measures)) {
    let (mut recent, mut all) = (by_owner(lately), by_owner(total));
    let mut vms: BTreeMap<VmId, VmNumbers> = BTreeMap::new();
    for (owner, vcpu) in &ledger.owners.vcpus {
        let nothing = Measures::default();
        let (lately, total) = (recent.remove(owner).unwrap_or(nothing), all.remove(owner).unwrap_or(nothing));
        let row = VcpuNumbers { owner: *owner, vcpu: *vcpu, lately, total };
        if vcpu.ended && row.total == Measures::default() {
            // It ended before the reset.
            continue;
        }
        let vm = vms.entry(vcpu.vm).or_insert_with(|| {
            let known = ledger.owners.vms.get(&vcpu.vm.process);
            let name = known.and_then(|vm| vm.name.clone().or_else(|| vm.command.clone()));
            VmNumbers { vm: vcpu.vm, one_of_several: false, name, vcpus: Vec::new(), lately: nothing, total: nothing }
        });
        vm.lately.add(&row.lately);
        vm.total.add(&row.total);
        vm.vcpus.push(row);
    }
    // All that is left has no row, so it is nobody's.
    let rest = |rows: BTreeMap<Owner, Measures>| {
        rows.into_values().fold(Measures::default(), |mut sum, measures| {
            sum.add(&measures);
            sum
        })
    };
    let mut vms: Vec<VmNumbers> = vms.into_values().collect();
    vms.iter_mut().for_each(|vm| vm.vcpus.sort_by_key(|vcpu| (vcpu.vcpu.id, vcpu.vcpu.task, vcpu.owner)));
    // In the order of their processes, so those of one stand together.
    for place in 1..vms.len() {
        if vms[place].vm.process == vms[place - 1].vm.process {
            (vms[place - 1].one_of_several, vms[place].one_of_several) = (true, true);
        }
    }
    (vms, (rest(recent), rest(all)))
}

fn by_owner(ledger: &Ledger) -> BTreeMap<Owner, Measures> {
    let mut sums: BTreeMap<Owner, Measures> = BTreeMap::new();
    for (key, tally) in &ledger.owners.tallies {
        sums.entry(key.owner).or_default().add(&measures(tally, ledger.msrs.len()));
    }
    sums
}

/// A tally's numbers over all slots.
pub(super) fn measures(tally: &Tally, slots: usize) -> Measures {
    let mut sum = Measures {
        exits: tally.exits,
        userspace_exits: tally.userspace_exits,
        closes: tally.windows.closed,
        clean_closes: tally.windows.clean,
        ..Measures::default()
    };
    for slot in tally.slots.iter().take(slots) {
        sum.set_written += slot.written;
        sum.set_skipped += slot.skipped;
        sum.set_failed += slot.failed;
        sum.deferred += slot.deferred;
        sum.performed += slot.performed;
    }
    sum
}
