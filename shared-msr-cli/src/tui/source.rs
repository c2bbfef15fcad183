//! Where the live view gets its ledgers from.

use std::{sync::Arc, time::Duration};

use crate::{
    kernel::{
        host::{Host, Vendor},
        structure::Value,
    },
    ledger::Ledger,
    obstacle::Obstacle,
    probe::{hooks::Hooks, ladder::Refused},
};

/// What does not change while it is measured.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The machine.
    pub host: Host,
    /// Which part of KVM runs guests.
    pub vendor: Vendor,
    /// What observes it.
    pub hooks: Hooks,
    /// Hooks that could not be had.
    pub refused: Vec<Refused>,
    /// Whether the rows are KVM's own list, rather than all MSRs that any KVM lists.
    pub list_known: bool,
}

/// One CPU's own structure, as it stood when its counters were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuNow {
    /// The CPU.
    pub cpu: u32,
    /// Whether it is inside a window.
    pub registered: bool,
    /// Host's and current value of each slot.
    pub values: Vec<Value>,
}

/// What measuring has cost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Time in the kernel-side programs, over all CPUs; none where the kernel does not say.
    pub kernel: Option<Duration>,
    /// CPU time of this process.
    pub process: Duration,
}

/// All that is known at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Everything since counting began. Because it is cumulative, a sample that nobody looked at is not missed.
    pub ledger: Arc<Ledger>,
    /// The structures that could be read while their CPU stood still.
    pub cpus: Vec<CpuNow>,
    /// What it has cost.
    pub cost: Cost,
}

/// Something that can be looked at again and again: this host, or a measurement that was kept.
pub trait Source {
    /// What does not change.
    fn facts(&self) -> &Facts;
    /// Everything as it stands now.
    fn sample(&mut self) -> Result<Sample, Obstacle>;
    /// Called between samples that are far apart, for what cannot wait so long.
    fn tidy(&mut self) -> Result<(), Obstacle>;
}
