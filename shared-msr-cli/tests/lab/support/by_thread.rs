//! What VMMs with many threads did, by the kernel's count of each thread and by their own words.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use serde::Deserialize;
use shared_msr::report::json::document::{Numbers, VcpuPart};

use super::{Histogram, Report, WriteRecord, json, restored};

/// What the VMM says of a VM, vCPU and thread.
#[derive(Debug, Deserialize)]
pub(crate) struct Told {
    /// The process.
    pub(crate) vm: u32,
    pub(crate) vm_number: u32,
    pub(crate) vcpu: u64,
    pub(crate) tid: u32,
    pub(crate) tsc_aux: u64,
    pub(crate) kvm_runs: u64,
    pub(crate) cpuids: u64,
}

/// What the kernel counts.
pub(crate) struct KernelThreads {
    exits: Histogram,
    returns: Histogram,
    writes: Histogram,
    record: WriteRecord,
}

/// What the kernel counted.
pub(crate) struct Counted {
    /// By thread and number of the vCPU.
    pub(crate) exits: BTreeMap<(u64, u64), u64>,
    /// By thread.
    pub(crate) returns: BTreeMap<u64, u64>,
    /// Of a guest's value, by thread and value.
    pub(crate) writes: BTreeMap<(u64, u64), u64>,
    /// Restores, by whose value they took back: thread and value.
    pub(crate) restores: BTreeMap<(u64, u64), u64>,
}

/// What a thread did is in its rows, and in no other's.
pub(crate) fn assert_threads(report: &Report, counted: &Counted) {
    let mut rows: BTreeMap<u64, [u64; 4]> = BTreeMap::new();
    for row in &report.vcpus {
        let Numbers { exits, userspace_exits, set_written, performed, .. } = row.numbers;
        let of_row = [exits, userspace_exits, set_written.unwrap(), performed.unwrap()];
        let sums = rows.entry(row.tid.into()).or_default();
        sums.iter_mut().zip(of_row).for_each(|(sum, number)| *sum += number);
    }
    let mut kernel: BTreeMap<u64, [u64; 4]> = BTreeMap::new();
    for (place, counts) in [(0, &counted.exits), (2, &counted.writes), (3, &counted.restores)] {
        for ((tid, _), count) in counts {
            kernel.entry(*tid).or_default()[place] += count;
        }
    }
    for (tid, count) in &counted.returns {
        kernel.entry(*tid).or_default()[1] += count;
    }
    // Who made a vCPU and did not run it may have a row with nothing in it.
    rows.retain(|tid, numbers| *numbers != [0; 4] || kernel.contains_key(tid));
    assert!(!kernel.is_empty());
    assert_eq!(rows, kernel, "exits, returns, writes and restores of each thread: the report, and the kernel");
}

/// Each VM, vCPU and thread that ran has a row of its own, with what it did and no more.
pub(crate) fn assert_each_row(report: &Report, told: &[Told], counted: &Counted) {
    let mut wrong = Vec::new();
    for one in told {
        let found: Vec<&VcpuPart> = report.vcpus.iter().filter(|row| one.is(row) && row.numbers.exits > 0).collect();
        let [row] = found.as_slice() else {
            wrong.push(format!("{} rows of {one:?}", found.len()));
            continue;
        };
        // Several VMs of a process can have a vCPU of the same number.
        let alone = told.iter().filter(|other| (other.tid, other.vcpu) == (one.tid, one.vcpu)).count() == 1;
        let exits = row.numbers.exits;
        let kernel = counted.exits.get(&(one.tid.into(), one.vcpu)).copied().unwrap_or(0);
        let own = |map: &BTreeMap<_, u64>| map.get(&(u64::from(one.tid), one.tsc_aux)).copied().unwrap_or(0);
        let seen = [Some(row.numbers.userspace_exits), row.numbers.set_written, row.numbers.performed, row.numbers.deferred];
        // TSC_AUX is the one MSR that is loaded, and its guest's value is there at each exit.
        let must = [one.kvm_runs, own(&counted.writes), own(&counted.restores), exits].map(Some);
        if exits < one.cpuids + one.kvm_runs || (alone && exits != kernel) || seen != must {
            wrong.push(format!("{one:?}: {exits} exits, the kernel {kernel}; {seen:?}, not {must:?}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new(), "each row has its own KVM_RUNs, exits, writes, restores and deferred exits");
    let rows: Vec<&VcpuPart> = report.vcpus.iter().filter(|row| row.numbers.exits > 0).collect();
    assert_eq!(rows.len(), told.len(), "rows with exits: {rows:?}, {told:?}");
}

/// A row for each VM that ran, with the number of its vCPUs that did.
pub(crate) fn assert_vms(report: &Report, told: &[Told]) {
    let mut ran: BTreeMap<(u32, Option<u32>), BTreeSet<u64>> = BTreeMap::new();
    for one in told {
        ran.entry((one.vm, Some(one.vm_number))).or_default().insert(one.vcpu);
    }
    let mut must: Vec<_> = ran.into_iter().map(|((vm, number), vcpus)| (vm, number, vcpus.len() as u64)).collect();
    let mut rows: Vec<_> = report.vms.iter().map(|row| (row.vm, row.vm_number, row.vcpus)).collect();
    must.sort_unstable();
    rows.sort_unstable();
    assert_eq!(rows, must, "each VM and how many vCPUs of it ran");
}

impl Told {
    /// What a VMM says: an object on each line.
    pub(crate) fn of(output: &str) -> Vec<Self> {
        output.lines().map(|line| json(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    /// Whether a row is that of this VM, vCPU and thread.
    pub(crate) fn is(&self, row: &VcpuPart) -> bool {
        (row.vm, row.vm_number, row.tid) == (self.vm, Some(self.vm_number), self.tid) && row.vcpu == self.vcpu
    }
}

impl KernelThreads {
    /// Counts from now on.
    pub(crate) fn start() -> Self {
        Self {
            exits: Histogram::start("kvm/kvm_exit", &["common_pid", "vcpu_id"], None),
            returns: Histogram::start("kvm/kvm_userspace_exit", &["common_pid"], None),
            writes: Histogram::start("msr/write_msr", &["common_pid", "val"], Some("msr == 0xc0000103 && val >= 8")),
            record: WriteRecord::start(),
        }
    }

    /// What was counted so far.
    pub(crate) fn read(&self) -> Counted {
        let by_two = |histogram: &Histogram| histogram.read().into_iter().map(|(keys, count)| (two(&keys), count)).collect();
        let restores = restored(&self.record.writes()).into_iter().map(|((tid, value), count)| ((tid.into(), value), count));
        Counted {
            exits: by_two(&self.exits),
            returns: self.returns.read().into_iter().map(|(keys, count)| (keys[0], count)).collect(),
            writes: by_two(&self.writes),
            restores: restores.collect(),
        }
    }
}

fn two<T: Copy + Debug>(keys: &[T]) -> (T, T) {
    let [first, second] = keys else { panic!("not two keys: {keys:?}") };
    (*first, *second)
}
