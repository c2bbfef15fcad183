//! Kernels that lack something that this one has: each way to read kernel memory tells the same, and maps that a kernel may lack are
//! made only for what needs them. The program is told to do without (`probe::refuse`).

use std::{fs, thread};

use shared_msr::{
    kernel::structure::Structure,
    probe::{refuse, target::Target},
};

use crate::{
    support::{
        Ended, Guest, Refused, Running, assert_all_attributed, assert_verified, command, inspect, on_cpu, shared_msr, wait_until,
    },
    unreadable::{Symbols, UNMAPPED, USER},
};

/// The ways after the first one, each with what must be refused so that it is taken, and as it calls itself.
const HUMBLER: [(&[&str], &str); 2] = [
    (&[refuse::RUN_ON_DEMAND], "a program on page faults of this thread"),
    (&[refuse::RUN_ON_DEMAND, refuse::PAGE_FAULT], "/proc/kcore"),
];
/// Among the addresses of modules (arch/x86/include/asm/pgtable_64_types.h, from `MODULES_VADDR` on), far beyond those that are loaded.
const NO_MODULE: &str = "ffffffffe0000000";

// include/uapi/linux/bpf.h, `enum bpf_map_type`
const QUEUE: u32 = 22;
const RING_BUFFER: u32 = 27;

