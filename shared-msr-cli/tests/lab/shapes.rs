//! VMMs of all shapes: threads and vCPUs many to many, VMs that come and go, processes that become others. Each row of the report
//! is held against what the kernel itself counts of that thread, and against what the VMM says that it did.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use serde::Deserialize;
use shared_msr::report::json::document::{Numbers, VcpuPart};

use crate::support::{
    Foreign, Histogram, Report, ReusedAddresses, WriteRecord, assert_all_attributed, assert_verified, json, report_on, restored,
};

/// Tests of shapes, under each step of the ladder. A shape is arguments of the example `shapes`.
macro_rules! under_each_step {
    ($($test:ident: $shape:literal,)*) => {
        under_each_step!(fentry, "fentry", $($test: $shape,)*);
        under_each_step!(kprobe, "kprobe", $($test: $shape,)*);
        under_each_step!(tracepoint, "tracepoint", $($test: $shape,)*);
    };
    ($step:ident, $name:literal, $($test:ident: $shape:literal,)*) => {
        mod $step {
            $(#[test]
            fn $test() {
                crate::shapes::hold($name, $shape);
            })*
        }
    };
}

/// There is a test that fails for each way to find out who runs. Those on one CPU are there because on two a thread's exits are
/// told apart by the CPU alone.
mod basic {
    under_each_step! {
        two_threads_run_a_vcpu_in_turn: "--cpu 0 turns 40 1",
        a_thread_hands_its_vcpu_over_for_one_long_run: "--cpu 0 handover 5000",
        a_vm_of_another_process_comes_after_one_that_is_gone: "--cpu 0 successor 20",
        one_thread_runs_three_vcpus_in_turn: "--cpu 0 three-vcpus 30",
        four_threads_on_two_cpus_drive_eight_vcpus: "pool 2 2",
    }
}

/// All others.
mod further {
    under_each_step! {
        two_threads_run_a_vcpu_five_times_each_in_turn: "--cpu 0 turns 20 5",
        two_threads_on_any_cpu_run_a_vcpu_in_turn: "turns 40 1",
        one_thread_runs_two_vms_in_turn: "--cpu 0 two-vms 30",
        four_threads_on_any_cpu_drive_eight_vcpus: "pool 2",
        a_thread_that_ran_a_vcpu_executes_another_program: "--cpu 0 execve thread",
        a_first_thread_that_ran_a_vcpu_executes_another_program: "--cpu 0 execve leader",
        a_process_makes_vms_one_after_the_other: "--cpu 0 remake 40",
        one_thread_sets_msrs_and_another_one_runs_the_vcpu: "--cpu 0 setter 50",
    }
}

/// What the VMM says of a VM, vCPU and thread.
#[derive(Debug, Deserialize)]
struct Told {
    /// The process.
    vm: u32,
    vm_number: u32,
    vcpu: u64,
    tid: u32,
    tsc_aux: u64,
    kvm_runs: u64,
    cpuids: u64,
}

/// What the kernel counts.
struct Kernel {
    exits: Histogram,
    returns: Histogram,
    writes: Histogram,
    record: WriteRecord,
}

/// What the kernel counted.
struct Counted {
    /// By thread and number of the vCPU.
    exits: BTreeMap<(u64, u64), u64>,
    /// By thread.
    returns: BTreeMap<u64, u64>,
    /// Of a guest's value, by thread and value.
    writes: BTreeMap<(u64, u64), u64>,
    /// Restores, by whose value they took back: thread and value.
    restores: BTreeMap<(u64, u64), u64>,
}

/// Runs a shape under a step of the ladder.
fn hold(step: &str, shape: &str) {
    let kernel = Kernel::count();
    let reused = shape.contains("remake").then(ReusedAddresses::start);
    let words: Vec<&str> = std::iter::once("shapes").chain(shape.split(' ')).collect();
    let (ended, report) = report_on(&format!("--probe {step}"), &words);
    let told: Vec<Told> = ended.stdout.lines().map(|line| json(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    let _lingers = shape.contains("execve").then(|| told.first().map(|one| Foreign(one.vm)));
    let counted = kernel.counted();
    assert_eq!(ended.status, 0, "{ended:?}");
    assert!(!told.is_empty(), "{ended:?}");
    if let Some(reused) = reused {
        assert!(reused.vms() > 0, "no VM was where another one had been");
    }
    assert_verified(&report);
    assert_all_attributed(&report);
    assert_hooks(&report, step);
    assert_threads(&report, &counted);
    assert_each_row(&report, &told, &counted);
    assert_vms(&report, &told);
    if shape.contains("execve") {
        assert_ended(&report, &told);
    }
}

/// The step is the one that was asked for.
fn assert_hooks(report: &Report, step: &str) {
    let set = report.host.hooks.set.as_deref().and_then(|hook| hook.split_once(':'));
    assert!(set.is_some_and(|(kind, _)| kind.ends_with(step)), "{step} is not in {:?}", report.host.hooks);
}

/// What a thread did is in its rows, and in no other's.
fn assert_threads(report: &Report, counted: &Counted) {
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
fn assert_each_row(report: &Report, told: &[Told], counted: &Counted) {
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
fn assert_vms(report: &Report, told: &[Told]) {
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

/// What ran in the program before `execve` has ended, under whatever number; what runs in the one after it has not.
fn assert_ended(report: &Report, told: &[Told]) {
    assert!([1, 2].iter().all(|number| told.iter().any(|one| one.vm_number == *number)), "before and after: {told:?}");
    for one in told {
        let row = report.vcpus.iter().find(|row| one.is(row)).unwrap();
        assert_eq!(row.ended, one.vm_number == 1, "whether it has ended: {row:?}");
    }
}

impl Told {
    fn is(&self, row: &VcpuPart) -> bool {
        (row.vm, row.vm_number, row.tid) == (self.vm, Some(self.vm_number), self.tid) && row.vcpu == self.vcpu
    }
}

impl Kernel {
    fn count() -> Self {
        Self {
            exits: Histogram::start("kvm/kvm_exit", &["common_pid", "vcpu_id"], None),
            returns: Histogram::start("kvm/kvm_userspace_exit", &["common_pid"], None),
            writes: Histogram::start("msr/write_msr", &["common_pid", "val"], Some("msr == 0xc0000103 && val >= 8")),
            record: WriteRecord::start(),
        }
    }

    fn counted(&self) -> Counted {
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
