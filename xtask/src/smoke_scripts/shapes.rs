//! VMMs of all shapes: threads and vCPUs many to many, VMs that come and go, processes that become others. Each row of the report
//! is held against what the kernel itself counts of that thread, and against what the VMM says that it did.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    Checks,
    sections::{Json, Sections},
    sound::{self, rows},
};

/// A name, and the arguments of the example `shapes`.
type Shape = (&'static str, &'static str);

/// All shapes. Those on one CPU are there because on two a thread's exits are told apart by the CPU alone.
const SHAPES: [Shape; 13] = [
    ("turns-1", "--cpu 0 turns 40 1"),
    ("turns-5", "--cpu 0 turns 20 5"),
    ("turns-unpinned", "turns 40 1"),
    ("handover", "--cpu 0 handover 5000"),
    ("successor", "--cpu 0 successor 20"),
    ("three-vcpus", "--cpu 0 three-vcpus 30"),
    ("two-vms", "--cpu 0 two-vms 30"),
    ("pool-pinned", "pool 2 2"),
    ("pool-unpinned", "pool 2"),
    ("execve-thread", "--cpu 0 execve thread"),
    ("execve-leader", "--cpu 0 execve leader"),
    ("remake", "--cpu 0 remake 200"),
    ("setter", "--cpu 0 setter 50"),
];

/// What `cargo xtask test` takes beside all shapes on the usual kernel with the best step: there is a test that fails for each way
/// to find out who runs.
const FEW: [&str; 5] = ["turns-1", "handover", "successor", "three-vcpus", "pool-pinned"];
/// On an emulator that takes minutes.
const TWO: [&str; 2] = ["turns-1", "three-vcpus"];

