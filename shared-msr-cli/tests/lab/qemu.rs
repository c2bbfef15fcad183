//! A real VMM: Debian's QEMU with several vCPUs, an I/O thread and a name, under a guest that makes known numbers of exits on each
//! CPU and says so (`xtask/guest`). Held against the kernel's own counts of each thread.

use std::{collections::BTreeMap, process::Command};

use serde::Deserialize;
use shared_msr::report::json::document::VcpuPart;

use crate::support::{
    Counted, Histogram, Measuring, Report, Running, UretRecord, assert_all_attributed, assert_threads, assert_verified, json,
    wait_until,
};

/// What each CPU of the guest is told to do.
const ACTS: &str = "cpuids=1000 outs=50 mmios=10 hlts=5 wrmsrs=7";
/// QEMU's, when the guest has written 0x10 to isa-debug-exit.
const GUEST_ENDED_WELL: i32 = 33;
const KVM_EXIT_IO: u64 = 2;
const KVM_EXIT_MMIO: u64 = 6;

fn qemu(cpus: u32, further: &str) -> Vec<String> {
    let append = format!("cpus={cpus} {ACTS} {further}");
    let words = "qemu-system-x86_64 -accel kvm -cpu host -m 32 -object iothread,id=io0 -name guest=web1,debug-threads=on -nodefaults \
                 -display none -no-reboot -kernel /boot/known-exits -debugcon stdio -device isa-debug-exit,iobase=0x501,iosize=4";
    let words = words.split_whitespace().map(str::to_owned);
    words.chain(["-smp".to_owned(), cpus.to_string(), "-append".to_owned(), append]).collect()
}

/// What a CPU of the guest says that it did.
#[derive(Debug, Deserialize)]
struct GuestCpu {
    cpu: u64,
    tsc_aux: u64,
    cpuids: u64,
    outs: u64,
    mmios: u64,
    hlts: u64,
    wrmsrs: u64,
    nested: u64,
}

