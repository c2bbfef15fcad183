//! The embedded object with the kernel-side programs.

use aya::{Ebpf, EbpfLoader};

use crate::{kernel::layout::Layout, obstacle::Obstacle};

/// Compiled by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/shared-msr.bpf.o"));

/// What the programs have to know of the kernel before they are loaded.
#[derive(Clone, Copy, Debug)]
pub struct Globals {
    /// Number of slots in KVM's list.
    pub slots: usize,
    /// Layout of the per-CPU structure.
    pub layout: Layout,
    /// Whether the programs send messages on their rare paths.
    pub kernel_log: bool,
}

/// Creates the maps. The programs themselves are verified and loaded one by one by who needs them.
pub fn load(globals: Globals) -> Result<Ebpf, Obstacle> {
    // aya_log_common::Level: 0 switches everything off, and the verifier removes the code.
    let log_level = if globals.kernel_log { aya_log::Level::Trace as u8 } else { 0 };
    EbpfLoader::new()
        // The programs ask for no relocation, so aya need not read the kernel's BTF.
        .btf(None)
        .override_global("SLOTS", &(globals.slots as u64), true)
        .override_global("REGISTERED_OFFSET", &(globals.layout.registered as u64), true)
        .override_global("VALUES_OFFSET", &(globals.layout.values as u64), true)
        .override_global(aya_log::LEVEL, &log_level, true)
        .load(OBJECT)
        .map_err(|error| refused("the maps of the BPF programs", &error))
}

/// The obstacle for a map or program that the object should have.
pub fn missing(what: &str) -> Obstacle {
    Obstacle::new(format!("the embedded BPF object has no {what}"), "build shared-msr anew")
}

/// The obstacle for an error of aya.
pub fn refused(what: &str, error: &dyn std::error::Error) -> Obstacle {
    let mut reasons = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        // The verifier's log runs to thousands of lines; its last line of substance says what it objects to.
        let text = error.to_string();
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        if let Some(first) = lines.next() {
            let objection = lines.rfind(|line| !line.starts_with("processed") && !line.starts_with("Verifier output"));
            reasons.push(objection.map_or_else(|| first.to_owned(), |objection| format!("{first} {objection}")));
        }
        next = error.source();
    }
    reasons.dedup();
    Obstacle::new(
        format!("the kernel refuses {what} ({})", reasons.join(": ")),
        "run it as root, and see whether lockdown (/sys/kernel/security/lockdown) or a container forbids bpf(2)",
    )
}
