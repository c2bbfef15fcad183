//! One measurement, from its first to its last look.

use std::time::Duration;

use shared_msr_common::CpuState;

use super::{CpuSample, Snapshot, owners::Archive, take_cpus, take_stopped};
use crate::{
    obstacle::Obstacle,
    probe::{
        probes::{Options, Probes},
        target::Target,
    },
};

/// How often [`Measurement::tidy`] should be called: seldom enough to be no load that is measured, often enough that the names
/// of VMs are read while they are there.
pub const TIDY_EVERY: Duration = Duration::from_secs(5);
/// How often all is read again before it is believed that vCPUs change places too often to read them between two changes.
const ATTEMPTS: u32 = 5;

/// The attached programs, and what of their counts was kept so far.
pub struct Measurement {
    /// The programs.
    pub probes: Probes,
    archive: Archive,
}

impl Measurement {
    /// Loads and attaches everything, and starts to count.
    pub fn start(target: &Target, options: Options) -> Result<Self, Obstacle> {
        Ok(Self { probes: Probes::attach(target, options)?, archive: Archive::default() })
    }

    /// Gives the space of vCPUs that are gone back, and looks up the names of new ones.
    pub fn tidy(&mut self) -> Result<(), Obstacle> {
        self.archive.tidy(&mut self.probes)
    }

    /// Reads everything while counting goes on.
    pub fn look(&mut self, target: &Target) -> Result<Snapshot, Obstacle> {
        self.archive.tidy(&mut self.probes)?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let duration = self.probes.started.elapsed();
            let cpus = take_cpus(&self.probes, target)?;
            let mut owners = self.archive.owners(&self.probes, &target.host.possible_cpus)?;
            let after = self.probes.read()?;
            // An event that is just running may have credited something that it has not counted as a credit yet.
            let still = |cpu: &CpuSample, after: &CpuState| cpu.state.credits == after.credits && after.begun == after.accounted;
            owners.still = cpus.iter().zip(after.iter()).all(|(cpu, after)| still(cpu, after));
            if owners.still || attempt == ATTEMPTS {
                return Ok(Snapshot { duration, cpus, owners, ..self.rest(target) });
            }
        }
    }

    /// Stops counting, and reads everything.
    pub fn finish(&mut self, target: &Target) -> Result<Snapshot, Obstacle> {
        let cpus = take_cpus(&self.probes, target)?;
        self.probes.stop()?;
        let duration = self.probes.started.elapsed();
        let cpus = take_stopped(&self.probes, cpus)?;
        let mut owners = self.archive.owners(&self.probes, &target.host.possible_cpus)?;
        (owners.still, owners.stopped) = (true, true);
        Ok(Snapshot { duration, cpus, owners, ..self.rest(target) })
    }

    fn rest(&self, target: &Target) -> Snapshot {
        Snapshot {
            cpus: Vec::new(),
            owners: Default::default(),
            duration: Duration::ZERO,
            skipped_runs: self.probes.skipped_runs(),
            sight: self.probes.sight,
            checked: self.probes.hooks.check.is_some(),
            timed: self.probes.options.timing,
            moved: target.tables.as_ref().is_ok_and(|tables| tables.have_moved(&target.host)),
        }
    }
}
