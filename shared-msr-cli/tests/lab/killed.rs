//! However the program ends, nothing of it stays in the kernel, whichever hooks it used.

use std::{fs, path::PathBuf};

use crate::support::{
    Guest, Running, WithoutKvm, command, programs_in_kernel, shared_msr, wait_until, wait_until_no_program_is_left,
};

/// What is hooked: sets, closes, drops.
const HOOKED: [&str; 3] = ["kvm_set_user_return_msr", "kvm_on_user_return", "kvm_arch_disable_virtualization_cpu"];

/// Nine programs: those for the three functions, exits, returns to the VMM, ends of threads, programs that are executed, vCPUs
/// that are made, and the reader of kernel memory.
#[test]
fn nothing_of_kprobes_stays() {
    assert_nothing_stays("kprobe", 3, 9);
}

#[test]
fn nothing_of_fentry_stays() {
    assert_nothing_stays("fentry", 3, 9);
}

/// WRMSRs take the place of the three functions.
#[test]
fn nothing_of_tracepoints_stays() {
    assert_nothing_stays("tracepoint", 0, 7);
}

fn assert_nothing_stays(step: &str, functions: usize, programs: usize) {
    let guest = Guest::start("--spin --cpuids 1 --tsc-aux 0xabc");
    let before = [mounts(), kprobe_events()];
    assert!(before[0].len() > 3, "mounts are listed: {before:?}");
    for (signal, status) in [(libc::SIGKILL, 137), (libc::SIGTERM, 0)] {
        let mut report = Running::start(&mut command(&format!("report --probe {step}")));
        report.wait_until_attached();
        // The listings must be able to show what they are asked for, or their silence would mean nothing.
        assert_eq!(programs_in_kernel().len(), programs, "{:?}", programs_in_kernel());
        assert_eq!(hooked_functions().len(), functions, "{:?}", hooked_functions());
        assert!(!descriptors().is_empty(), "descriptors of programs are seen while it measures");
        if signal == libc::SIGKILL {
            assert!(listed_programs().contains(&format!(" {programs} programs")), "{}", listed_programs());
        }
        report.signal(signal);
        let ended = report.wait();
        assert_eq!(ended.status, status, "{ended:?}");
        assert_eq!(descriptors(), [] as [PathBuf; 0]);
        // The kernel takes functions off, and frees programs, after the last descriptor is closed.
        wait_until("no function is hooked any more", || hooked_functions().is_empty());
        wait_until_no_program_is_left();
        assert_eq!([mounts(), kprobe_events()], before);
    }
    assert!(listed_programs().contains("no program of shared-msr"), "{}", listed_programs());
    guest.stop();
    // Modules that something still held could not be taken out.
    drop(WithoutKvm::new());
}

/// The kernel's own listing of functions that anything is hooked to.
fn hooked_functions() -> Vec<String> {
    let all = lines("/sys/kernel/tracing/enabled_functions");
    all.into_iter().filter(|line| HOOKED.iter().any(|function| line.starts_with(function))).collect()
}

/// Those that any process holds a BPF program or link by.
fn descriptors() -> Vec<PathBuf> {
    let entries = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let of_bpf = |file: &PathBuf| {
        let info = fs::read_to_string(file).unwrap_or_default();
        info.lines().any(|line| line.starts_with("prog_type:") || line.starts_with("link_type:"))
    };
    entries("/proc".into()).flat_map(|process| entries(process.join("fdinfo"))).filter(of_bpf).collect()
}

/// What doctor says of the programs that the kernel has.
fn listed_programs() -> String {
    let doctor = shared_msr("doctor").stdout;
    doctor.lines().find(|line| line.contains(" others ")).unwrap_or_else(|| panic!("{doctor}")).to_owned()
}

fn mounts() -> Vec<String> {
    lines("/proc/mounts")
}

fn kprobe_events() -> Vec<String> {
    lines("/sys/kernel/tracing/kprobe_events")
}

fn lines(file: &str) -> Vec<String> {
    let mut lines: Vec<String> = fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}
