//! Each write of a user-return MSR, told apart by what KVM was doing: loading a guest's value or putting the host's back.
//!
//! Values alone do not tell: a guest's `TSC_AUX` is 0 until it sets it, which is the host's own on its first CPU.

use std::{collections::BTreeMap, fs::OpenOptions, io::Write as _};

use super::trace_instance::TraceInstance;

/// STAR, LSTAR, `SYSCALL_MASK` and `TSC_AUX`.
const FILTER: &str = "msr == 0xc0000081 || msr == 0xc0000082 || msr == 0xc0000084 || msr == 0xc0000103";
const SET: &str = "lab_set";
const CLOSE: &str = "lab_close";

/// Keeps them. The probes go after the instance that has them enabled.
pub(crate) struct UretRecord {
    instance: TraceInstance,
    _set: Kprobe,
    _close: Kprobe,
}

/// What came of them, by thread.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct UretWrites {
    /// Guests' values, by the thread that loaded them.
    pub(crate) written: BTreeMap<u64, u64>,
    /// Hosts' values, by the thread whose value they took back, which set it last on that CPU.
    pub(crate) restored: BTreeMap<u64, u64>,
}

impl UretRecord {
    /// Keeps them from now on.
    pub(crate) fn start() -> Self {
        let set = Kprobe::new(SET, "kvm_set_user_return_msr");
        let close = Kprobe::new(CLOSE, "kvm_on_user_return");
        let instance = TraceInstance::new(16384);
        for event in [SET, CLOSE] {
            instance.enable(&format!("lab/{event}"), None);
        }
        instance.enable("msr/write_msr", Some(FILTER));
        Self { instance, _set: set, _close: close }
    }

    /// What was kept; no more is.
    pub(crate) fn read(&self) -> UretWrites {
        self.instance.stop();
        let text = self.instance.read("trace");
        let entries = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        judged(entries.map(|line| entry(line).unwrap_or_else(|| panic!("not understood: {line}"))))
    }
}

/// One line of the record.
struct Entry {
    tid: u64,
    cpu: u32,
    what: What,
}

enum What {
    Set,
    Close,
    Write,
}

/// A write belongs to the call that came last on its CPU: both run to their end there before the other one can begin. A value
/// is that of the thread that set it last, also if it was in the hardware already and nothing was written for it.
fn judged(entries: impl Iterator<Item = Entry>) -> UretWrites {
    let mut closing: BTreeMap<u32, bool> = BTreeMap::new();
    let mut owners: BTreeMap<u32, u64> = BTreeMap::new();
    let mut writes = UretWrites::default();
    for Entry { tid, cpu, what } in entries {
        match what {
            What::Set => {
                closing.insert(cpu, false);
                owners.insert(cpu, tid);
            }
            What::Close => {
                closing.insert(cpu, true);
            }
            What::Write if closing.get(&cpu) == Some(&true) => {
                let owner = owners.get(&cpu).unwrap_or_else(|| panic!("a restore on CPU {cpu}, where nothing was set"));
                *writes.restored.entry(*owner).or_default() += 1;
            }
            What::Write => *writes.written.entry(tid).or_default() += 1,
        }
    }
    writes
}

/// `  CPU 0/KVM-123     [001] d..1.   12.345678: write_msr: c0000103, value abc`
fn entry(line: &str) -> Option<Entry> {
    let bracket = line.find("] ")?;
    let (before, after) = (&line[..bracket], &line[bracket..]);
    let (task, cpu) = before.rsplit_once('[')?;
    let (_, tid) = task.trim().rsplit_once('-')?;
    let event = after.split(": ").nth(1)?;
    let what = match event {
        SET => What::Set,
        CLOSE => What::Close,
        "write_msr" => What::Write,
        _ => return None,
    };
    Some(Entry { tid: tid.parse().ok()?, cpu: cpu.parse().ok()?, what })
}

/// A kprobe by tracefs. It goes away when it is dropped.
struct Kprobe(&'static str);

impl Kprobe {
    fn new(name: &'static str, function: &str) -> Self {
        command(&format!("p:lab/{name} {function}")).unwrap_or_else(|error| panic!("no kprobe on {function}: {error}"));
        Self(name)
    }
}

impl Drop for Kprobe {
    fn drop(&mut self) {
        if let Err(error) = command(&format!("-:lab/{}", self.0)) {
            eprintln!("cannot remove the kprobe {}: {error}", self.0);
        }
    }
}

fn command(line: &str) -> std::io::Result<()> {
    OpenOptions::new().append(true).open("/sys/kernel/tracing/kprobe_events")?.write_all(line.as_bytes())
}
