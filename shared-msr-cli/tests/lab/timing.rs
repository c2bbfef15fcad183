//! What restores cost, measured: with other programs than without.

use crate::support::{Report, Running, assert_verified, command, shared_msr};

fn timed(step: &str) -> Report {
    let words = format!("report --verify --timing --format json --probe {step} --");
    let mut command = command(&words);
    command.args("shared-msr guest --outs 50 --cpuids 5 --tsc-aux 0xabc".split(' '));
    let ended = Running::start(&mut command).wait();
    assert_eq!(ended.status, 0, "{ended:?}");
    let report = ended.report();
    assert_verified(&report);
    report
}

/// Each close that restored something is timed, and savings are told in nanoseconds of that.
fn assert_timed(step: &str) {
    let report = timed(step);
    let (events, counts) = (report.totals.events, report.totals.counts);
    assert_eq!(events.windows_closed, Some(51), "50 KVM_RUN + 1");
    let cost = report.distributions.restore_cost_ns.as_ref().unwrap_or_else(|| panic!("{step}: nothing was timed"));
    assert_eq!(Some(cost.count), counts.performed.map(|performed| performed / report.msrs_loaded()), "{step}: {cost:?}");
    assert!(cost.p50.is_some_and(|half| half > 0), "{step}: {cost:?}");
    let savings = report.savings.as_ref().unwrap();
    let restore = savings.restore_ns.unwrap();
    assert!(restore > 0.0, "{step}: {savings:?}");
    let (eager, told) = (savings.eager.wrmsrs as f64 * restore, savings.eager.ns.unwrap() as f64);
    assert!((eager - told).abs() <= 1.0, "{step}: {savings:?}");
}

trait Loaded {
    fn msrs_loaded(&self) -> u64;
}

impl Loaded for Report {
    /// How many MSRs each restore writes.
    fn msrs_loaded(&self) -> u64 {
        self.msrs.iter().filter(|row| row.counts.performed.is_some_and(|performed| performed > 0)).count() as u64
    }
}

/// Where the kernel has BTF of modules, which fentry on them needs.
mod module_btf {
    use super::*;

    #[test]
    fn fentry_times_each_restore() {
        assert_timed("fentry");
    }
}

/// Where KVM uses the mechanism at all.
mod used {
    use super::*;

    #[test]
    fn kprobe_times_each_restore() {
        assert_timed("kprobe");
    }

    #[test]
    fn tracepoint_cannot_and_says_so() {
        let ended = shared_msr("report --timing --probe tracepoint -- shared-msr guest --outs 1");
        ended.assert_one_sentence(1, "restores cannot be timed where no function of KVM is hooked");
    }
}
