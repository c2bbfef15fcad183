//! Fills the tables.

use std::collections::BTreeMap;

use shared_msr_common::{
    Owner, SlotTally,
    cause::{DROP, FOREIGN, UNKNOWN},
    owner::NOBODY,
};

use super::{
    grid::{Grid, Key, Kind, Line, Plan, percent, shown as cell},
    shown::{Shown, VcpuNumbers, VmNumbers},
    state::{Depth, State, View},
};
use crate::{
    kernel::exit_names,
    ledger::{
        Ledger,
        facts::{Depth as Broken, Fact, Measures},
    },
    report::labels,
    sample::vcpus::VmId,
};

/// A table; none where there is nothing to fill it with.
pub(super) fn grid(state: &State, shown: &Shown, kind: Kind) -> Option<Grid> {
    let (ledger, per) = state.numbers(shown);
    let plan =
        |title, more| Plan { kind, title, more, columns: kind.columns(state.expanded), ledger, per, sort: state.sort(kind) };
    Some(match kind {
        Kind::Msrs => {
            let owner = match (state.view, state.depth) {
                (View::Vms, Depth::Vcpu(_, owner)) => Some(owner),
                _ => None,
            };
            plan("MSR", Vec::new()).grid(msrs(state, ledger, owner))
        }
        Kind::Vms => {
            let tree = state.expanded && state.view == View::Vms;
            plan("VM", vec!["VCPUS".to_owned()]).grid(vms(state, shown, tree))
        }
        Kind::Vcpus => {
            let Depth::Vm(vm) = state.depth else { return None };
            let vcpus = shown.vm(vm).map(|vm| vm.vcpus.as_slice()).unwrap_or_default();
            plan("VCPU", Vec::new()).grid(vcpus.iter().map(|vcpu| of_vcpu(state, vcpu)).collect())
        }
        Kind::Exits => {
            ledger.owners.banks.as_ref()?;
            let more =
                ["% EXITS", "DEF/EXIT", "% TO USER"].map(str::to_owned).into_iter().chain(by_msr_heads(state, ledger)).collect();
            plan("REASON", more).grid(exits(state, ledger, per))
        }
        Kind::Causes => {
            let more = ["% CLOSES".to_owned()].into_iter().chain(by_msr_heads(state, ledger)).collect();
            plan("CAUSE", more).grid(causes(state, ledger, per, None))
        }
    })
}

/// With `x`, a column for each MSR.
fn by_msr_heads(state: &State, ledger: &Ledger) -> Vec<String> {
    if state.expanded { ledger.msrs.iter().map(|row| row.slot.name.clone()).collect() } else { Vec::new() }
}

fn msrs(state: &State, ledger: &Ledger, owner: Option<Owner>) -> Vec<Line> {
    let mut sums = vec![SlotTally::EMPTY; ledger.msrs.len()];
    for (key, tally) in &ledger.owners.tallies {
        let wanted = match (owner, &state.filter) {
            (Some(owner), _) => key.owner == owner,
            (None, None) => true,
            (None, Some(_)) => key.owner != NOBODY && takes(state, ledger, key.owner),
        };
        for (sum, slot) in sums.iter_mut().zip(&tally.slots).filter(|_| wanted) {
            sum.add(slot);
        }
    }
    let line = |(position, (row, sum)): (usize, (&crate::ledger::MsrRow, SlotTally))| Line {
        key: Key::Msr(position),
        label: row.slot.name.clone(),
        measures: Measures {
            set_written: sum.written,
            set_skipped: sum.skipped,
            set_failed: sum.failed,
            deferred: sum.deferred,
            performed: sum.performed,
            ..Measures::default()
        },
        more: Vec::new(),
        last: false,
        children: Vec::new(),
    };
    ledger.msrs.iter().zip(sums).enumerate().map(line).collect()
}

fn vms(state: &State, shown: &Shown, tree: bool) -> Vec<Line> {
    let line = |vm: &VmNumbers| Line {
        key: Key::Vm(vm.vm),
        label: state.theme.text(&vm.label()).into_owned(),
        measures: *state.choose(&vm.lately, &vm.total),
        more: vec![vm.vcpus.len().to_string()],
        last: vm.ended(),
        children: if tree {
            let mut children: Vec<Line> = vm.vcpus.iter().map(|vcpu| of_vcpu(state, vcpu)).collect();
            children.iter_mut().for_each(|child| child.more = vec![String::new()]);
            children
        } else {
            Vec::new()
        },
    };
    let mut lines: Vec<Line> = shown.vms.iter().filter(|vm| state.takes(vm.vm.process, vm.name.as_deref())).map(line).collect();
    let rest = *state.choose(&shown.unattributed.0, &shown.unattributed.1);
    if state.filter.is_none() && rest != Measures::default() {
        lines.push(Line {
            key: Key::Unattributed,
            label: "unattributed".to_owned(),
            measures: rest,
            more: vec![String::new()],
            last: true,
            children: Vec::new(),
        });
    }
    lines
}

fn of_vcpu(state: &State, vcpu: &VcpuNumbers) -> Line {
    Line {
        key: Key::Vcpu(vcpu.vcpu.vm, vcpu.owner),
        label: state.theme.text(&vcpu.label()).into_owned(),
        measures: *state.choose(&vcpu.lately, &vcpu.total),
        more: Vec::new(),
        last: vcpu.vcpu.ended,
        children: Vec::new(),
    }
}

