//! Each write of an MSR, in the order in which the kernel made them.

use std::collections::BTreeMap;

use super::trace_instance::TraceInstance;

/// One `write_msr` event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    /// Name of the thread.
    pub(crate) task: String,
    /// Its number.
    pub(crate) tid: u32,
    pub(crate) cpu: u32,
    pub(crate) value: u64,
}

/// Keeps the writes of `TSC_AUX`. The host's value is the number of the CPU, below 8; guests' must be larger.
pub(crate) struct WriteRecord {
    instance: TraceInstance,
}

impl WriteRecord {
    /// Keeps them from now on.
    pub(crate) fn start() -> Self {
        let instance = TraceInstance::new(16384);
        instance.enable("msr/write_msr", Some("msr == 0xc0000103"));
        Self { instance }
    }

    /// What was kept; no more is.
    pub(crate) fn writes(&self) -> Vec<Write> {
        self.instance.stop();
        let text = self.instance.read("trace");
        text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()).map(write).collect()
    }
}

impl Write {
    /// Whether it puts the host's value back.
    pub(crate) fn is_restore(&self) -> bool {
        self.value < 8
    }
}

/// Whose values restores took back: thread and value, and how often. What a restore takes back is what was loaded last on that CPU.
pub(crate) fn restored(writes: &[Write]) -> BTreeMap<(u32, u64), u64> {
    let mut loaded: BTreeMap<u32, (u32, u64)> = BTreeMap::new();
    let mut restored = BTreeMap::new();
    for write in writes {
        if !write.is_restore() {
            loaded.insert(write.cpu, (write.tid, write.value));
        } else if let Some(whose) = loaded.remove(&write.cpu) {
            *restored.entry(whose).or_default() += 1;
        }
    }
    restored
}

/// `  qemu-system-x86-123     [001] d..1.   12.345678: write_msr: c0000103, value abc`
fn write(line: &str) -> Write {
    let parsed = || {
        let (before, after) = line.split_once(" write_msr: ")?;
        let bracket = before.rfind(" [")?;
        let (task, tid) = before[..bracket].trim().rsplit_once('-')?;
        let cpu = before[bracket + 2..].split(']').next()?;
        let value = after.split("value ").nth(1)?.split_whitespace().next()?;
        Some(Write {
            task: task.to_owned(),
            tid: tid.parse().ok()?,
            cpu: cpu.parse().ok()?,
            value: u64::from_str_radix(value.trim_start_matches("0x"), 16).ok()?,
        })
    };
    parsed().unwrap_or_else(|| panic!("the kernel's record has a line that is not understood: {line}"))
}
