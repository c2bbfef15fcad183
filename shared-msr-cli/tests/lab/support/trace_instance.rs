//! An instance of the kernel's tracing, apart from everybody else's.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

const INSTANCES: &str = "/sys/kernel/tracing/instances";

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Goes away when it is dropped.
pub(super) struct TraceInstance {
    folder: PathBuf,
}

impl TraceInstance {
    /// A new one with room for this many KiB on each CPU.
    pub(super) fn new(kib: u32) -> Self {
        let name = format!("lab-{}-{}", process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = Path::new(INSTANCES).join(name);
        fs::create_dir(&folder).unwrap();
        let instance = Self { folder };
        instance.write("buffer_size_kb", &kib.to_string());
        instance
    }

    /// Lets it take an event, `GROUP/NAME`, if the filter takes it.
    pub(super) fn enable(&self, event: &str, filter: Option<&str>) {
        if let Some(filter) = filter {
            self.write(&format!("events/{event}/filter"), filter);
        }
        self.write(&format!("events/{event}/enable"), "1");
    }

    /// Lets it take no more.
    pub(super) fn stop(&self) {
        self.write("tracing_on", "0");
    }

    pub(super) fn write(&self, file: &str, text: &str) {
        self.try_write(file, text).unwrap_or_else(|error| panic!("cannot write {text:?} to {file}: {error}"));
    }

    /// The same where it may be that there is no such file any more.
    pub(super) fn try_write(&self, file: &str, text: &str) -> io::Result<()> {
        fs::write(self.folder.join(file), text)
    }

    pub(super) fn read(&self, file: &str) -> String {
        // Comm names in a trace need not be UTF-8.
        let bytes = fs::read(self.folder.join(file)).unwrap_or_else(|error| panic!("cannot read {file}: {error}"));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The numbers of the CPUs that it has a buffer of.
    pub(super) fn cpus(&self) -> Vec<u32> {
        let entries = fs::read_dir(self.folder.join("per_cpu")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut cpus: Vec<u32> = names.map(|name| name.strip_prefix("cpu").unwrap().parse().unwrap()).collect();
        cpus.sort_unstable();
        cpus
    }
}

impl Drop for TraceInstance {
    fn drop(&mut self) {
        // A trigger keeps its instance busy only as long as its event is enabled; removing the instance removes both.
        if let Err(error) = fs::remove_dir(&self.folder) {
            eprintln!("cannot remove {}: {error}", self.folder.display());
        }
    }
}
