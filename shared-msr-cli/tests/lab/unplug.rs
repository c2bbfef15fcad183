//! A CPU that goes away with a guest's values in its hardware, and comes back.
//!
//! All but guests runs on CPU 0, so that nothing ends a window of CPU 1.

use std::fs;

use shared_msr::{guest::GuestOutcome, report::json::document::Cpu};

use crate::support::{
    Counter, Guest, KernelCounter, Measured, Measuring, Report, assert_all_attributed, assert_verified, inspect, json, measure,
    on_cpu, shared_msr, wait_until,
};

const ONLINE: &str = "/sys/devices/system/cpu/cpu1/online";
/// On CPU 1.
const SHORT_GUEST: &str = "guest --format json --cpu 1 --outs 50 --cpuids 10 --tsc-aux 0xdef";
/// `KVM_RUN` calls of the short guest, and the call that sets its MSR.
const OF_SHORT_GUEST: u64 = 51;

/// CPU 1 while it is away. It comes back when this is dropped.
struct Offline;

impl Offline {
    fn take() -> Self {
        fs::write(ONLINE, "0").unwrap();
        let offline = Self;
        assert_eq!(fs::read_to_string(ONLINE).unwrap().trim(), "0", "CPU 1 was taken offline");
        offline
    }

    fn back(self) {
        drop(self);
        assert_eq!(fs::read_to_string(ONLINE).unwrap().trim(), "1", "CPU 1 came back");
    }
}

impl Drop for Offline {
    fn drop(&mut self) {
        if let Err(error) = fs::write(ONLINE, "1") {
            eprintln!("CPU 1 does not come back: {error}");
        }
    }
}

#[test]
fn a_cpu_that_goes_away_inside_a_window_restores_the_host_s_value() {
    on_cpu(0, unplugged);
}

fn unplugged() {
    let measuring = Measuring::start("");
    let exits = KernelCounter::start("kvm/kvm_exit", None);
    // All exits of this guest are the kernel's own business, so that it stays inside a window.
    let guest = Guest::start("--spin --cpuids 1 --cpu 1 --tsc-aux 0xabc");
    let process = guest.pid();
    wait_until("CPU 1 is inside a window, with the guest's value", || {
        let inspected = inspect();
        let cpu = inspected.cpus.iter().find(|row| row.cpu == 1).unwrap();
        cpu.registered && cpu.values[0].curr == 0xabc
    });
    // The vCPU's thread is pushed to CPU 0, its value stays behind.
    let offline = Offline::take();
    let before = exits.by_cpu()[&0];
    wait_until("the guest goes on on CPU 0", || exits.by_cpu()[&0] > before + 100);
    offline.back();
    guest.stop();
    let after = inspect();
    assert!(!after.cpus.iter().find(|row| row.cpu == 1).unwrap().registered, "then it is in no window: {after:?}");
    run_short_guest();
    let measured = measuring.stop();
    measured.assert_right();
    assert_verified(&measured.report);
    assert_all_attributed(&measured.report);
    assert_drop(&measured.report, process);
    assert_cpu_1(&measured);
    assert!(cpu_1(&measured.report).counts.performed > Some(OF_SHORT_GUEST), "that, and the drop: CPU 1 is counted on");
    let of_short: Vec<_> = measured.report.vcpus.iter().filter(|row| row.vm != process).collect();
    let [of_short] = of_short.as_slice() else { panic!("the short guest has one row: {of_short:?}") };
    assert_eq!(of_short.numbers.performed, Some(OF_SHORT_GUEST), "all restores of the short guest are its vCPU's");
}

#[test]
fn a_cpu_that_was_away_is_counted_by_a_measurement_that_begins_then() {
    on_cpu(0, again);
}

fn again() {
    Offline::take().back();
    let guest: Vec<&str> = std::iter::once("shared-msr").chain(SHORT_GUEST.split(' ')).collect();
    let measured = measure("", &guest);
    measured.assert_right();
    assert_verified(&measured.report);
    assert_cpu_1(&measured);
    assert_eq!(cpu_1(&measured.report).counts.performed, Some(OF_SHORT_GUEST));
}

#[test]
fn a_cpu_that_comes_while_it_is_measured_is_counted_from_its_first_exit_on() {
    on_cpu(0, arriving);
}

fn arriving() {
    let offline = Offline::take();
    let measuring = Measuring::start("");
    offline.back();
    run_short_guest();
    let measured = measuring.stop();
    measured.assert_right();
    assert_verified(&measured.report);
    assert_all_attributed(&measured.report);
    assert_cpu_1(&measured);
    assert_eq!(cpu_1(&measured.report).counts.performed, Some(OF_SHORT_GUEST));
}

/// The short guest does what it is told to.
fn run_short_guest() {
    let ended = shared_msr(SHORT_GUEST);
    let short: GuestOutcome = json(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    assert_eq!(short.kvm_runs + short.set_msrs_calls, OF_SHORT_GUEST, "{short:?}");
}

/// One window was closed by KVM giving the CPU up, on behalf of the guest.
fn assert_drop(report: &Report, process: u32) {
    let drops: Vec<_> = report.causes.iter().filter(|row| row.cause == "drop" && row.closes > 0).collect();
    let [row] = drops.as_slice() else { panic!("exactly one drop: {:?}", report.causes) };
    assert_eq!((row.closes, row.performed), (1, 1), "the drop restored the host's value: {row:?}");
    let payer = row.payer.as_ref().and_then(|payer| payer.command.as_deref());
    assert!(payer.is_some_and(|payer| payer.ends_with("/1")), "a kernel thread of CPU 1 did it: {row:?}");
    let spinning: Vec<_> = report.vcpus.iter().filter(|row| row.vm == process).collect();
    let [spinning] = spinning.as_slice() else { panic!("the spinning guest has one row: {spinning:?}") };
    let numbers = &spinning.numbers;
    assert!(numbers.performed > Some(0));
    assert_eq!(numbers.set_written, numbers.performed, "all that it loaded was restored, also on the CPU that went away");
}

/// CPU 1 against the kernel's count of that CPU.
fn assert_cpu_1(measured: &Measured) {
    let Cpu { events, counts, .. } = cpu_1(&measured.report);
    for counter in [Counter::Performed, Counter::Exits] {
        assert_eq!(counter.counted(events, counts), measured.kernel[&counter].get(&1).copied(), "{counter:?} on CPU 1");
    }
}

fn cpu_1(report: &Report) -> &Cpu {
    report.cpus.iter().find(|row| row.cpu == 1).unwrap()
}