/// The numbers of a row, and one of them by MSR.
#[derive(Default)]
struct Sum {
    measures: Measures,
    by_msr: Vec<u64>,
}

impl Sum {
    fn add(&mut self, fact: &Fact, number: u64) {
        self.measures.add(&fact.measures);
        if let Some(msr) = fact.msr {
            self.by_msr.resize(self.by_msr.len().max(msr + 1), 0);
            self.by_msr[msr] += number;
        }
    }

    fn cells(&self, ledger: &Ledger, per: Option<f64>, wanted: bool) -> impl Iterator<Item = String> {
        let number = move |msr: usize| self.by_msr.get(msr).copied().unwrap_or(0);
        (0..if wanted { ledger.msrs.len() } else { 0 }).map(move |msr| cell(Some(number(msr).cast_signed()), per))
    }
}

fn exits(state: &State, ledger: &Ledger, per: Option<f64>) -> Vec<Line> {
    let vendor = state.facts.vendor;
    let mut sums: BTreeMap<(Option<u32>, Option<VmId>), Sum> = BTreeMap::new();
    let mut all = 0;
    for fact in ledger.facts(Broken { by_reason: true, by_cause: false }) {
        let Some(reason) = fact.reason.filter(|_| takes(state, ledger, fact.owner)) else { continue };
        all += fact.measures.exits;
        let guest = state.by_guest.then(|| vm_of(ledger, fact.owner));
        sums.entry((reason, guest)).or_default().add(&fact, fact.measures.deferred);
    }
    let line = |((reason, guest), sum): ((Option<u32>, Option<VmId>), Sum)| {
        let measures = sum.measures;
        let more = [
            percent(measures.exits as f64, all as f64),
            if measures.exits == 0 { "-".to_owned() } else { format!("{:.2}", measures.deferred as f64 / measures.exits as f64) },
            if ledger.tells_returns_of(reason) {
                percent(measures.exits_to_userspace as f64, measures.exits as f64)
            } else {
                "?".to_owned()
            },
        ];
        Line {
            key: Key::Reason(reason, guest),
            label: with_guest(state, ledger, labels::reason_cell(vendor, reason), guest),
            measures,
            more: more.into_iter().chain(sum.cells(ledger, per, state.expanded)).collect(),
            // So that idle guests do not bury what others do.
            last: reason.is_some_and(|reason| exit_names::is_halt(vendor, reason)),
            children: Vec::new(),
        }
    };
    sums.into_iter().map(line).collect()
}

/// Why windows closed; of one owner, if one is given.
pub(super) fn causes(state: &State, ledger: &Ledger, per: Option<f64>, owner: Option<Owner>) -> Vec<Line> {
    let mut sums: BTreeMap<(_, Option<_>, Option<VmId>), Sum> = BTreeMap::new();
    let mut all = 0;
    for fact in ledger.facts(Broken { by_cause: true, by_reason: false }) {
        let wanted = owner.map_or_else(|| takes(state, ledger, fact.owner), |owner| owner == fact.owner);
        let Some(cause) = fact.cause.filter(|_| wanted) else { continue };
        all += fact.measures.closes;
        let guest = (state.by_guest && owner.is_none()).then(|| vm_of(ledger, fact.owner));
        let payer = fact.payer.clone().filter(|_| matches!(cause.0, FOREIGN | DROP | UNKNOWN));
        sums.entry((cause, payer, guest)).or_default().add(&fact, fact.measures.performed);
    }
    let line = |((cause, payer, guest), sum): ((_, Option<crate::ledger::facts::Payer>, _), Sum)| {
        let paid = payer.as_ref().map(|payer| format!(", paid by {}", labels::payer_cell(payer, &ledger.owners.vms)));
        let paid = paid.unwrap_or_default();
        let label = state.theme.text(&format!("{}{paid}", labels::cause_cell(cause))).into_owned();
        let more = percent(sum.measures.closes as f64, all as f64);
        Line {
            key: Key::Cause(cause, payer, guest),
            label: with_guest(state, ledger, label, guest),
            measures: sum.measures,
            more: [more].into_iter().chain(sum.cells(ledger, per, state.expanded)).collect(),
            last: false,
            children: Vec::new(),
        }
    };
    sums.into_iter().map(line).collect()
}

fn with_guest(state: &State, ledger: &Ledger, label: String, guest: Option<VmId>) -> String {
    match guest {
        None => label,
        Some(NO_VM) => format!("{label} of nobody"),
        Some(guest) => {
            let vm = labels::vm_cell(guest, ledger);
            format!("{label} of {}", state.theme.text(&vm))
        }
    }
}

/// The VM of what is nobody's.
const NO_VM: VmId = VmId { process: 0, number: None };

fn vm_of(ledger: &Ledger, owner: Owner) -> VmId {
    ledger.owners.vcpus.get(&owner).map_or(NO_VM, |vcpu| vcpu.vm)
}

/// Whether an owner's VM is wanted. What is nobody's is wanted as long as nothing special is.
pub(super) fn takes(state: &State, ledger: &Ledger, owner: Owner) -> bool {
    if state.filter.is_none() {
        return true;
    }
    let Some(vcpu) = ledger.owners.vcpus.get(&owner) else { return false };
    let process = vcpu.vm.process;
    let vm = ledger.owners.vms.get(&process);
    let name = vm.and_then(|vm| vm.name.as_deref().or(vm.command.as_deref()));
    state.takes(process, name)
}
