//! What happens to VMMs on real hosts: they live in containers, are stopped and killed, and have names of all kinds.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::symlink,
    },
    path::Path,
    process::Command,
};

use crate::support::{
    Foreign, Guest, KernelCounter, KernelThreads, Measured, Measuring, Running, Told, assert_all_attributed, assert_each_row,
    assert_threads, assert_verified, assert_vms, process_named, wait_for_exits, wait_until,
};

/// It is whole: totals are the kernel's, nothing is lost, nothing is nobody's.
fn assert_whole(measured: &Measured) {
    measured.assert_right();
    assert_verified(&measured.report);
    assert_all_attributed(&measured.report);
}

/// A VMM that has done its work and stays, so that its names can still be read.
fn staying(mut command: Command) -> Running {
    let vmm = Running::start(&mut command);
    wait_until(&format!("{command:?} has done its work"), || vmm.printed().0.ends_with("}\n"));
    vmm
}

#[test]
fn a_vmm_in_a_pid_namespace_is_known_by_the_numbers_of_the_host() {
    let measuring = Measuring::start("");
    let kernel = KernelThreads::start();
    let mut command = Command::new("unshare");
    command.args("--pid --fork shapes --stay --cpu 0 turns 20 1".split(' '));
    let vmm = staying(command);
    let process = process_named("shapes").unwrap();
    let _vmm_itself = Foreign(process);
    let measured = measuring.stop();
    let told = Told::of(&vmm.printed().0);
    assert_whole(&measured);
    assert_threads(&measured.report, &kernel.read());
    assert!(told.iter().all(|one| one.vm == 1), "the VMM sees itself as the first process: {told:?}");
    let [vm] = measured.report.vms.as_slice() else { panic!("{:?}", measured.report.vms) };
    assert_eq!((vm.vm, vm.command.as_deref()), (process, Some("shapes")));
    // Who only set MSRs has a row without exits.
    let ran = measured.report.vcpus.iter().filter(|row| row.numbers.exits > 0);
    assert_eq!((ran.count(), told.len()), (2, 2));
}

/// QEMU's names, as they come on its command line, and as they must be shown.
#[test]
fn names_of_all_kinds_are_shown_and_two_vms_of_one_name_stay_two() {
    let names: [(&[u8], &str); 5] = [
        (b"guest=web 1,debug-threads=on", "web 1"),
        ("guest=gästehaus–7".as_bytes(), "gästehaus–7"),
        (b"guest=\x1b[31mred\x07", "?[31mred?"),
        (b"twin", "twin"),
        (b"twin", "twin"),
    ];
    let qemu = Path::new("/tmp/qemu-system-x86_64");
    if !qemu.exists() {
        symlink("/bin/shapes", qemu).unwrap();
    }
    let measuring = Measuring::start("");
    let kernel = KernelThreads::start();
    let vmms = (0..).zip(names).map(|(number, (name, _))| {
        let mut command = Command::new(qemu);
        command.arg("-name").arg(OsStr::from_bytes(name)).args(["--stay", "one", &(2561 + number).to_string(), "50"]);
        staying(command)
    });
    let vmms: Vec<Running> = vmms.collect();
    let measured = measuring.stop();
    let told: Vec<Told> = vmms.iter().flat_map(|vmm| Told::of(&vmm.printed().0)).collect();
    drop(vmms);
    assert_whole(&measured);
    let counted = kernel.read();
    assert_threads(&measured.report, &counted);
    assert_each_row(&measured.report, &told, &counted);
    assert_vms(&measured.report, &told);
    for (one, (_, name)) in told.iter().zip(names) {
        let row = measured.report.vms.iter().find(|row| row.vm == one.vm).unwrap();
        assert_eq!(row.name.as_deref(), Some(name));
    }
}

#[test]
fn bytes_that_are_no_text_do_not_end_a_name() {
    let qemu = Path::new("/tmp/qemu-system-x86_64");
    if !qemu.exists() {
        symlink("/bin/shapes", qemu).unwrap();
    }
    let measuring = Measuring::start("");
    let mut command = Command::new(qemu);
    command.arg("-name").arg(OsString::from_vec(b"a\xffb".to_vec())).args(["--stay", "one", "2561", "50"]);
    let vmm = staying(command);
    let measured = measuring.stop();
    drop(vmm);
    assert_whole(&measured);
    assert_eq!(measured.report.vms[0].name.as_deref(), Some("a\u{fffd}b"));
}

/// A guest that spins on CPU 1, inside a window, with as many exits by now.
fn spinning(exits: u64) -> Guest {
    let guest = Guest::start("--spin --cpuids 1 --cpu 1 --tsc-aux 0xabc");
    wait_for_exits(exits);
    guest
}

#[test]
fn a_vcpu_that_is_stopped_inside_a_window_and_goes_on_is_counted_through() {
    let measuring = Measuring::start("");
    let guest = spinning(2000);
    guest.signal(libc::SIGSTOP);
    let stat = format!("/proc/{}/stat", guest.pid());
    wait_until("it is stopped", || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T ")));
    let counter = KernelCounter::start("kvm/kvm_exit", None);
    // Others run on its CPU meanwhile: the window is closed by one of them.
    crate::support::close_windows();
    assert_eq!(counter.count(), 0, "nobody makes exits while it is stopped");
    guest.signal(libc::SIGCONT);
    wait_for_exits(2000);
    guest.stop();
    let measured = measuring.stop();
    assert_whole(&measured);
    assert!(measured.report.totals.events.exits > 4000, "{:?}", measured.report.totals);
    assert_eq!(measured.report.vcpus.len(), 1, "it is the same vCPU: {:?}", measured.report.vcpus);
}

#[test]
fn a_vmm_that_is_killed_inside_a_window_has_ended_and_somebody_else_pays() {
    let measuring = Measuring::start("");
    let guest = spinning(2000);
    let process = guest.pid();
    // Kills it, and lets a task return to user mode on its CPU.
    drop(guest);
    let measured = measuring.stop();
    assert_whole(&measured);
    let [row] = measured.report.vcpus.as_slice() else { panic!("{:?}", measured.report.vcpus) };
    assert!(row.vm == process && row.ended, "{row:?}");
    assert_eq!(measured.report.totals.events.windows_open_at_end, Some(0));
    let foreign = measured.report.causes.iter().filter(|row| row.cause == "foreign").map(|row| row.closes).sum::<u64>();
    assert!(foreign > 0, "the last window was closed by somebody else: {:?}", measured.report.causes);
}
