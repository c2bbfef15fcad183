//! Snapshots: what the programs have counted, with the kernel's own structures beside it.

pub mod measurement;
pub mod names;
pub mod owners;
pub mod vcpus;

use std::{thread, time::Duration};

use shared_msr_common::{CpuState, accounting::Watched};

use owners::Owners;

use crate::{
    kernel::structure::Structure,
    obstacle::Obstacle,
    probe::{
        probes::{Probes, Sight},
        target::Target,
    },
};

/// One CPU at one moment.
#[derive(Clone, Debug)]
pub struct CpuSample {
    /// The CPU's number.
    pub cpu: u32,
    /// What it counted; a whole copy, unless `torn`.
    pub state: CpuState,
    /// The kernel's structure while the counters stood as in `state`; none when events came too fast to tell, or when it
    /// cannot be read on this host.
    pub structure: Option<Structure>,
    /// The structure could not be read, however often it was tried, though it could when the host was surveyed.
    pub unreadable: bool,
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
    /// Who is credited with what.
    pub owners: Owners,
    /// What the programs tell.
    pub sight: Sight,
    /// Whether WRMSRs were counted as well.
    pub checked: bool,
    /// Whether closes were timed.
    pub timed: bool,
    /// How often the vendor module was seen to have been loaded anew.
    pub reloads: u64,
    /// How often KVM's list was not the one of the beginning any more, so that slots are other MSRs.
    pub list_changes: u64,
    /// At how many looks hooks that are in use were switched off.
    pub hooks_off: u64,
}

/// How often a CPU's state and structure are read before a contradiction is believed.
const ATTEMPTS: u32 = 200;
/// How often at most for the structure of a CPU that never stands still.
const BUSY_ATTEMPTS: u32 = 5;

/// Reads all CPUs while the programs go on counting.
fn take_cpus(probes: &Probes, target: &Target) -> Result<Vec<CpuSample>, Obstacle> {
    let slots = target.msrs().len();
    let mut samples: Vec<Option<CpuSample>> = vec![None; target.host.possible_cpus.len()];
    for attempt in 1..=ATTEMPTS {
        let before = probes.read()?;
        // The programs know better than the survey where they are, if KVM was loaded anew in the meantime.
        let base = probes.maps().base()?;
        let mut structures = Vec::with_capacity(samples.len());
        for (position, sample) in samples.iter().enumerate() {
            let address = base.wrapping_add(before[position].per_cpu_offset);
            let tables = target.tables.as_ref().ok().filter(|_| sample.is_none());
            structures.push(tables.map(|tables| tables.read_structure(address)));
        }
        let after = probes.read()?;
        for (position, sample) in samples.iter_mut().enumerate().filter(|(_, sample)| sample.is_none()) {
            let cpu = target.host.possible_cpus[position];
            let structure = structures[position].take();
            let readings = (&before[position], &after[position]);
            *sample = accept(cpu, readings, structure, (probes.sight, slots), attempt);
        }
        if samples.iter().all(Option::is_some) {
            break;
        }
        // A set or close that was just accounted reaches the structure within microseconds.
        thread::sleep(Duration::from_micros(100));
    }
    Ok(samples.into_iter().flatten().collect())
}

/// The same CPUs after counting has stopped. What was said of a structure still holds where no event was accounted since.
fn take_stopped(probes: &Probes, samples: Vec<CpuSample>) -> Result<Vec<CpuSample>, Obstacle> {
    let mut states = probes.read()?;
    for _ in 0..ATTEMPTS {
        // Programs that were running when counting stopped are done within microseconds.
        thread::sleep(Duration::from_micros(500));
        let before = states;
        states = probes.read()?;
        let still = |(before, after): (&CpuState, &CpuState)| before == after && after.begun == after.accounted;
        if before.iter().zip(states.iter()).all(still) {
            break;
        }
    }
    let stop = |(sample, state): (CpuSample, &CpuState)| {
        let torn = state.begun != state.accounted;
        let structure = sample.structure.filter(|_| sample.state.accounted == state.accounted && !torn);
        CpuSample { state: *state, structure, torn, ..sample }
    };
    Ok(samples.into_iter().zip(states.iter()).map(stop).collect())
}

