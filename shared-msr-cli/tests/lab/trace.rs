//! Single events: each of them is shown once, with the kernel's own counts of the same time to tell.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{Host, KernelCounter, Running, WriteRecord, command, restored};

const CPUIDS: u64 = 3;
const TSC_AUX: u64 = 0xabc;

/// Exits to user space. Where a CPU is interpreted each event takes long.
fn outs() -> u64 {
    if Host::this().vendor == "intel" { 4 } else { 20 }
}

/// What was shown of one run, and the kernel's counts.
struct Traced {
    events: Vec<Value>,
    exits: u64,
    returns: u64,
    written: u64,
    restored: u64,
}

fn trace(step: &str, filters: &str) -> Traced {
    let exits = KernelCounter::start("kvm/kvm_exit", None);
    let returns = KernelCounter::start("kvm/kvm_userspace_exit", None);
    // Not every write of the host's value is a restore: up to 5.10 at least, each listed MSR is written as it is when a vCPU is made on
    // Intel (arch/x86/kvm/vmx/vmx.c, `vmx_create_vcpu`).
    let writes = WriteRecord::start();
    let outs = outs();
    let guest = format!("shared-msr guest --outs {outs} --cpuids {CPUIDS} --tsc-aux {TSC_AUX}");
    let ended = Running::start(&mut command(&format!("trace --format jsonl --probe {step} {filters} -- {guest}"))).wait();
    assert_eq!(ended.status, 0, "{ended:?}");
    let mut events: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let end = events.pop().unwrap();
    assert_eq!((&end["event"], &end["lost"]), (&Value::from("end"), &Value::from(0)), "{end}");
    assert_eq!(end["shown"], events.len());
    let writes = writes.writes();
    let written = writes.iter().filter(|write| !write.is_restore()).count() as u64;
    Traced { events, exits: exits.count(), returns: returns.count(), written, restored: restored(&writes).values().sum() }
}

impl Traced {
    /// Those of a kind.
    fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.events.iter().filter(move |event| event["event"] == kind)
    }

    /// How many writes of `TSC_AUX` of a kind.
    fn of_tsc_aux(&self, kind: &str) -> u64 {
        self.of(kind).filter(|event| event["msr"] == "TSC_AUX" && event["outcome"] != "skipped").count() as u64
    }
}

/// Each event is there, and windows are what their events make of them.
fn assert_whole(traced: &Traced, step: &str) {
    assert_eq!(traced.of("exit").count() as u64, traced.exits, "{step}: exits");
    assert_eq!(traced.of("userspace-exit").count() as u64, traced.returns, "{step}: returns to the VMM");
    assert_eq!(traced.of_tsc_aux("set"), traced.written, "{step}: WRMSRs to the guest's value");
    assert_eq!(traced.of_tsc_aux("restore"), traced.restored, "{step}: WRMSRs to the host's value");
    let outs = outs();
    assert_eq!(traced.returns, outs, "the known load");

    // arch/x86/include/uapi/asm/vmx.h and svm.h: CPUID, IO.
    let [cpuid, io] = if Host::this().vendor == "intel" { [10, 30] } else { [0x72, 0x7b] };
    let of_reason = |reason: u64| traced.of("exit").filter(|event| event["reason"] == reason).count() as u64;
    assert_eq!((of_reason(cpuid), of_reason(io)), (outs * CPUIDS, outs), "{step}: exits by reason");

    // One CPU: a window is what lies between a set that opens it and the close.
    let (mut open, mut inside, mut closes) = (false, 0u64, 0);
    let mut shown: BTreeMap<&str, u64> = BTreeMap::new();
    for event in &traced.events {
        match event["event"].as_str().unwrap() {
            "set" if event["opens"] == true => {
                assert!(!open, "{step}: a window opens inside another one: {event}");
                (open, inside) = (true, 0);
            }
            "exit" => {
                let dirty = event["dirty"].as_array().unwrap();
                assert_eq!(open, !dirty.is_empty(), "{step}: {event}");
                inside += u64::from(open);
            }
            "close" => {
                assert!(open, "{step}: a close without a window: {event}");
                assert_eq!(event["exits"], inside, "{step}: exits in the window: {event}");
                assert_eq!(event["cause"] == "userspace-exit" && event["reason"] == "IO", inside > 0 && event["reason"] == "IO");
                *shown.entry(event["cause"].as_str().unwrap()).or_default() += 1;
                (open, closes) = (false, closes + 1);
            }
            _ => {}
        }
    }
    assert!(!open, "{step}: the last window is closed");
    assert_eq!(closes, traced.restored, "{step}: one close for each restore, {shown:?}");
    let times: Vec<u64> = traced.events.iter().map(|event| event["time_ns"].as_u64().unwrap()).collect();
    assert!(times.is_sorted(), "{step}: events are in their order");
    let strangers = traced.events.iter().filter(|event| event["vcpu"] != 0 || event["vm"].is_null()).count();
    assert_eq!(strangers, 0, "{step}: each event is the guest's");
}

/// Where the kernel has BTF of modules, which fentry on them needs.
mod module_btf {
    use super::*;

    #[test]
    fn fentry_shows_each_event() {
        assert_whole(&trace("fentry", ""), "fentry");
    }
}

/// Where KVM uses the mechanism at all.
mod used {
    use super::*;

    #[test]
    fn kprobe_shows_each_event() {
        assert_whole(&trace("kprobe", ""), "kprobe");
    }

    #[test]
    fn tracepoint_shows_each_event() {
        assert_whole(&trace("tracepoint", ""), "tracepoint");
    }
}

/// What is left out.
mod left_out {
    use super::*;

    #[test]
    fn a_filter_hides_what_it_does_not_take_and_limit_ends_it() {
        let others = trace("auto", "--vcpu 1");
        assert!(others.exits > 0 && others.events.is_empty(), "{:?}", others.events);
        let own = trace("auto", "--vcpu 0 --msr TSC_AUX --cpu 0");
        assert_eq!(own.of("exit").count() as u64, own.exits);
        assert_eq!(own.of_tsc_aux("restore"), own.restored);
        let ended =
            Running::start(&mut command("trace --format jsonl --limit 7 -- shared-msr guest --spin --cpuids 1 --tsc-aux 0xabc"))
                .wait();
        assert_eq!(ended.stdout.lines().count(), 8, "seven events and the end: {ended:?}");
    }
}
