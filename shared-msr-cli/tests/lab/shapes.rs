//! VMMs of all shapes: threads and vCPUs many to many, VMs that come and go, processes that become others. Each row of the report
//! is held against what the kernel itself counts of that thread, and against what the VMM says that it did.

use crate::support::{
    Foreign, KernelThreads, Report, ReusedAddresses, Told, assert_all_attributed, assert_each_row, assert_threads,
    assert_verified, assert_vms, report_on,
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
        a_vmm_forks_and_its_child_has_a_vm_of_its_own: "fork 20",
        sixty_four_vcpus_of_one_vm_run_at_once: "many 64 5",
    }
}

/// Runs a shape under a step of the ladder.
pub(crate) fn hold(step: &str, shape: &str) {
    let kernel = KernelThreads::start();
    let reused = shape.contains("remake").then(ReusedAddresses::start);
    let words: Vec<&str> = std::iter::once("shapes").chain(shape.split(' ')).collect();
    let (ended, report) = report_on(&format!("--probe {step}"), &words);
    let told = Told::of(&ended.stdout);
    let _lingers = shape.contains("execve").then(|| told.first().map(|one| Foreign(one.vm)));
    let counted = kernel.read();
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

/// What ran in the program before `execve` has ended, under whatever number; what runs in the one after it has not.
fn assert_ended(report: &Report, told: &[Told]) {
    assert!([1, 2].iter().all(|number| told.iter().any(|one| one.vm_number == *number)), "before and after: {told:?}");
    for one in told {
        let row = report.vcpus.iter().find(|row| one.is(row)).unwrap();
        assert_eq!(row.ended, one.vm_number == 1, "whether it has ended: {row:?}");
    }
}
