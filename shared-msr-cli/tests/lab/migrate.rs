//! A vCPU that moves between two CPUs: its own numbers stay whole, and each CPU has what happened on it.

use std::{fs, io};

use shared_msr::{guest::GuestOutcome, report::json::document::Cpu};

use crate::support::{Counter, Guest, KernelCounter, Measured, Measuring, assert_all_attributed, assert_verified, wait_until};

/// Moves without which nothing is shown.
const MOVES: usize = 8;
/// Exits on a CPU before the next move.
const EXITS: u64 = 500;

#[test]
fn a_vcpu_that_moves_is_counted_whole() {
    migrated("");
}

#[test]
fn rows_by_vcpu_and_cpu_have_what_it_did_on_each() {
    let report = migrated("--by vcpu,cpu").report;
    let (rows, tid) = (report.rows.as_ref().unwrap(), report.vcpus[0].tid);
    for number in [0, 1] {
        let found: Vec<_> = rows.iter().filter(|row| row["cpu"] == number && row["vcpu"]["tid"] == tid).collect();
        let [row] = found.as_slice() else { panic!("one row on CPU {number}: {found:?}") };
        let Cpu { events, counts, .. } = report.cpus.iter().find(|row| row.cpu == number).unwrap();
        // No other vCPU ran: its row here is the CPU's.
        for (column, of_cpu) in
            [("exits", Some(events.exits)), ("closes", events.windows_closed), ("performed", counts.performed)]
        {
            assert_eq!(row[column].as_u64(), of_cpu, "{column} on CPU {number}");
        }
    }
    for counter in [Counter::Exits, Counter::Deferred, Counter::Performed] {
        let column = format!("{counter:?}").to_lowercase();
        let sum: u64 = rows.iter().map(|row| row[&column].as_u64().unwrap()).sum();
        assert_eq!(Some(sum), counter.of_totals(&report), "{column} over rows");
    }
}

/// Measures a guest whose vCPU is moved to and fro.
fn migrated(words: &str) -> Measured {
    let measuring = Measuring::start(words);
    let exits = KernelCounter::start("kvm/kvm_exit", None);
    let guest = Guest::start("--outs 1000000000 --cpuids 50 --tsc-aux 0xabc");
    let process = guest.pid();
    let thread = thread_of_vcpu(process);
    for number in 0..MOVES {
        let cpu = u32::try_from(number % 2).unwrap();
        move_to(thread, cpu);
        let before = exits.by_cpu()[&cpu];
        wait_until("the vCPU makes exits where it is now", || exits.by_cpu()[&cpu] >= before + EXITS);
    }
    let guest = guest.cut_short();
    let measured = measuring.stop();
    measured.assert_right();
    assert_verified(&measured.report);
    assert_all_attributed(&measured.report);
    assert_vcpu(&measured, process, &guest);
    assert_cpus(&measured);
    measured
}

fn assert_vcpu(measured: &Measured, process: u32, guest: &GuestOutcome) {
    let found: Vec<_> = measured.report.vcpus.iter().filter(|row| row.vm == process).collect();
    let [vcpu] = found.as_slice() else { panic!("the guest has one vCPU: {found:?}") };
    let numbers = &vcpu.numbers;
    assert_eq!(numbers.userspace_exits, guest.kvm_runs, "{guest:?}");
    assert!(numbers.exits >= guest.cpuids + guest.outs, "{numbers:?} {guest:?}");
    assert_eq!(numbers.set_written, numbers.performed, "what the vCPU loaded was restored");
    assert!(numbers.performed >= Some(guest.kvm_runs), "once for each KVM_RUN call at least: {numbers:?} {guest:?}");
}

/// Each CPU against the kernel's count of that CPU.
fn assert_cpus(measured: &Measured) {
    for row in &measured.report.cpus {
        for (counter, kernel) in &measured.kernel {
            let seen = counter.counted(&row.events, &row.counts);
            assert!(seen > Some(0), "{counter:?} of CPU {}", row.cpu);
            assert_eq!(seen, kernel.get(&row.cpu).copied(), "{counter:?} of CPU {}, and by the kernel", row.cpu);
        }
    }
    assert_eq!(measured.report.cpus.iter().map(|row| row.cpu).collect::<Vec<u32>>(), [0, 1]);
}

/// The thread that runs the guest's vCPU.
fn thread_of_vcpu(process: u32) -> u32 {
    let mut thread = None;
    wait_until("the guest has a thread for its vCPU", || {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
        let is_it = |path: &std::path::Path| fs::read_to_string(path.join("comm")).is_ok_and(|name| name == "guest-vcpu\n");
        thread = tasks.map(|task| task.path()).find(|path| is_it(path));
        thread.is_some()
    });
    thread.unwrap().file_name().unwrap().to_str().unwrap().parse().unwrap()
}

/// Lets another thread run on this CPU and nowhere else.
fn move_to(thread: u32, cpu: u32) {
    let (thread, mask) = (i32::try_from(thread).unwrap(), 1u64 << cpu);
    // SAFETY: the kernel reads as many bytes as the second argument says, which is the length of the mask.
    let result = unsafe { libc::sched_setaffinity(thread, size_of_val(&mask), (&raw const mask).cast()) };
    assert_eq!(result, 0, "cannot move {thread} to CPU {cpu}: {}", io::Error::last_os_error());
}
