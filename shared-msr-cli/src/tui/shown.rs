//! What is on the screen: a sample, with what is derived from it once instead of at each drawing.

use std::{collections::BTreeMap, sync::Arc};

use shared_msr_common::{Tally, Task, Vcpu, owner::UNKNOWN_ID};

use super::{cost::Share, history::History, source::Sample};
use crate::{
    ledger::{Ledger, facts::Measures},
    sample::owners::{self, tgid, tid},
};

/// One vCPU.
#[derive(Clone, Debug, PartialEq)]
pub struct VcpuNumbers {
    /// Its thread.
    pub task: Task,
    /// KVM's number of it.
    pub id: Option<u64>,
    /// The thread's name.
    pub command: String,
    /// Whether the thread has ended.
    pub ended: bool,
    /// In the last interval.
    pub lately: Measures,
    /// Since start or reset.
    pub total: Measures,
}

impl VcpuNumbers {
    /// Its number and its thread.
    pub fn label(&self) -> String {
        let id = self.id.map_or_else(|| "?".to_owned(), |id| id.to_string());
        let ended = if self.ended { ", ended" } else { "" };
        format!("vCPU {id} (thread {} {}{ended})", tid(self.task), self.command)
    }
}

/// One VM.
#[derive(Clone, Debug, PartialEq)]
pub struct VmNumbers {
    /// Its process.
    pub vm: u32,
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
        self.name.as_ref().map_or_else(|| self.vm.to_string(), |name| format!("{} {name}", self.vm))
    }

    /// Whether nothing of it runs any more.
    pub fn ended(&self) -> bool {
        self.vcpus.iter().all(|vcpu| vcpu.ended)
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
        let vcpus = vms.iter().flat_map(|vm| &vm.vcpus).filter(|vcpu| !vcpu.ended);
        let rates: Vec<(Task, Measures)> = vcpus.map(|vcpu| (vcpu.task, vcpu.lately)).collect();
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
    pub fn vm(&self, vm: u32) -> Option<&VmNumbers> {
        self.vms.iter().find(|row| row.vm == vm)
    }

    /// A vCPU and its VM.
    pub fn vcpu(&self, task: Task) -> Option<(&VmNumbers, &VcpuNumbers)> {
        let vm = self.vm(tgid(task))?;
        Some((vm, vm.vcpus.iter().find(|vcpu| vcpu.task == task)?))
    }
}

/// All VMs, with those that did nothing lately. In one pass: there may be thousands of vCPUs.
fn vms(ledger: &Ledger, lately: &Ledger, total: &Ledger) -> (Vec<VmNumbers>, (Measures, Measures)) {
    let (mut recent, mut all) = (by_owner(lately), by_owner(total));
    let mut vms: BTreeMap<u32, VmNumbers> = BTreeMap::new();
    for (task, vcpu) in &ledger.owners.vcpus {
        let row = numbers(*task, vcpu, (recent.remove(task), all.remove(task)));
        if row.ended && row.total == Measures::default() {
            // It ended before the reset.
            continue;
        }
        let vm = vms.entry(tgid(*task)).or_insert_with(|| {
            let known = ledger.owners.vms.get(&tgid(*task));
            let name = known.and_then(|vm| vm.name.clone().or_else(|| vm.command.clone()));
            let nothing = Measures::default();
            VmNumbers { vm: tgid(*task), name, vcpus: Vec::new(), lately: nothing, total: nothing }
        });
        vm.lately.add(&row.lately);
        vm.total.add(&row.total);
        vm.vcpus.push(row);
    }
    // All that is left has no row, so it is nobody's.
    let rest = |rows: BTreeMap<Task, Measures>| {
        rows.into_values().fold(Measures::default(), |mut sum, measures| {
            sum.add(&measures);
            sum
        })
    };
    let mut vms: Vec<VmNumbers> = vms.into_values().collect();
    vms.iter_mut().for_each(|vm| vm.vcpus.sort_by_key(|vcpu| (vcpu.id.is_none(), vcpu.id, vcpu.task)));
    (vms, (rest(recent), rest(all)))
}

fn numbers(task: Task, vcpu: &Vcpu, (lately, total): (Option<Measures>, Option<Measures>)) -> VcpuNumbers {
    VcpuNumbers {
        task,
        id: (vcpu.id != UNKNOWN_ID).then_some(vcpu.id),
        command: owners::command(&vcpu.command),
        ended: vcpu.exited != 0,
        lately: lately.unwrap_or_default(),
        total: total.unwrap_or_default(),
    }
}

fn by_owner(ledger: &Ledger) -> BTreeMap<Task, Measures> {
    let mut sums: BTreeMap<Task, Measures> = BTreeMap::new();
    for (key, tally) in &ledger.owners.tallies {
        sums.entry(key.task).or_default().add(&measures(tally, ledger.msrs.len()));
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
