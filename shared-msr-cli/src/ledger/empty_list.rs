//! An empty list of MSRs says that KVM does not use the mechanism here. What contradicts that.

use super::cpu::CpuLedger;
use crate::sample::CpuSample;

/// What was seen of the mechanism on a CPU where, by KVM's list, there is none.
pub(super) fn violations(samples: &[CpuSample], cpus: &[CpuLedger]) -> Vec<String> {
    let seen = |(sample, ledger): (&CpuSample, &CpuLedger)| {
        let state = &ledger.state;
        let windows = state.registered_at_start + state.windows.opened + state.windows.closed;
        // Without a slot, a set of one is all that the programs can find implausible but for a structure that is none.
        let sets = state.implausible;
        let notifier = sample.structure.as_ref().map_or(0, |structure| structure.notifier);
        let what = match (sets, windows, notifier) {
            (0, 0, 0) => return None,
            (0, 0, _) => "a notifier that was registered".to_owned(),
            (sets, windows, _) => format!("{sets} sets or implausible structures, and {windows} windows"),
        };
        Some(format!("CPU {}: KVM's list of MSRs is empty, but there was {what}", sample.cpu))
    };
    samples.iter().zip(cpus).filter_map(seen).collect()
}
