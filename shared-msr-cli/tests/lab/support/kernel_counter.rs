//! The kernel's own count of an event.

use std::collections::BTreeMap;

use super::{trace_instance::TraceInstance, wait_until};

/// A trace instance that takes one event, and is asked for nothing but how many there were.
pub(crate) struct KernelCounter {
    instance: TraceInstance,
}

impl KernelCounter {
    /// Counts an event, `GROUP/NAME`, from now on.
    pub(crate) fn start(event: &str, filter: Option<&str>) -> Self {
        let instance = TraceInstance::new(4096);
        instance.enable(event, filter);
        Self { instance }
    }

    /// Counts no more.
    pub(crate) fn stop(&self) {
        self.instance.stop();
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.by_cpu().values().sum()
    }

    /// The same of each CPU.
    pub(crate) fn by_cpu(&self) -> BTreeMap<u32, u64> {
        let of = |cpu| events(&self.instance.read(&format!("per_cpu/cpu{cpu}/stats")));
        self.instance.cpus().into_iter().map(|cpu| (cpu, of(cpu))).collect()
    }
}

/// Waits until there have been more than so many exits from now on, of whomever.
#[track_caller]
pub(crate) fn wait_for_exits(number: u64) {
    let counter = KernelCounter::start("kvm/kvm_exit", None);
    wait_until("the guest makes exits", || counter.count() > number);
}

/// Overwritten and dropped events were events too.
fn events(stats: &str) -> u64 {
    let number = |line: &str| {
        let (key, number) = line.split_once(':')?;
        ["entries", "overrun", "dropped events"].contains(&key).then(|| number.trim().parse::<u64>().unwrap())
    };
    stats.lines().filter_map(number).sum()
}