fn told(ended_or_not: &str, cpus: u32) -> Vec<GuestCpu> {
    let told: Vec<GuestCpu> =
        ended_or_not.lines().map(|line| json(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    assert_eq!(told.len(), cpus as usize, "{told:?}");
    for one in &told {
        assert_eq!((one.cpuids, one.outs, one.mmios, one.hlts, one.wrmsrs), (1000, 50, 10, 5, 7), "it did what it was told");
        assert_eq!(one.tsc_aux, 0xa00 + one.cpu, "KVM loaded its value");
    }
    told
}

/// What the kernel counts of each thread.
struct Kernel {
    exits: Histogram,
    reasons: Histogram,
    returns: Histogram,
    writes: UretRecord,
}

/// What it counted.
struct KernelCounted {
    threads: Counted,
    /// Exits by thread and reason.
    reasons: BTreeMap<(u64, u64), u64>,
    /// Returns by thread and KVM_EXIT_*.
    returns: BTreeMap<(u64, u64), u64>,
}

impl Kernel {
    fn start() -> Self {
        Self {
            exits: Histogram::start("kvm/kvm_exit", &["common_pid", "vcpu_id"], None),
            reasons: Histogram::start("kvm/kvm_exit", &["common_pid", "exit_reason"], None),
            returns: Histogram::start("kvm/kvm_userspace_exit", &["common_pid", "reason"], None),
            writes: UretRecord::start(),
        }
    }

    fn read(&self) -> KernelCounted {
        let by_two =
            |histogram: &Histogram| histogram.read().into_iter().map(|(keys, count)| ((keys[0], keys[1]), count)).collect();
        let returns: BTreeMap<(u64, u64), u64> = by_two(&self.returns);
        let mut by_thread = BTreeMap::new();
        for ((tid, _), count) in &returns {
            *by_thread.entry(*tid).or_default() += count;
        }
        let writes = self.writes.read();
        let of_thread = |counts: BTreeMap<u64, u64>| counts.into_iter().map(|(tid, count)| ((tid, 0), count)).collect();
        let threads = Counted {
            exits: by_two(&self.exits),
            returns: by_thread,
            writes: of_thread(writes.written),
            restores: of_thread(writes.restored),
        };
        KernelCounted { threads, reasons: by_two(&self.reasons), returns }
    }
}

/// The row of a vCPU: one thread runs it, whose name QEMU gave it.
fn row(report: &Report, cpu: u64) -> &VcpuPart {
    let rows: Vec<&VcpuPart> = report.vcpus.iter().filter(|row| row.vcpu.as_u64() == Some(cpu)).collect();
    let [row] = rows.as_slice() else { panic!("rows of vCPU {cpu}: {:?}", report.vcpus) };
    assert_eq!(row.command, format!("CPU {cpu}/KVM"));
    row
}

/// All that can be told of a run.
fn hold(report: &Report, told: &[GuestCpu], kernel: &KernelCounted) {
    assert_verified(report);
    assert_all_attributed(report);
    assert_threads(report, &kernel.threads);
    let [vm] = report.vms.as_slice() else { panic!("{:?}", report.vms) };
    assert_eq!(vm.vcpus, told.len() as u64);
    for guest in told {
        let row = row(report, guest.cpu);
        assert_eq!((row.vm, row.vm_number), (vm.vm, vm.vm_number));
        let tid = u64::from(row.tid);
        let kernel_s_exits = kernel.threads.exits.get(&(tid, guest.cpu));
        assert_eq!(kernel_s_exits, Some(&row.numbers.exits), "thread {tid} ran no other vCPU");
        let returns = |reason| kernel.returns.get(&(tid, reason)).copied().unwrap_or(0);
        assert_eq!(returns(KVM_EXIT_MMIO), guest.mmios, "the guest, and the kernel: {guest:?}");
        // Firmware and what the guest prints is all done by the first CPU.
        let outs = returns(KVM_EXIT_IO);
        assert!(outs == guest.outs || (guest.cpu == 0 && outs > guest.outs), "{outs}: {guest:?}");
    }
    assert_reasons(report, told, kernel);
    assert_causes(report, kernel);
}

/// Exits of each thread by their reasons are the kernel's, and those that the guest made are among them.
fn assert_reasons(report: &Report, told: &[GuestCpu], kernel: &KernelCounted) {
    let reasons = report.reasons.as_deref().unwrap();
    let number = |name: &str| {
        let named = reasons.iter().find(|row| row.name.as_deref() == Some(name)).and_then(|row| row.reason);
        named.map_or_else(|| name.parse().unwrap_or_else(|_| panic!("{name} is in no row of {reasons:?}")), u64::from)
    };
    let mut rows = BTreeMap::new();
    for row in report.rows.as_deref().unwrap().iter().filter(|row| row["exits"] != 0) {
        let tid = row["vcpu"]["tid"].as_u64().unwrap_or_else(|| panic!("no thread: {row}"));
        *rows.entry((tid, number(row["reason"].as_str().unwrap()))).or_default() += row["exits"].as_u64().unwrap();
    }
    assert_eq!(rows, kernel.reasons, "exits by thread and reason: the report, and the kernel");
    let names = |svm: &'static str, vmx: &'static str| if reasons[0].isa == "svm" { svm } else { vmx };
    for guest in told {
        let tid = u64::from(row(report, guest.cpu).tid);
        let of = |name| rows.get(&(tid, number(name))).copied().unwrap_or(0);
        let made = [
            (names("cpuid", "CPUID"), guest.cpuids),
            (names("io", "IO_INSTRUCTION"), guest.outs),
            (names("hlt", "HLT"), guest.hlts),
            (names("msr", "MSR_WRITE"), guest.wrmsrs),
        ];
        for (name, made) in made {
            assert!(of(name) >= made, "{name}: {} of {guest:?}", of(name));
        }
    }
}

/// Returns to QEMU close windows under the kernel's reasons; who finds none open closes none.
fn assert_causes(report: &Report, kernel: &KernelCounted) {
    for (name, reason) in [("IO", KVM_EXIT_IO), ("MMIO", KVM_EXIT_MMIO)] {
        let rows = report.causes.iter().filter(|row| row.cause == "userspace-exit" && row.reason.as_deref() == Some(name));
        let closes: u64 = rows.map(|row| row.closes).sum();
        let returns: u64 = kernel.returns.iter().filter(|((_, found), _)| *found == reason).map(|(_, count)| count).sum();
        assert!(closes > 0 && closes <= returns, "{name}: {closes} closes, {returns} returns");
    }
}

/// A run to its end, and what the report and the kernel say of it.
fn until_the_vmm_ends(cpus: u32, further: &str) -> (Report, Vec<GuestCpu>, KernelCounted) {
    let measuring = Measuring::start("--by vcpu,reason");
    let kernel = Kernel::start();
    let words = qemu(cpus, further);
    let ended = Running::start(Command::new(&words[0]).args(&words[1..])).wait();
    // Only then: a window that is open when QEMU ends is closed by whoever comes next on that CPU.
    let report = measuring.stop().report;
    let counted = kernel.read();
    assert_eq!(ended.status, GUEST_ENDED_WELL, "{ended:?}");
    (report, told(&ended.stdout, cpus), counted)
}

mod guests {
    use super::*;

    #[test]
    fn two_vcpus_are_counted_thread_by_thread_until_the_vmm_ends() {
        let (report, told, counted) = until_the_vmm_ends(2, "");
        hold(&report, &told, &counted);
        assert!(report.vcpus.iter().all(|row| row.ended), "{:?}", report.vcpus);
    }

    #[test]
    fn four_vcpus_of_a_vmm_that_stays_are_known_by_its_name() {
        let measuring = Measuring::start("--by vcpu,reason");
        let kernel = Kernel::start();
        let words = qemu(4, "stay=1");
        let vmm = Running::start(Command::new(&words[0]).args(&words[1..]));
        wait_until("the guest has said what it did", || vmm.printed().0.lines().count() == 4 && vmm.printed().0.ends_with("}\n"));
        let report = measuring.stop().report;
        let counted = kernel.read();
        let (printed, process) = (vmm.printed().0, vmm.pid());
        drop(vmm);
        hold(&report, &told(&printed, 4), &counted);
        let vm = &report.vms[0];
        assert_eq!((vm.vm, vm.name.as_deref(), vm.command.as_deref()), (process, Some("web1"), Some("qemu-system-x86")));
        assert!(report.vcpus.iter().all(|row| row.name.as_deref() == Some("web1") && !row.ended), "{:?}", report.vcpus);
    }
}

/// Where the processor has SVM.
mod of_guests {
    use super::*;

    /// Each entry of the guest's own guest, and each exit of that, is one of the vCPU that runs both.
    #[test]
    fn a_guest_of_the_guest_makes_exits_of_the_same_vcpu() {
        const ENTRIES: u64 = 40;
        let reflected = Histogram::start("kvm/kvm_nested_vmexit_inject", &["common_pid"], None);
        let (report, told, counted) = until_the_vmm_ends(2, &format!("nested={ENTRIES}"));
        let reflected = reflected.read();
        hold(&report, &told, &counted);
        let rows = report.rows.as_deref().unwrap();
        for guest in &told {
            assert_eq!(guest.nested, ENTRIES, "each entry was ended by the guest's guest: {guest:?}");
            let tid = row(&report, guest.cpu).tid;
            assert_eq!(reflected.get(&vec![tid.into()]), Some(&ENTRIES), "what the kernel passed on to the guest: {reflected:?}");
            let exits = |reason: &str| -> u64 {
                let of = rows.iter().filter(|row| row["vcpu"]["tid"] == tid && row["reason"] == reason);
                of.map(|row| row["exits"].as_u64().unwrap()).sum()
            };
            assert_eq!(exits("vmrun"), ENTRIES, "{rows:?}");
            assert!(exits("cpuid") >= guest.cpuids + ENTRIES, "of both guests: {rows:?}");
        }
    }
}
