//! The embedded object with the kernel-side programs.

use aya::{Ebpf, EbpfLoader};
use shared_msr_common::{MAX_SLOTS, accounting::SetForm};

use super::{lean, refuse};
use crate::{
    kernel::{
        exit_reason::{self, ReasonPath, Record},
        layout::{DOCUMENTED, Layout},
        lockdown,
        vcpu::VcpuFacts,
    },
    obstacle::Obstacle,
};

/// Compiled by the build script.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/shared-msr-ebpf"));

/// What the programs have to know of the kernel before they are loaded.
#[derive(Clone, Debug)]
pub(super) struct Globals {
    /// The MSRs by slot, at most [`MAX_SLOTS`].
    pub(super) msrs: Vec<u32>,
    /// Layout of the per-CPU structure.
    pub(super) layout: Layout,
    /// How the setter treats masked bits.
    pub(super) form: SetForm,
    /// Address of `kvm_on_user_return`, 0 when it is not known.
    pub(super) closer: u64,
    /// The way to an exit's reason, where it is asked for and known.
    pub(super) reason: Option<ReasonPath>,
    /// What the classic tracepoint's record has where.
    pub(super) record: Record,
    /// What is known of vCPUs.
    pub(super) vcpu: VcpuFacts,
    /// Address of the pointer to the per-CPU structures; 0 where there is none.
    pub(super) structures_pointer: u64,
    /// Where each CPU keeps the vCPU that is loaded on it; 0 where that is not known.
    pub(super) running_vcpu: u64,
    /// Whether sets and closes are told from WRMSRs alone.
    pub(super) watches_writes: bool,
    /// Whether owners are told apart by CPU as well.
    pub(super) by_cpu: bool,
    /// Whether exits are counted by reason.
    pub(super) by_reason: bool,
    /// Whether closes are timed.
    pub(super) timing: bool,
    /// Whether each event is sent to user space.
    pub(super) tracing: bool,
    /// Whether the programs send messages on their rare paths.
    pub(super) kernel_log: bool,
    /// How large the maps are.
    pub(super) sizes: Sizes,
}

/// How many entries the maps have whose size is not fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Owners, and their threads.
    pub(super) vcpus: u32,
    /// Addresses at which KVM has made vCPUs.
    pub(super) places: u32,
    /// Threads whose exits are counted once more.
    pub(super) thread_exits: u32,
    /// Rows of owners.
    pub(super) tallies: u32,
    /// Rows of causes.
    pub(super) causes: u32,
    /// Rows of causes for payers that found none.
    pub(super) other_payers: u32,
    /// Banks of exits by reason that are not one CPU's.
    pub(super) banks: u32,
    /// All banks.
    pub(super) reasons: u32,
    /// Bytes of the ring buffer of single events; entries of what stands in for it where nothing is traced.
    pub(super) events: u32,
}

impl Sizes {
    /// The smallest ones.
    pub(super) const NONE: Self =
        Self { vcpus: 1, places: 1, thread_exits: 1, tallies: 1, causes: 1, other_payers: 1, banks: 1, reasons: 1, events: 1 };
}

impl Globals {
    /// For programs that ask for none of them.
    pub(super) fn none() -> Self {
        Self {
            msrs: Vec::new(),
            layout: DOCUMENTED,
            form: SetForm::Merged,
            closer: 0,
            reason: None,
            record: Record { reason: exit_reason::IN_RECORD, vcpu_id: None },
            vcpu: VcpuFacts::default(),
            structures_pointer: 0,
            running_vcpu: 0,
            watches_writes: false,
            by_cpu: false,
            by_reason: false,
            timing: false,
            tracing: false,
            kernel_log: false,
            sizes: Sizes::NONE,
        }
    }

    /// Maps of kinds that not every kernel has, and that the programs do not touch: the globals are constants, so the verifier leaves out
    /// what they switch off.
    fn unused_maps(&self) -> Result<Vec<&'static str>, Obstacle> {
        if self.tracing || self.kernel_log {
            refuse::check(refuse::RING_BUFFER)?;
        }
        let maps = [("EVENTS", self.tracing), ("AYA_LOGS", self.kernel_log), ("FREE_BANKS", self.by_reason)];
        Ok(maps.into_iter().filter(|(_, used)| !used).map(|(name, _)| name).collect())
    }
}

