//! The kernel's own count of an event.

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{trace_instance::TraceInstance, wait_until};

/// Instances that count nothing at the moment. To make one and to remove it takes seconds where a CPU is interpreted: up to 6.5 the
/// kernel makes and removes the files of each of its events with it (kernel/trace/trace_events.c; eventfs since then).
static IDLE: Mutex<Vec<TraceInstance>> = Mutex::new(Vec::new());

fn idle() -> MutexGuard<'static, Vec<TraceInstance>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A trace instance that takes one event, and is asked for nothing but how many there were.
pub(crate) struct KernelCounter {
    /// There until it is dropped.
    instance: Option<TraceInstance>,
    event: String,
}

impl KernelCounter {
    /// Counts an event, `GROUP/NAME`, from now on.
    pub(crate) fn start(event: &str, filter: Option<&str>) -> Self {
        let instance = idle().pop().unwrap_or_else(|| TraceInstance::new(4096));
        let counter = Self { instance: Some(instance), event: event.to_owned() };
        assert_eq!(counter.count(), 0, "a counter begins with nothing");
        counter.instance().enable(event, filter);
        counter
    }

    fn instance(&self) -> &TraceInstance {
        self.instance.as_ref().expect("it is there until the counter is dropped")
    }

    /// Counts no more.
    pub(crate) fn stop(&self) {
        self.instance().stop();
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.by_cpu().values().sum()
    }

    /// The same of each CPU.
    pub(crate) fn by_cpu(&self) -> BTreeMap<u32, u64> {
        count(self.instance())
    }
}

impl Drop for KernelCounter {
    /// The instance is kept if it can be made as it was; else, say because its event's module is gone, it goes too.
    fn drop(&mut self) {
        if let Some(instance) = self.instance.take()
            && reset(&instance, &self.event).is_ok()
            && count(&instance).values().all(|events| *events == 0)
        {
            idle().push(instance);
        }
    }
}

/// Makes an instance that took an event as it was when it was new.
fn reset(instance: &TraceInstance, event: &str) -> io::Result<()> {
    instance.try_write(&format!("events/{event}/enable"), "0")?;
    // No filter.
    instance.try_write(&format!("events/{event}/filter"), "0")?;
    // What is opened for writing and cut is emptied, and its counts with it, but for CPUs that are offline.
    instance.try_write("trace", "")?;
    instance.try_write("tracing_on", "1")
}

/// How many events an instance took on each CPU.
fn count(instance: &TraceInstance) -> BTreeMap<u32, u64> {
    let of = |cpu| events(&instance.read(&format!("per_cpu/cpu{cpu}/stats")));
    instance.cpus().into_iter().map(|cpu| (cpu, of(cpu))).collect()
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
