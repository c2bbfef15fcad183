//! This host as a source.

use std::{os::fd::OwnedFd, sync::Arc};

use aya::sys::{Stats, enable_stats};

use super::{
    cost,
    source::{CpuNow, Facts, Sample, Source},
};
use crate::{
    ledger::Ledger,
    obstacle::Obstacle,
    probe::{probes::Options, target::Target},
    sample::{Snapshot, measurement::Measurement},
};

/// A measurement that runs.
pub struct Live {
    target: Target,
    measurement: Measurement,
    facts: Facts,
    /// While this is open the kernel takes the time of BPF programs; the host's sysctl stays as it is. None where it refuses.
    timing: Option<OwnedFd>,
}

/// Gives freed memory back to the host, which glibc would keep: what loading took, and the copies that a sample was made of.
fn give_back() {
    // SAFETY: this call takes a number only.
    unsafe { libc::malloc_trim(0) };
}

impl Live {
    /// Attaches everything and starts to count.
    pub fn start(options: Options) -> Result<Self, Obstacle> {
        // Freed memory that is given back below would come back otherwise: khugepaged (mm/khugepaged.c) fills the holes between what
        // is still used, 10 MiB within seconds. Where the kernel refuses, nothing but that is lost.
        // SAFETY: this call takes numbers only.
        unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
        let mut target = Target::find()?;
        let timing = enable_stats(Stats::RunTime).ok();
        let measurement = Measurement::start(&target, options)?;
        target.btf.forget();
        give_back();
        let probes = &measurement.probes;
        let facts = Facts {
            host: target.host.clone(),
            vendor: target.vendor,
            hooks: probes.hooks.clone(),
            refused: probes.refused.clone(),
            list_known: target.tables.is_ok(),
        };
        Ok(Self { target, measurement, facts, timing })
    }

    fn structures(&self, snapshot: &Snapshot, slots: usize) -> Vec<CpuNow> {
        let now = |cpu: &crate::sample::CpuSample| {
            let structure = cpu.structure.as_ref()?;
            let values = structure.values.iter().copied().take(slots).collect();
            Some(CpuNow { cpu: cpu.cpu, registered: structure.registered != 0, values })
        };
        snapshot.cpus.iter().filter_map(now).collect()
    }
}

impl Source for Live {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn sample(&mut self) -> Result<Sample, Obstacle> {
        let snapshot = self.measurement.look(&self.target)?;
        let list = self.target.msrs();
        let ledger = Ledger::settle(&snapshot, &list);
        let kernel = self.timing.as_ref().and_then(|_| self.measurement.probes.run_time());
        let cpus = self.structures(&snapshot, list.len());
        drop(snapshot);
        give_back();
        Ok(Sample { ledger: Arc::new(ledger), cpus, cost: cost::of(kernel) })
    }

    fn tidy(&mut self) -> Result<(), Obstacle> {
        self.measurement.tidy(&self.target)
    }
}
