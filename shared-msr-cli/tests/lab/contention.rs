//! A guest and two busy tasks on one CPU: who pays is mostly somebody else, whose it is is always the guest's vCPU.
//!
//! All else runs on CPU 0, so that nobody else closes the guest's windows on CPU 1.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use shared_msr::guest::GuestOutcome;
use tempfile::tempdir;

use crate::support::{
    Counter, Guest, KernelCounter, Measured, Measuring, Running, assert_all_attributed, assert_verified, on_cpu, wait_until,
};

/// What each of the busy tasks must have paid for.
const RESTORES: u64 = 20;
/// How often the guest must have gone back to its VMM.
const RETURNS: u64 = 10;

/// A task that never sleeps, on CPU 1.
struct Busy {
    name: &'static str,
    running: Running,
    /// WRMSRs to the host's value that it did, by the kernel.
    restores: KernelCounter,
}

impl Busy {
    fn start(folder: &Path, name: &'static str) -> Self {
        // A task is named after its script.
        let script = folder.join(name);
        fs::write(&script, "#!/bin/sh\nwhile :; do :; done\n").unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let running = on_cpu(1, move || Running::start(&mut Command::new(script)));
        let filter = format!("msr == 0xc0000103 && val < 8 && common_pid == {}", running.pid());
        Self { name, running, restores: KernelCounter::start("msr/write_msr", Some(&filter)) }
    }
}

#[test]
fn busy_tasks_pay_for_most_windows_and_all_of_them_are_the_guest_s() {
    on_cpu(0, contended);
}

fn contended() {
    let folder = tempdir().unwrap();
    let busy = ["busy_a", "busy_b"].map(|name| Busy::start(folder.path(), name));
    let measuring = Measuring::start("--by vcpu,cause");
    let returns = KernelCounter::start("kvm/kvm_userspace_exit", None);
    let guest = Guest::start_as_others("--cpu 1 --outs 1000000 --cpuids 1500 --tsc-aux 0xabc");
    let process = guest.pid();
    wait_until("both busy tasks have closed windows, together most of them", || {
        let (returns, restores) = (returns.count(), [&busy[0], &busy[1]].map(|busy| busy.restores.count()));
        returns >= RETURNS && restores.iter().all(|restores| *restores >= RESTORES) && restores.iter().sum::<u64>() > 2 * returns
    });
    let guest = guest.cut_short();
    let measured = measuring.stop();
    measured.assert_right();
    assert_verified(&measured.report);
    assert_all_attributed(&measured.report);
    assert_exits(&measured, &guest);
    assert_payers(&measured, &busy);
    assert_owner(&measured, process);
    assert_rows(&measured);
}

fn assert_exits(measured: &Measured, guest: &GuestOutcome) {
    let events = measured.report.totals.events;
    assert_eq!(events.userspace_exits, guest.kvm_runs, "{guest:?}");
    assert!(events.exits >= guest.cpuids + guest.outs, "{events:?} {guest:?}");
}

/// Foreign closes by who paid.
fn assert_payers(measured: &Measured, busy: &[Busy]) {
    let rows = || measured.report.causes.iter().filter(|row| row.cause == "foreign");
    let foreign: u64 = rows().map(|row| row.closes).sum();
    let closed = measured.report.totals.events.windows_closed.unwrap();
    assert!(foreign * 2 > closed, "most windows are closed by other tasks: {foreign} of {closed}");
    let mut theirs = 0;
    for task in busy {
        let is_it = |payer: &shared_msr::report::json::document::PayerPart| {
            (payer.command.as_deref(), payer.tgid) == (Some(task.name), Some(task.running.pid()))
        };
        let found: Vec<_> = rows().filter(|row| row.payer.as_ref().is_some_and(is_it)).collect();
        let [row] = found.as_slice() else { panic!("{}: {found:?}", task.name) };
        assert!(row.closes > 0);
        assert_eq!((row.closes, row.performed), (task.restores.count(), row.closes), "WRMSRs of {} by the kernel", task.name);
        theirs += row.closes;
    }
    assert!(theirs * 100 >= foreign * 95, "they pay for 95 % of these: {theirs} of {foreign}, {:?}", measured.report.causes);
}

/// All of it is one vCPU's.
fn assert_owner(measured: &Measured, process: u32) {
    let report = &measured.report;
    let found: Vec<_> = report.vcpus.iter().filter(|row| row.vm == process && row.vcpu == 0).collect();
    let [vcpu] = found.as_slice() else { panic!("the guest has one vCPU: {found:?}") };
    for counter in [Counter::WindowsClosed, Counter::Performed, Counter::Deferred] {
        let of_vcpu = counter.of(&vcpu.numbers);
        assert!(of_vcpu > Some(0), "{counter:?}");
        assert_eq!(of_vcpu, counter.of_totals(report), "{counter:?} of this vCPU, and in total");
    }
}

/// The rows of `--by vcpu,cause`: each close of each cause is the vCPU's.
fn assert_rows(measured: &Measured) {
    let report = &measured.report;
    let (rows, tid) = (report.rows.as_ref().unwrap(), report.vcpus[0].tid);
    let closed: Vec<_> = rows.iter().filter(|row| row["closes"] != 0).collect();
    assert!(closed.len() > 1, "more than one cause: {rows:?}");
    for row in &closed {
        assert!(row["vcpu"]["tid"] == tid && row["vcpu"]["vcpu"] == 0, "not the guest's: {row}");
    }
    let events = report.totals.events;
    for (column, total) in
        [("closes", events.windows_closed), ("performed", report.totals.counts.performed), ("clean_closes", events.clean_closes)]
    {
        assert_eq!(Some(rows.iter().map(|row| row[column].as_u64().unwrap()).sum::<u64>()), total, "{column} over rows");
    }
    let mut by_cause: BTreeMap<bool, u64> = BTreeMap::new();
    for row in rows {
        *by_cause.entry(row["cause"].as_str().unwrap().starts_with("foreign")).or_default() += row["closes"].as_u64().unwrap();
    }
    let foreign: u64 = report.causes.iter().filter(|row| row.cause == "foreign").map(|row| row.closes).sum();
    assert_eq!(by_cause[&true], foreign, "foreign closes over rows, and over causes");
}