/// Whether a pair of readings around a reading of the structure can stand as a sample.
fn accept(
    cpu: u32,
    (before, after): (&CpuState, &CpuState),
    structure: Option<Result<Structure, Obstacle>>,
    (sight, slots): (Sight, usize),
    attempt: u32,
) -> Option<CpuSample> {
    let last = attempt == ATTEMPTS;
    let unreadable = matches!(structure, Some(Err(_)));
    if unreadable && attempt < BUSY_ATTEMPTS {
        return None;
    }
    let structure = structure.and_then(Result::ok);
    let whole = after.begun == after.accounted;
    let still = whole && before.begun == after.begun && before.accounted == after.accounted;
    if still {
        let agrees = structure.as_ref().is_none_or(|structure| agrees(after, structure, sight, slots));
        return (agrees || last).then_some(CpuSample { cpu, state: *after, structure, unreadable, torn: false });
    }
    (last || (whole && attempt >= BUSY_ATTEMPTS)).then_some(CpuSample {
        cpu,
        state: *after,
        structure: None,
        unreadable,
        torn: !whole,
    })
}

/// Whether the structure is as the last event of this CPU left it. (If not, the last write has faulted or is just being done:
/// only time tells.) Where only WRMSRs are watched, a window without a dirty slot may have closed unheard.
fn agrees(state: &CpuState, structure: &Structure, sight: Sight, slots: usize) -> bool {
    let found = (u64::from(structure.registered), structure.dirty(slots));
    state.known == 0
        || found == (state.registered, state.dirty)
        || (sight == Sight::Split(Watched::Writes) && state.dirty == 0 && found == (0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::structure::tests::structure;

    const ONE: (Sight, usize) = (Sight::Split(Watched::Calls), 1);

    fn state(accounted: u64, begun: u64) -> CpuState {
        CpuState { accounted, begun, known: 1, ..CpuState::EMPTY }
    }

    #[test]
    fn a_cpu_that_stands_still_is_taken_with_its_structure() {
        let sample = accept(0, (&state(4, 4), &state(4, 4)), Some(Ok(structure(0, 1, 1))), ONE, 1).unwrap();
        assert!(sample.structure.is_some() && !sample.torn);
    }

    #[test]
    fn a_structure_that_lags_behind_the_counters_is_read_again() {
        let lagging = Some(Ok(structure(1, 0, 0xabc)));
        assert!(accept(0, (&state(4, 4), &state(4, 4)), lagging.clone(), ONE, 1).is_none());
        assert!(accept(0, (&state(4, 4), &state(4, 4)), lagging, ONE, ATTEMPTS).is_some(), "a lasting contradiction is shown");
    }

    #[test]
    fn a_clean_close_that_no_write_tells_of_is_no_contradiction() {
        let state = CpuState { registered: 1, ..state(4, 4) };
        let closed = structure(0, 1, 1);
        assert!(agrees(&state, &closed, Sight::Split(Watched::Writes), 1));
        assert!(!agrees(&state, &closed, Sight::Split(Watched::Calls), 1));
    }

    #[test]
    fn a_write_that_has_not_reached_the_structure_is_waited_for() {
        let pending = CpuState { pending: 1, registered: 1, dirty: 1, ..state(4, 4) };
        let before = Some(Ok(structure(0, 1, 1)));
        assert!(accept(0, (&pending, &pending), before.clone(), ONE, 1).is_none(), "it may be just being done");
        assert!(accept(0, (&pending, &pending), before, ONE, ATTEMPTS).is_some(), "it has faulted");
    }

    #[test]
    fn a_busy_cpu_is_taken_whole_but_without_its_structure() {
        assert!(accept(0, (&state(4, 4), &state(5, 5)), Some(Ok(structure(0, 1, 1))), ONE, 1).is_none());
        let sample = accept(0, (&state(4, 4), &state(5, 5)), Some(Ok(structure(0, 1, 1))), ONE, BUSY_ATTEMPTS).unwrap();
        assert!(sample.structure.is_none() && !sample.torn);
    }

    #[test]
    fn a_structure_that_cannot_be_read_any_more_is_told() {
        let gone = || Some(Err(Obstacle::new("not mapped", "")));
        assert!(accept(0, (&state(4, 4), &state(4, 4)), gone(), ONE, 1).is_none(), "it is tried again");
        let sample = accept(0, (&state(4, 4), &state(4, 4)), gone(), ONE, BUSY_ATTEMPTS).unwrap();
        assert!(sample.unreadable && sample.structure.is_none());
        assert!(!accept(0, (&state(4, 4), &state(4, 4)), None, ONE, 1).unwrap().unreadable, "nobody knows where it is");
    }

    #[test]
    fn a_copy_from_the_middle_of_an_event_is_never_taken_for_whole() {
        assert!(accept(0, (&state(4, 4), &state(4, 5)), None, ONE, BUSY_ATTEMPTS).is_none());
        assert!(accept(0, (&state(4, 4), &state(4, 5)), None, ONE, ATTEMPTS).unwrap().torn);
    }
}