/// Creates the maps. The programs themselves are verified and loaded one by one by who needs them.
pub(super) fn load(globals: &Globals) -> Result<Ebpf, Obstacle> {
    // aya_log_common::Level: 0 switches everything off, and the verifier removes the code.
    let log_level = if globals.kernel_log { aya_log::Level::Trace as u8 } else { 0 };
    let mut msrs = [0_u32; MAX_SLOTS];
    let slots = globals.msrs.len().min(MAX_SLOTS);
    msrs[..slots].copy_from_slice(&globals.msrs[..slots]);
    let (argument, steps, first, second): (u64, u64, u64, u64) = match globals.reason {
        None | Some(ReasonPath::Argument) => (0, 0, 0, 0),
        Some(ReasonPath::Vcpu { argument, first, second: None }) => (argument, 1, first as u64, 0),
        Some(ReasonPath::Vcpu { argument, first, second: Some(second) }) => (argument, 2, first as u64, second as u64),
    };
    let object = lean::without(OBJECT, &globals.unused_maps()?)?;
    EbpfLoader::new()
        // The programs ask for no relocation, so aya need not read the kernel's BTF.
        .btf(None)
        .override_global("SLOTS", &(slots as u64), true)
        .override_global("MSRS", &msrs[..], true)
        .override_global("REGISTERED_OFFSET", &(globals.layout.registered as u64), true)
        .override_global("VALUES_OFFSET", &(globals.layout.values as u64), true)
        .override_global("SETS_WHOLE", &u64::from(globals.form == SetForm::Whole), true)
        .override_global("CLOSER", &globals.closer, true)
        .override_global("REASON_ARGUMENT", &argument, true)
        .override_global("REASON_STEPS", &steps, true)
        .override_global("REASON_FIRST", &first, true)
        .override_global("REASON_SECOND", &second, true)
        .override_global("REASON_IN_RECORD", &(globals.record.reason as u64), true)
        .override_global("VCPU_ID_IN_RECORD", &(globals.record.vcpu_id.unwrap_or(0) as u64), true)
        .override_global("STRUCTURES_POINTER", &globals.structures_pointer, true)
        .override_global("RUNNING_VCPU", &globals.running_vcpu, true)
        .override_global("VCPU_KVM_OFFSET", &(globals.vcpu.kvm as u64), true)
        .override_global("VCPU_ID_OFFSET", &(globals.vcpu.id.unwrap_or(0) as u64), true)
        .override_global("LAST_ENTRY_CPU_OFFSET", &(globals.vcpu.last_entry_cpu.unwrap_or(0) as u64), true)
        .override_global("WATCHES_WRITES", &u64::from(globals.watches_writes), true)
        .override_global("BY_CPU", &u64::from(globals.by_cpu), true)
        .override_global("BY_REASON", &u64::from(globals.by_reason), true)
        .override_global("TIMING", &u64::from(globals.timing), true)
        .override_global("TRACING", &u64::from(globals.tracing), true)
        .map_max_entries("VCPUS", globals.sizes.vcpus)
        .map_max_entries("THREADS", globals.sizes.vcpus)
        .map_max_entries("MADE", globals.sizes.places)
        .map_max_entries("THREAD_EXITS", globals.sizes.thread_exits)
        .map_max_entries("TALLIES", globals.sizes.tallies)
        .map_max_entries("CAUSES", globals.sizes.causes)
        .map_max_entries("OTHER_PAYERS", globals.sizes.other_payers)
        .map_max_entries("BANKS", globals.sizes.banks)
        .map_max_entries("FREE_BANKS", globals.sizes.banks)
        .map_max_entries("REASONS", globals.sizes.reasons)
        .map_max_entries("EVENTS", globals.sizes.events)
        .override_global(aya_log::LEVEL, &log_level, true)
        .load(&object)
        .map_err(|error| refused("the maps of the BPF programs", &error))
}

/// The obstacle for a map or program that the object should have.
pub(super) fn missing(what: &str) -> Obstacle {
    Obstacle::new(format!("the embedded BPF object has no {what}"), "build shared-msr anew")
}

/// The obstacle for an error of aya or of the kernel.
pub(super) fn refused(what: &str, error: &dyn std::error::Error) -> Obstacle {
    refused_with(what, error, "")
}

/// The same, with the verifier's log.
pub(super) fn refused_with(what: &str, error: &dyn std::error::Error, log: &str) -> Obstacle {
    let mut reasons = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        reasons.push(substance(&error.to_string()));
        next = error.source();
    }
    if !log.is_empty() {
        reasons.push(substance(&format!("the verifier says:\n{log}")));
    }
    reasons.dedup();
    // Since 5.14 (ff40e51043af; 5.10.y has it, too) a locked-down kernel has no helper that reads its memory, which the verifier calls invalid.
    let cure = if lockdown::is_confidential() {
        lockdown::LOCKED_DOWN
    } else {
        "run it as root, and see whether lockdown (/sys/kernel/security/lockdown) or a container forbids bpf(2)"
    };
    Obstacle::new(format!("the kernel refuses {what} ({})", reasons.join(": ")), cure)
}

/// The verifier's log runs to thousands of lines; its last line of substance says what it objects to.
fn substance(text: &str) -> String {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let Some(first) = lines.next() else { return String::new() };
    let objection = lines.rfind(|line| !line.starts_with("processed") && !line.starts_with("Verifier output"));
    objection.map_or_else(|| first.to_owned(), |objection| format!("{first} {objection}"))
}
