//! Snapshots: what the programs have counted, with the kernel's own structures beside it.

use std::{thread, time::Duration};

use shared_msr_common::CpuState;

use crate::{
    kernel::structure::Structure,
    obstacle::Obstacle,
    probe::{probes::Probes, survey::Target},
};

/// One CPU at one moment.
#[derive(Clone, Debug)]
pub struct CpuSample {
    /// The CPU's number.
    pub cpu: u32,
    /// What it counted; a whole copy, unless `torn`.
    pub state: CpuState,
    /// The kernel's structure while the counters stood as in `state`; none when events came too fast to tell.
    pub structure: Option<Structure>,
    /// The copy was taken in the middle of an event, however often it was tried.
    pub torn: bool,
}

/// All possible CPUs, each at one moment of its own.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// In ascending order of their numbers.
    pub cpus: Vec<CpuSample>,
    /// Since counting began.
    pub duration: Duration,
    /// How often the kernel skipped one of our programs; none where it does not say.
    pub skipped_runs: Option<u64>,
}

/// How often a CPU's state and structure are read before a contradiction is believed.
const ATTEMPTS: u32 = 200;
/// How often at most for the structure of a CPU that never stands still.
const BUSY_ATTEMPTS: u32 = 5;

impl Snapshot {
    /// Reads all CPUs while the programs go on counting.
    pub fn take(probes: &Probes, target: &Target) -> Result<Self, Obstacle> {
        let duration = probes.started.elapsed();
        let mut samples: Vec<Option<CpuSample>> = vec![None; target.host.possible_cpus.len()];
        for attempt in 1..=ATTEMPTS {
            let before = probes.read()?;
            let mut structures = Vec::with_capacity(samples.len());
            for (position, sample) in samples.iter().enumerate() {
                // The programs know better than the survey where it is, if KVM was loaded anew in the meantime.
                let address = before[position].structure_address;
                structures.push(if sample.is_none() { target.read_structure(address).ok() } else { None });
            }
            let after = probes.read()?;
            for (position, sample) in samples.iter_mut().enumerate().filter(|(_, sample)| sample.is_none()) {
                let cpu = target.host.possible_cpus[position];
                let structure = structures[position].take();
                *sample = accept(cpu, &before[position], &after[position], structure, target.list.len(), attempt);
            }
            if samples.iter().all(Option::is_some) {
                break;
            }
            // A set or close that was just accounted reaches the structure within microseconds.
            thread::sleep(Duration::from_micros(100));
        }
        Ok(Self { cpus: samples.into_iter().flatten().collect(), duration, skipped_runs: probes.skipped_runs() })
    }
}

/// Whether a pair of readings around a reading of the structure can stand as a sample.
fn accept(
    cpu: u32,
    before: &CpuState,
    after: &CpuState,
    structure: Option<Structure>,
    slots: usize,
    attempt: u32,
) -> Option<CpuSample> {
    let last = attempt == ATTEMPTS;
    let whole = after.begun == after.accounted;
    let still = whole && before.begun == after.begun && before.accounted == after.accounted;
    if still {
        let agrees = structure.as_ref().is_none_or(|structure| agrees(after, structure, slots));
        return (agrees || last).then_some(CpuSample { cpu, state: *after, structure, torn: false });
    }
    (last || (whole && attempt >= BUSY_ATTEMPTS)).then_some(CpuSample { cpu, state: *after, structure: None, torn: !whole })
}

/// Whether the structure is as the last event of this CPU left it. A pending write may have failed: then it is as
/// before that.
fn agrees(state: &CpuState, structure: &Structure, slots: usize) -> bool {
    let found = (u64::from(structure.registered), structure.dirty(slots));
    state.known == 0
        || found == (state.registered, state.dirty)
        || (state.pending != 0 && found == (state.registered_before, state.dirty_before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::structure::tests::structure;

    fn state(accounted: u64, begun: u64) -> CpuState {
        CpuState { accounted, begun, known: 1, ..CpuState::EMPTY }
    }

    #[test]
    fn a_cpu_that_stands_still_is_taken_with_its_structure() {
        let sample = accept(0, &state(4, 4), &state(4, 4), Some(structure(0, 1, 1)), 1, 1).unwrap();
        assert!(sample.structure.is_some() && !sample.torn);
    }

    #[test]
    fn a_structure_that_lags_behind_the_counters_is_read_again() {
        let lagging = Some(structure(1, 0, 0xabc));
        assert!(accept(0, &state(4, 4), &state(4, 4), lagging.clone(), 1, 1).is_none());
        assert!(accept(0, &state(4, 4), &state(4, 4), lagging, 1, ATTEMPTS).is_some(), "a lasting contradiction is shown");
    }

    #[test]
    fn a_busy_cpu_is_taken_whole_but_without_its_structure() {
        assert!(accept(0, &state(4, 4), &state(5, 5), Some(structure(0, 1, 1)), 1, 1).is_none());
        let sample = accept(0, &state(4, 4), &state(5, 5), Some(structure(0, 1, 1)), 1, BUSY_ATTEMPTS).unwrap();
        assert!(sample.structure.is_none() && !sample.torn);
    }

    #[test]
    fn a_copy_from_the_middle_of_an_event_is_never_taken_for_whole() {
        assert!(accept(0, &state(4, 4), &state(4, 5), None, 1, BUSY_ATTEMPTS).is_none());
        assert!(accept(0, &state(4, 4), &state(4, 5), None, 1, ATTEMPTS).unwrap().torn);
    }
}
