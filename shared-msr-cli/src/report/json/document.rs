//! The shape of the report for programs; `docs/metrics.md` says what each key means.
//!
//! It can be read as well as written, so that a program in Rust, or a test, sees the numbers under the names they have here.
#![expect(missing_docs, reason = "each field is a key that docs/metrics.md defines")]

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{
    kernel::{host::Vendor, process::PidNamespace},
    ledger::{Counts, Events, Lost},
    probe::{hooks::Hooks, ladder::Event},
};

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Document<'a> {
    pub schema: u32,
    pub host: HostPart<'a>,
    /// Nanoseconds.
    pub duration_ns: u64,
    /// Nanoseconds from when counting began.
    pub at_ns: u64,
    pub lost: Lost,
    /// Times that the vendor module was loaded anew.
    pub reloads: u64,
    pub verified: bool,
    pub reconciled: bool,
    /// Sentences: the invariants that do not hold.
    pub violations: Cow<'a, [String]>,
    /// Whether sums over owners were held against sums over CPUs.
    pub owners_compared: bool,
    pub totals: Totals,
    pub savings: Option<SavingsPart>,
    pub distributions: Distributions,
    pub msrs: Vec<Msr<'a>>,
    pub vms: Vec<VmPart>,
    pub vcpus: Vec<VcpuPart>,
    pub unattributed: Numbers,
    pub vcpu_map: MapPart,
    pub cpus: Vec<Cpu>,
    pub causes: Vec<CausePart>,
    pub reasons: Option<Vec<ReasonPart>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<Vec<serde_json::Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filtered_out: Option<FilteredOut>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct HostPart<'a> {
    pub kernel: Cow<'a, str>,
    pub vendor: Vendor,
    pub cpus: usize,
    /// Where shared-msr ran.
    pub pid_namespace: PidNamespace,
    /// Whether names of processes could be read.
    pub names: bool,
    pub hooks: Cow<'a, Hooks>,
    pub refused: Vec<RefusedPart<'a>>,
}

/// A hook that could not be had.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RefusedPart<'a> {
    pub event: Event,
    pub hook: Cow<'a, str>,
    pub why: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Totals {
    #[serde(flatten)]
    pub events: Events,
    #[serde(flatten)]
    pub counts: Counts,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Msr<'a> {
    /// None where KVM's list cannot be read.
    pub slot: Option<usize>,
    pub index: u32,
    pub name: Cow<'a, str>,
    pub loaded: Option<bool>,
    #[serde(flatten)]
    pub counts: Counts,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ReasonPart {
    pub isa: Cow<'static, str>,
    /// None for exits whose reason is not known.
    pub reason: Option<u32>,
    pub name: Option<String>,
    pub exits: u64,
    pub deferred: Option<u64>,
    pub exits_to_userspace: Option<u64>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Cpu {
    pub cpu: u32,
    #[serde(flatten)]
    pub events: Events,
    #[serde(flatten)]
    pub counts: Counts,
}

/// The counters of an owner. Null is what the hooks in use cannot tell.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Numbers {
    pub exits: u64,
    pub userspace_exits: u64,
    pub windows_opened: Option<u64>,
    pub windows_closed: Option<u64>,
    pub clean_closes: Option<u64>,
    pub set_written: Option<u64>,
    pub set_skipped: Option<u64>,
    pub set_failed: Option<u64>,
    pub deferred: Option<u64>,
    pub performed: Option<u64>,
    pub avoided: Option<i64>,
}

/// What a VM's or vCPU's row has of one MSR.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct OfMsr {
    pub name: String,
    #[serde(flatten)]
    pub slot: SlotNumbers,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SlotNumbers {
    pub set_written: Option<u64>,
    pub set_skipped: Option<u64>,
    pub set_failed: Option<u64>,
    pub deferred: Option<u64>,
    pub performed: Option<u64>,
}

/// A distribution: percentiles as the largest number of the bucket that holds them, and all buckets that are not empty.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Distribution {
    pub count: u64,
    pub p50: Option<u64>,
    pub p90: Option<u64>,
    pub p99: Option<u64>,
    pub buckets: Vec<BucketPart>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct BucketPart {
    pub from: u64,
    /// None for the last bucket, which has no end.
    pub to: Option<u64>,
    pub count: u64,
}

/// The distributions of an owner's windows. Null is what the hooks in use cannot tell.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Distributions {
    pub exits_per_window: Option<Distribution>,
    pub window_age_ns: Option<Distribution>,
    pub restore_cost_ns: Option<Distribution>,
    pub windows_unmeasured: Option<u64>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct VmPart {
    pub vm: u32,
    pub vm_number: Option<u32>,
    pub name: Option<String>,
    pub command: Option<String>,
    pub vcpus: u64,
    #[serde(flatten)]
    pub numbers: Numbers,
    pub msrs: Vec<OfMsr>,
    pub distributions: Distributions,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct VcpuPart {
    pub vm: u32,
    pub vm_number: Option<u32>,
    pub name: Option<String>,
    /// A number, "several", or null.
    pub vcpu: serde_json::Value,
    pub tid: u32,
    pub command: String,
    pub ended: bool,
    #[serde(flatten)]
    pub numbers: Numbers,
    pub msrs: Vec<OfMsr>,
    pub distributions: Distributions,
}

/// How full the map of vCPUs is.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct MapPart {
    pub used: u64,
    pub most: u64,
    pub given_back: u64,
    pub merged: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CausePart {
    pub cause: Cow<'static, str>,
    /// KVM_EXIT_* without its prefix, an errno's name, or "other-call".
    pub reason: Option<String>,
    pub payer: Option<PayerPart>,
    pub closes: u64,
    pub clean_closes: u64,
    pub performed: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PayerPart {
    /// None for those that found no row of their own.
    pub tgid: Option<u32>,
    pub command: Option<String>,
}

/// Savings, each under the name of what it is compared with.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SavingsPart {
    pub eager: SavingPart,
    pub preemption: Option<SavingPart>,
    /// Measured on this host; null without timing.
    pub restore_ns: Option<f64>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SavingPart {
    pub wrmsrs: i64,
    pub ns: Option<i64>,
}

/// What the filters keep out of `vms`, `vcpus`, `cpus` and `msrs`: so many rows, with these sums.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct FilteredOut {
    pub vms: OutPart,
    pub vcpus: OutPart,
    pub cpus: OutPart,
    pub msrs: OutPart,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct OutPart {
    pub rows: u64,
    pub exits: u64,
    pub deferred: u64,
    pub performed: u64,
}
