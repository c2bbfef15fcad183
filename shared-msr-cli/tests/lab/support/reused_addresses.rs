//! A kernel that soon puts a VM where another one was.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{Histogram, trace_instance::TraceInstance};

/// Where the kernel is told to observe a function.
const PROBES: &str = "/sys/kernel/tracing/kprobe_events";
const VM_GONE: &str = "lab/vm_gone";

/// Makes the kernel use addresses of VMs again soon, until it is dropped: it gives them back when it makes memory executable, as
/// for a tracer of functions.
pub(crate) struct ReusedAddresses {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// VMs that went away, by address.
    gone: Option<Histogram>,
}

impl ReusedAddresses {
    pub(crate) fn start() -> Self {
        probe(&format!("p:{VM_GONE} kvm_arch_destroy_vm vm=$arg1:u64"));
        let gone = Some(Histogram::start(VM_GONE, &["vm"], None));
        let instance = TraceInstance::new(4);
        instance.write("set_ftrace_filter", "do_nanosleep");
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let thread = thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                instance.write("current_tracer", "function");
                instance.write("current_tracer", "nop");
                thread::sleep(Duration::from_millis(100));
            }
        });
        Self { over, thread: Some(thread), gone }
    }

    /// How many VMs were where another one had been before.
    pub(crate) fn vms(&self) -> u64 {
        let gone = self.gone.as_ref().unwrap().read();
        gone.values().map(|vms| vms - 1).sum()
    }
}

impl Drop for ReusedAddresses {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            eprintln!("the tracer of functions could not be switched on and off any more");
        }
        // The probe can go only when nobody counts its events.
        self.gone = None;
        probe(&format!("-:{VM_GONE}"));
    }
}

fn probe(words: &str) {
    // To write it anew would take away all probes.
    let written = OpenOptions::new().append(true).open(PROBES).and_then(|mut file| file.write_all(words.as_bytes()));
    if let Err(error) = written {
        let there = fs::read_to_string(PROBES).unwrap_or_default();
        eprintln!("cannot write {words:?} to {PROBES}: {error}. There are: {there}");
    }
}