/// A run: a step of the ladder, and a shape.
pub(super) type Run = (&'static str, Shape);

/// All runs on a host that is fast to emulate, or few on another kernel than the usual one.
pub(super) fn runs(all: bool, usual: bool) -> Vec<Run> {
    let taken = |step: &str, shape: &str| all || (usual && step == "fentry") || FEW.contains(&shape);
    let steps = ["fentry", "kprobe", "tracepoint"].into_iter();
    steps.flat_map(|step| SHAPES.map(|shape| (step, shape))).filter(|(step, (shape, _))| taken(step, shape)).collect()
}

/// What is run where that takes minutes.
pub(super) fn two_runs() -> Vec<Run> {
    SHAPES.into_iter().filter(|(shape, _)| TWO.contains(shape)).map(|shape| ("fentry", shape)).collect()
}

/// The script's arguments.
pub(super) fn arguments(runs: &[Run]) -> Vec<String> {
    runs.iter().map(|(step, (shape, arguments))| format!("{step}.{shape}={arguments}")).collect()
}

pub(super) fn check(checks: &mut Checks, sections: &Sections, runs: &[Run]) -> Result<()> {
    for (step, (shape, _)) in runs {
        if let Err(error) = one(checks, sections, step, shape) {
            checks.check(&format!("{step}.{shape}: can be checked"), false, &format!("{error:#}"));
        }
    }
    Ok(())
}

/// A VM of a process, by its number, and a vCPU of it.
type Vcpu = (u64, u64, u64);

/// What the VMM says of a VM, vCPU and thread.
struct Told {
    vcpu: Vcpu,
    tid: u64,
    tsc_aux: u64,
    kvm_runs: u64,
    cpuids: u64,
}

/// What the kernel counted.
struct Kernel {
    /// By thread and number of the vCPU.
    exits: BTreeMap<(u64, u64), u64>,
    returns: BTreeMap<u64, u64>,
    /// Of a guest's value, by thread and value.
    writes: BTreeMap<(u64, u64), u64>,
    /// Restores, by whose value they took back: thread and value.
    restores: BTreeMap<(u64, u64), u64>,
}

fn one(checks: &mut Checks, sections: &Sections, step: &str, shape: &str) -> Result<()> {
    let name = format!("{step}.{shape}");
    let told = told(sections.text(&format!("{name}.out"))?)?;
    let kernel = Kernel::of(sections, &name)?;
    let report = sound::verified(checks, sections, &name)?;
    sound::all_attributed(checks, &report, &name)?;
    threads(checks, &report, &kernel, &name)?;
    each_row(checks, &report, &told, &kernel, &name)?;
    vms(checks, &report, &told, &name)?;
    if shape.starts_with("execve") {
        ended(checks, &report, &told, &name)?;
    }
    Ok(())
}

/// What a thread did is in its rows, and in no other's.
fn threads(checks: &mut Checks, report: &Json, kernel: &Kernel, name: &str) -> Result<()> {
    const COUNTERS: [&str; 4] = ["exits", "userspace_exits", "set_written", "performed"];
    let mut by_thread: BTreeMap<u64, [u64; 4]> = BTreeMap::new();
    for row in rows(report, "vcpus")? {
        let sums = by_thread.entry(number(row, "tid")?).or_default();
        for (sum, counter) in sums.iter_mut().zip(COUNTERS) {
            *sum += number(row, counter)?;
        }
    }
    let mut counted: BTreeMap<u64, [u64; 4]> = BTreeMap::new();
    let first = |(place, map): (usize, &BTreeMap<(u64, u64), u64>)| {
        map.iter().map(move |((tid, _), count)| (*tid, place, *count)).collect::<Vec<_>>()
    };
    let both = [(0, &kernel.exits), (2, &kernel.writes), (3, &kernel.restores)].into_iter().flat_map(first);
    for (tid, place, count) in both.chain(kernel.returns.iter().map(|(tid, count)| (*tid, 1, *count))) {
        counted.entry(tid).or_default()[place] += count;
    }
    let tids: BTreeSet<u64> = by_thread.keys().chain(counted.keys()).copied().collect();
    let of = |map: &BTreeMap<u64, [u64; 4]>, tid| map.get(&tid).copied().unwrap_or_default();
    let wrong = tids.iter().filter(|tid| of(&by_thread, **tid) != of(&counted, **tid));
    let wrong = wrong.map(|tid| format!("{tid}: {:?}, the kernel {:?}", of(&by_thread, *tid), of(&counted, *tid)));
    let good = format!("{} threads, {} exits", tids.len(), kernel.exits.values().sum::<u64>());
    all_well(checks, &format!("{name}: exits, returns, writes, restores of each thread = the kernel's"), wrong.collect(), &good);
    Ok(())
}

/// Each VM, vCPU and thread that ran has a row of its own, with what it did and no more.
fn each_row(checks: &mut Checks, report: &Json, told: &[Told], kernel: &Kernel, name: &str) -> Result<()> {
    let mut wrong = Vec::new();
    for one in told {
        let found = rows(report, "vcpus")?.iter().filter(|row| vcpu_of(row) == Some(one.vcpu) && row["tid"] == one.tid);
        let found: Vec<&Value> = found.filter(|row| row["exits"] != 0).collect();
        let [row] = found.as_slice() else {
            wrong.push(format!("{} rows of {:?} and thread {}", found.len(), one.vcpu, one.tid));
            continue;
        };
        // Several VMs of a process can have a vCPU of the same number.
        let alone = told.iter().filter(|other| (other.tid, other.vcpu.2) == (one.tid, one.vcpu.2)).count() == 1;
        let exits = number(row, "exits")?;
        let counted = kernel.exits.get(&(one.tid, one.vcpu.2)).copied().unwrap_or(0);
        let right = exits >= one.cpuids + one.kvm_runs && (!alone || exits == counted);
        let own = |map: &BTreeMap<_, u64>| map.get(&(one.tid, one.tsc_aux)).copied().unwrap_or(0);
        // TSC_AUX is the one MSR that is loaded, and its guest's value is there at each exit.
        let (written, restored) = (own(&kernel.writes), own(&kernel.restores));
        let same = [("userspace_exits", one.kvm_runs), ("set_written", written), ("performed", restored), ("deferred", exits)];
        if !right || same.iter().any(|(counter, count)| row[*counter] != *count) {
            wrong.push(format!("{row}, {:?} {counted} exits, {same:?}", one.vcpu));
        }
    }
    all_well(
        checks,
        &format!("{name}: each row = its KVM_RUNs, exits, writes and restores"),
        wrong,
        &format!("{} rows", told.len()),
    );
    let number_of_rows = rows(report, "vcpus")?.iter().filter(|row| row["exits"] != 0).count();
    checks.equal(&format!("{name}: rows with exits"), number_of_rows, told.len());
    Ok(())
}

/// A row for each VM that ran, with the number of its vCPUs that did.
fn vms(checks: &mut Checks, report: &Json, told: &[Told], name: &str) -> Result<()> {
    let mut ran: BTreeMap<(u64, u64), BTreeSet<u64>> = BTreeMap::new();
    for Told { vcpu: (vm, number, id), .. } in told {
        ran.entry((*vm, *number)).or_default().insert(*id);
    }
    let mut wrong = Vec::new();
    for ((vm, number), vcpus) in &ran {
        let found: Vec<&Value> =
            rows(report, "vms")?.iter().filter(|row| row["vm"] == *vm && row["vm_number"] == *number).collect();
        if !matches!(found.as_slice(), [row] if row["vcpus"] == vcpus.len()) {
            wrong.push(format!("VM {number} of {vm} has {} vCPUs: {found:?}", vcpus.len()));
        }
    }
    all_well(checks, &format!("{name}: each VM and how many vCPUs of it ran"), wrong, &format!("{} VMs", ran.len()));
    checks.equal(&format!("{name}: VMs"), rows(report, "vms")?.len(), ran.len());
    Ok(())
}

/// What ran in the program before `execve` has ended, under whatever number; what runs in the one after it has not.
fn ended(checks: &mut Checks, report: &Json, told: &[Told], name: &str) -> Result<()> {
    for one in told {
        let row = rows(report, "vcpus")?.iter().find(|row| vcpu_of(row) == Some(one.vcpu) && row["tid"] == one.tid);
        let ended = row.map_or(&Value::Null, |row| &row["ended"]);
        let before = one.vcpu.1 == 1;
        let what = format!("{name}: thread {}, {} execve: ended", one.tid, if before { "before" } else { "after" });
        checks.equal(&what, ended, &Value::Bool(before));
    }
    Ok(())
}

fn all_well(checks: &mut Checks, what: &str, wrong: Vec<String>, good: &str) {
    checks.check(what, wrong.is_empty(), &if wrong.is_empty() { good.to_owned() } else { wrong.join("; ") });
}

fn vcpu_of(row: &Value) -> Option<Vcpu> {
    Some((row["vm"].as_u64()?, row["vm_number"].as_u64()?, row["vcpu"].as_u64()?))
}

fn told(text: &str) -> Result<Vec<Told>> {
    let one = |line| -> Result<Told> {
        let row: Value = serde_json::from_str(line).with_context(|| format!("the VMM says {line:?}"))?;
        let number = |key| number(&row, key);
        Ok(Told {
            vcpu: vcpu_of(&row).context("no vCPU")?,
            tid: number("tid")?,
            tsc_aux: number("tsc_aux")?,
            kvm_runs: number("kvm_runs")?,
            cpuids: number("cpuids")?,
        })
    };
    text.lines().map(one).collect()
}

fn number(row: &Value, key: &str) -> Result<u64> {
    row[key].as_u64().with_context(|| format!("{key} is no number in {row}"))
}

impl Kernel {
    fn of(sections: &Sections, name: &str) -> Result<Self> {
        let lines = |of: &str, radix_of_value| -> Result<Vec<((u64, u64), u64)>> {
            let line = |line: &str| -> Result<((u64, u64), u64)> {
                let words: Vec<&str> = line.split(' ').collect();
                let (thread, value, count) = match words[..] {
                    [thread, value, count] => (thread, u64::from_str_radix(value, radix_of_value)?, count),
                    [thread, count] => (thread, 0, count),
                    _ => anyhow::bail!("{of}: {line}"),
                };
                Ok(((thread.parse()?, value), count.parse()?))
            };
            sections.text(&format!("{name}.{of}"))?.lines().map(line).collect()
        };
        let by_both = |of, radix| Ok::<_, anyhow::Error>(lines(of, radix)?.into_iter().collect());
        Ok(Self {
            exits: by_both("exits", 10)?,
            returns: lines("returns", 10)?.into_iter().map(|((thread, _), count)| (thread, count)).collect(),
            writes: by_both("writes", 10)?,
            restores: by_both("restored", 16)?,
        })
    }
}
