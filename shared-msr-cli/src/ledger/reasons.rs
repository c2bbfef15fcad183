//! Exits by reason.

use std::{cmp::Reverse, collections::BTreeMap};

use shared_msr_common::ReasonCounters;

use super::ReasonRow;
use crate::sample::{CpuSample, ReasonSample};

/// The sums over all CPUs, most first.
pub(super) fn rows(samples: &[ReasonSample]) -> Vec<ReasonRow> {
    let mut sums = BTreeMap::new();
    for sample in samples {
        for (reason, exits) in counted(&sample.counters) {
            *sums.entry(reason).or_insert(0) += exits;
        }
    }
    let mut rows: Vec<ReasonRow> = sums.into_iter().map(|(reason, exits)| ReasonRow { reason, exits }).collect();
    rows.sort_by_key(|row| Reverse(row.exits));
    rows
}

/// Exits whose reason is not known.
pub(super) fn unread(samples: &[ReasonSample]) -> u64 {
    samples.iter().map(|sample| sample.counters.unlisted + sample.counters.unread).sum()
}

/// On every CPU the reasons add up to the exits, where both could be read at the same moment.
pub(super) fn violations(samples: &[ReasonSample], cpus: &[CpuSample]) -> Vec<String> {
    let compare = |(sample, cpu): (&ReasonSample, &CpuSample)| {
        let (exits, total) = (sample.exits?, sample.counters.total());
        (exits != total).then(|| format!("CPU {}: {total} exits by reason, but {exits} in all", cpu.cpu))
    };
    samples.iter().zip(cpus).filter_map(compare).collect()
}

fn counted(counters: &ReasonCounters) -> impl Iterator<Item = (Option<u32>, u64)> {
    let common = counters.common.iter().enumerate().map(|(reason, exits)| (u32::try_from(reason).ok(), *exits));
    let rare = counters.rare.iter().map(|rare| (u32::try_from(rare.reason).ok(), rare.exits));
    let unknown = (None, counters.unlisted + counters.unread);
    common.chain(rare).chain([unknown]).filter(|(_, exits)| *exits != 0)
}

#[cfg(test)]
mod tests {
    use shared_msr_common::CpuState;

    use super::*;

    fn sample(reasons: &[u32], exits: Option<u64>) -> ReasonSample {
        let mut counters = ReasonCounters::EMPTY;
        reasons.iter().for_each(|reason| counters.count(*reason));
        ReasonSample { counters, exits }
    }

    fn cpu(cpu: u32) -> CpuSample {
        CpuSample { cpu, state: CpuState::EMPTY, structure: None, torn: false }
    }

    #[test]
    fn reasons_are_summed_over_cpus_and_the_most_frequent_comes_first() {
        let samples = [sample(&[10, 30, 30], Some(3)), sample(&[30, 0x8000_0021], Some(2))];
        let rows = rows(&samples);
        assert_eq!(rows[0], ReasonRow { reason: Some(30), exits: 3 });
        assert!(rows.contains(&ReasonRow { reason: Some(0x8000_0021), exits: 1 }));
        assert!(violations(&samples, &[cpu(0), cpu(1)]).is_empty());
    }

    #[test]
    fn reasons_that_do_not_add_up_to_the_exits_are_a_violation() {
        let found = violations(&[sample(&[10], Some(2)), sample(&[10], None)], &[cpu(0), cpu(1)]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("CPU 0: 1 exits by reason"), "{found:?}");
    }

    #[test]
    fn exits_without_a_known_reason_stay_in_the_sums() {
        let mut lost = sample(&[10], Some(3));
        lost.counters.unread = 2;
        assert_eq!(rows(std::slice::from_ref(&lost))[0], ReasonRow { reason: None, exits: 2 });
        assert_eq!(unread(&[lost]), 2);
    }
}