fn refused(ways: &[&'static str]) -> Vec<Refused> {
    ways.iter().map(|way| Refused::way(way)).collect()
}

/// A guest of which the numbers are known, measured.
fn known(words: &str) -> Ended {
    shared_msr(&format!("report {words} --verify --format json -- shared-msr guest --outs 50 --cpuids 10 --tsc-aux 0xabc"))
}

#[track_caller]
fn assert_exact(ended: &Ended) {
    assert_eq!(ended.status, 0, "{ended:?}");
    let report = ended.report();
    assert_eq!(report.totals.counts.performed, Some(51), "50 KVM_RUN + 1");
    assert_verified(&report);
    assert_all_attributed(&report);
}

#[test]
fn each_way_shows_the_same_tables() {
    on_cpu(0, || {
        let tables = || shared_msr("inspect --format json");
        let first = tables();
        assert!(first.status == 0 && first.stdout.contains("TSC_AUX"), "{first:?}");
        for (ways, name) in HUMBLER {
            let _refused = refused(ways);
            let other = tables();
            assert_eq!((other.status, &other.stdout), (0, &first.stdout), "{name}: {other:?}");
        }
    });
}

#[test]
fn each_way_sees_a_guest_s_value_in_the_hardware() {
    on_cpu(0, || {
        let guest = Guest::start("--spin --cpu 1 --tsc-aux 0xabc");
        for (ways, name) in HUMBLER {
            let _refused = refused(ways);
            wait_until(name, || {
                let cpu = &inspect().cpus[1];
                assert_eq!(cpu.values[0].host, 1, "the host's TSC_AUX is the number of the CPU");
                cpu.registered && cpu.values[0].curr == 0xabc
            });
        }
        guest.stop();
    });
}

#[test]
fn reports_are_exact_by_each_way_and_say_why_not_by_a_better_one() {
    for (ways, name) in HUMBLER {
        let _refused = refused(ways);
        let ended = known("-v");
        assert_exact(&ended);
        let said = ended.stderr.lines().filter(|line| line.contains("kernel memory not by ")).count();
        assert_eq!(said, ways.len(), "{name}: {ended:?}");
    }
}

#[test]
fn doctor_names_the_way_that_is_used_and_why_there_is_no_better_one() {
    for (ways, name) in HUMBLER {
        let _refused = refused(ways);
        let doctor = shared_msr("doctor");
        assert_eq!(doctor.status, 0, "{doctor:?}");
        let lines: Vec<&str> = doctor.stdout.lines().filter(|line| line.contains(" memory  ")).collect();
        let (taken, others) = lines.split_last().unwrap();
        assert!(taken.starts_with("ok ") && taken.ends_with(&format!("by {name}")), "{lines:?}");
        assert_eq!(others.len(), ways.len(), "{lines:?}");
        assert!(others.iter().all(|line| line.starts_with("no ") && line.contains("SHARED_MSR_REFUSE refuses")), "{lines:?}");
    }
}

#[test]
fn without_any_way_each_is_named() {
    let _refused = refused(&[refuse::RUN_ON_DEMAND, refuse::PAGE_FAULT, refuse::KCORE]);
    let ended = shared_msr("inspect");
    ended.assert_one_sentence(1, "kernel memory cannot be read by a program run on demand");
    for way in HUMBLER.map(|(_, name)| name) {
        assert!(ended.stderr.contains(&format!("nor by {way} (")), "{ended:?}");
    }
}

/// Zeros are what the kernel leaves, or puts, in place of what cannot be read.
#[test]
fn what_cannot_be_read_is_told_from_zero_by_each_way() {
    for (address, by_fault, by_kcore) in [
        (USER, "no address of the kernel", "as far as /proc/kcore knows"),
        (UNMAPPED, "nothing is mapped there", "as far as /proc/kcore knows"),
        (NO_MODULE, "nothing is mapped there", "where nothing is mapped"),
    ] {
        let symbols = Symbols::read();
        let _covered = symbols.at(symbols.list(), address);
        for ((ways, name), why) in HUMBLER.into_iter().zip([by_fault, by_kcore]) {
            let _refused = refused(ways);
            let ended = shared_msr("inspect");
            ended.assert_one_sentence(1, "the length of KVM's list of MSRs");
            assert!(ended.stderr.contains("cannot be read") && ended.stderr.contains(why), "{name}, {address}: {ended:?}");
        }
    }
}

/// A page fault counts where it happens: a thread that did not begin to ask must be heard as well.
#[test]
fn a_thread_that_did_not_open_the_way_is_answered_too() {
    // Before its first guest, KVM has not looked up the host's values yet (6.1).
    assert_eq!(shared_msr("guest --outs 1").status, 0);
    let target = found_without(refuse::RUN_ON_DEMAND);
    let (target, there) = thread::spawn(|| {
        let read = structures(&target);
        (target, read)
    })
    .join()
    .unwrap();
    let here = structures(&target);
    assert_eq!(here, there);
    assert_eq!(here[1].values[0].host, 1, "the host's TSC_AUX is the number of the CPU");
}

/// What this process itself finds without a way.
fn found_without(way: &str) -> Target {
    // SAFETY: tests run one at a time in the lab, and no other thread of this program looks at its environment.
    unsafe { std::env::set_var(refuse::VARIABLE, way) };
    let target = Target::find();
    // SAFETY: as above.
    unsafe { std::env::remove_var(refuse::VARIABLE) };
    let target = target.unwrap_or_else(|why| panic!("{why}"));
    let name = target.tables().map(|tables| tables.reader.name);
    assert_eq!(name, Ok(HUMBLER[0].1));
    target
}

fn structures(target: &Target) -> Vec<Structure> {
    let tables = target.tables().unwrap_or_else(|why| panic!("{why}"));
    tables.structures.iter().map(|address| tables.read_structure(*address).unwrap_or_else(|why| panic!("{why}"))).collect()
}

/// The kinds of the maps that a process has, as the kernel numbers them.
fn maps_of(process: u32) -> Vec<u32> {
    let files = fs::read_dir(format!("/proc/{process}/fdinfo")).unwrap().flatten();
    let infos = files.filter_map(|file| fs::read_to_string(file.path()).ok());
    infos.filter_map(|info| info.lines().find_map(|line| line.strip_prefix("map_type:")?.trim().parse().ok())).collect()
}

#[test]
fn ring_buffers_and_queues_are_made_for_what_needs_them() {
    for (words, ring_buffers, has_queue) in [
        ("report", 0, false),
        ("report --by reason,vcpu", 0, true),
        ("report --kernel-log", 1, false),
        // By reason, too.
        ("trace --output /dev/null", 1, true),
    ] {
        let mut running = Running::start(&mut command(words));
        running.wait_until_attached();
        let maps = maps_of(running.pid());
        assert!(maps.len() > 10, "{words}: {maps:?}");
        assert_eq!(maps.iter().filter(|kind| **kind == RING_BUFFER).count(), ring_buffers, "{words}: {maps:?}");
        assert_eq!(maps.contains(&QUEUE), has_queue, "{words}: {maps:?}");
        running.signal(libc::SIGINT);
        assert_eq!(running.wait().status, 0, "{words}");
    }
}

#[test]
fn without_ring_buffers_all_that_needs_none_is_exact() {
    let _refused = Refused::way(refuse::RING_BUFFER);
    assert_exact(&known("--by reason,vcpu"));
    for words in ["trace --duration 100ms", "report --kernel-log --duration 100ms"] {
        shared_msr(words).assert_one_sentence(1, "refuses ring_buffer");
    }
}

#[test]
fn rows_are_read_one_by_one_where_they_do_not_come_in_batches() {
    let _refused = Refused::way(refuse::BATCH);
    assert_exact(&known("--by vcpu,cause,payer"));
}
