//! A kernel that soon puts a VM where another one was.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::trace_instance::TraceInstance;

/// Makes the kernel use addresses of VMs again soon, until it is dropped: it gives them back when it makes memory executable, as
/// for a tracer of functions.
pub(crate) struct ReusedAddresses {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ReusedAddresses {
    pub(crate) fn start() -> Self {
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
        Self { over, thread: Some(thread) }
    }
}

impl Drop for ReusedAddresses {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            eprintln!("the tracer of functions could not be switched on and off any more");
        }
    }
}
