//! One measurement, from its first to its last look.

use std::time::Duration;

use shared_msr_common::CpuState;

use super::{CpuSample, Snapshot, owners::Archive, take_cpus, take_stopped, vcpus::Identities};
use crate::{
    kernel::host,
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
    host: Watch,
}

/// What of the host itself can change while it is measured.
#[derive(Debug, Default)]
struct Watch {
    /// Which loading of the vendor's module it is.
    loading: Option<u64>,
    reloads: u64,
    list_changes: u64,
    hooks_off: u64,
}

impl Watch {
    fn look(&mut self, probes: &Probes, target: &Target) {
        self.hooks_off += u64::from(probes.hooks.are_switched_off());
        let loading = host::loading(target.vendor);
        if loading.is_some() && loading != self.loading {
            self.loading = loading;
            self.reloads += 1;
            self.list_changes += u64::from(target.tables.as_ref().is_ok_and(|tables| !tables.list_stands()));
        }
    }
}

impl Measurement {
    /// Loads and attaches everything, and starts to count.
    pub fn start(target: &Target, options: Options) -> Result<Self, Obstacle> {
        let host = Watch { loading: host::loading(target.vendor), ..Watch::default() };
        Ok(Self { probes: Probes::attach(target, options)?, archive: Archive::default(), host })
    }

    /// Gives the space of vCPUs that are gone back, looks up the names of new ones, and whether the host still lets the hooks fire.
    pub fn tidy(&mut self, target: &Target) -> Result<(), Obstacle> {
        self.host.look(&self.probes, target);
        self.archive.tidy(&mut self.probes)
    }

    /// Who the owners are that were met so far.
    pub fn identities(&mut self) -> Result<Identities, Obstacle> {
        self.archive.identities(&self.probes)
    }

    /// Reads everything while counting goes on.
    pub fn look(&mut self, target: &Target) -> Result<Snapshot, Obstacle> {
        self.tidy(target)?;
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
                return Ok(Snapshot { duration, cpus, owners, ..self.rest() });
            }
        }
    }

    /// Stops counting, and reads everything.
    pub fn finish(&mut self, target: &Target) -> Result<Snapshot, Obstacle> {
        self.host.look(&self.probes, target);
        let cpus = take_cpus(&self.probes, target)?;
        self.probes.stop()?;
        let duration = self.probes.started.elapsed();
        let cpus = take_stopped(&self.probes, cpus)?;
        let mut owners = self.archive.owners(&self.probes, &target.host.possible_cpus)?;
        (owners.still, owners.stopped) = (true, true);
        Ok(Snapshot { duration, cpus, owners, ..self.rest() })
    }

    fn rest(&self) -> Snapshot {
        Snapshot {
            cpus: Vec::new(),
            owners: Default::default(),
            duration: Duration::ZERO,
            skipped_runs: self.probes.skipped_runs(),
            sight: self.probes.sight,
            checked: self.probes.hooks.check.is_some(),
            timed: self.probes.options.timing,
            reloads: self.host.reloads,
            list_changes: self.host.list_changes,
            hooks_off: self.host.hooks_off,
        }
    }
}
