//! The host that the tests run on.

use std::{
    env, fs, thread,
    time::{Duration, Instant},
};

use shared_msr::kernel::{affinity, cpu_list};

/// Longer than anything takes, also on a machine with other work to do.
const PATIENCE: Duration = Duration::from_secs(240);
/// How often we look meanwhile.
const PAUSE: Duration = Duration::from_millis(20);

/// What `cargo xtask smoke` says of the host that it has started.
pub(crate) struct Host {
    /// `amd` or `intel`.
    pub(crate) vendor: String,
    /// The series of its kernel, such as 6.12.
    pub(crate) kernel: String,
    /// Its CPU, if not the usual one.
    pub(crate) cpu_model: Option<String>,
}

impl Host {
    /// This one.
    pub(crate) fn this() -> Self {
        let said = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let must = |name: &str| said(name).unwrap_or_else(|| panic!("{name} is not set: run these tests with cargo xtask smoke"));
        Self { vendor: must("LAB_HOST"), kernel: must("LAB_KERNEL"), cpu_model: said("LAB_CPU_MODEL") }
    }

    /// Whether fentry can be had on functions of modules: the kernel has BTF of them (since 5.11).
    pub(crate) fn has_module_btf(&self) -> bool {
        self.kernel != "5.10"
    }
}

/// Ends all windows: a task returns to user mode on each CPU. Who is killed inside a window leaves it open until one does, on
/// a CPU that idles perhaps only in the middle of the next measurement.
pub(crate) fn close_windows() {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    for cpu in cpu_list::parse(online.trim()).unwrap() {
        // The thread returns to user mode there after the call that moves it.
        on_cpu(cpu as usize, || ());
    }
}

/// Does something on one CPU: this thread's children stay there too, unless they go elsewhere themselves.
pub(crate) fn on_cpu<R: Send + 'static>(cpu: usize, body: impl FnOnce() -> R + Send + 'static) -> R {
    let thread = thread::spawn(move || {
        affinity::pin(cpu).unwrap();
        body()
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Waits for something to come true.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_true: impl FnMut() -> bool) {
    if !comes_true(&mut is_true) {
        panic!("{what}: not within {PATIENCE:?}");
    }
}

/// The same, for those who have more to say if it does not.
pub(super) fn comes_true(mut is_true: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !is_true() {
        if start.elapsed() > PATIENCE {
            return false;
        }
        thread::sleep(PAUSE);
    }
    true
}
