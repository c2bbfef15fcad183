//! One window from open to close, as people and programs read it.

use serde_json::Value;
use shared_msr_common::cause::{FOREIGN, USERSPACE_EXIT};

use shared_msr_common::Task;

use super::*;
use crate::{report::filter::MsrWish, sample::vcpus::VmId};

const VCPU: Task = 77 << 32 | 78;

fn vcpu() -> Vcpu {
    let vm = VmId { process: 77, number: Some(1) };
    Vcpu { task: VCPU, vm, id: VcpuId::Number(3), ended: false, command: Default::default() }
}

fn words() -> Words {
    Words {
        vendor: Vendor::Amd,
        slots: vec![Slot { slot: 0, index: 0xc000_0103, name: "TSC_AUX".to_owned() }],
        began: 1_000_000_000,
        owners: Identities { vcpus: [(VCPU, vcpu())].into(), ..Identities::default() },
        vms: [(77, Vm { name: Some("web1".to_owned()), command: None })].into(),
        names: Names::default(),
    }
}

fn event(kind: u32) -> Event {
    let time = 1_250_000_000;
    Event { time, task: VCPU, owner: VCPU, kind, cpu: 1, host: 1, curr: 1, value: 0xabc, ..Event::default() }
}

#[test]
fn a_window_can_be_followed_from_open_to_close() {
    let other = Event { task: 500 << 32 | 501, command: *b"make\0\0\0\0\0\0\0\0\0\0\0\0", ..event(event::CLOSE) };
    let events = [
        Event { window: 1, ..event(event::SET_WRITTEN) },
        Event { curr: 0xabc, ..event(event::SET_SKIPPED) },
        Event { code: 0x72, slot: 1, dirty: 1, ..event(event::EXIT) },
        Event { cause: USERSPACE_EXIT, code: 2, ..event(event::USERSPACE_EXIT) },
        Event { cause: FOREIGN, dirty: 1, window: 12_500, exits: 1, ..other },
        Event { curr: 0xabc, value: 1, ..event(event::RESTORE) },
    ];
    let text: String = events.iter().map(|event| text::line(event, &words())).collect();
    let expected = "    0.250000    1  3 (78)          set      TSC_AUX 0x1 -> 0xabc (host 0x1): written, opens a window
    0.250000    1  3 (78)          set      TSC_AUX = 0xabc (host 0x1): skipped, in the hardware already
    0.250000    1  3 (78)          exit     cpuid; put off: TSC_AUX
    0.250000    1  3 (78)          to VMM   IO
    0.250000    1  3 (78)          close    foreign, paid by 500 make; open for 12.5µs, 1 exit
    0.250000    1  3 (78)                   restores TSC_AUX 0xabc -> 0x1
";
    assert_eq!(text, expected);
}

#[test]
fn an_event_in_json_has_the_same_content() {
    let close = Event { cause: USERSPACE_EXIT, code: 2, dirty: 1, window: 9, exits: 11, ..event(event::CLOSE) };
    let line: Value = serde_json::from_str(&json::line(&close, &words())).unwrap();
    assert_eq!((&line["event"], &line["cause"], &line["reason"]), (&"close".into(), &"userspace-exit".into(), &"IO".into()));
    assert_eq!((&line["vm"], &line["tid"], &line["vcpu"], &line["exits"]), (&77.into(), &78.into(), &3.into(), &11.into()));
    assert_eq!((&line["time_ns"], &line["payer"]["tgid"]), (&250_000_000.into(), &77.into()));
    let unseen = Event { window: 0, ..close };
    let line: Value = serde_json::from_str(&json::line(&unseen, &words())).unwrap();
    assert!(line["age_ns"].is_null() && line["exits"].is_null(), "what was not seen is not 0: {line}");
}

#[test]
fn every_key_of_an_event_is_explained_in_the_documentation() {
    let documentation = include_str!("../../../docs/metrics.md");
    let (_, documentation) = documentation.split_once("## `trace --format jsonl`").unwrap();
    let kinds = [
        event::SET_WRITTEN,
        event::SET_SKIPPED,
        event::SET_FAILED,
        event::EXIT,
        event::CLOSE,
        event::RESTORE,
        event::USERSPACE_EXIT,
    ];
    for line in kinds.map(|kind| json::line(&event(kind), &words())).into_iter().chain([json::end(1, 0)]) {
        let object: Value = serde_json::from_str(&line).unwrap();
        for key in object.as_object().unwrap().keys() {
            assert!(documentation.contains(&format!("`{key}`")), "docs/metrics.md does not explain {key} of {line}");
        }
        let event = object["event"].as_str().unwrap();
        assert!(documentation.contains(&format!("`{event}`")) && event != "unknown", "{event}");
    }
}

#[test]
fn an_unknown_exit_reason_is_a_number_and_one_that_could_not_be_read_a_question_mark() {
    let unknown = Event { code: 0xbad, slot: 1, ..event(event::EXIT) };
    assert!(text::line(&unknown, &words()).contains("exit     0xbad; nothing to restore"));
    assert!(text::line(&Event { slot: 0, ..unknown }, &words()).contains("exit     ?;"));
}

#[test]
fn filters_choose_by_vm_vcpu_cpu_and_msr() {
    let wants = |filter: Filter| words().wants(&event(event::SET_WRITTEN), &filter);
    assert!(wants(Filter { vms: vec!["web1".to_owned()], vcpus: vec![3], cpus: vec![1], ..Filter::default() }));
    assert!(!wants(Filter { vms: vec!["web2".to_owned()], ..Filter::default() }));
    assert!(!wants(Filter { vcpus: vec![2], ..Filter::default() }));
    assert!(!wants(Filter { cpus: vec![0], ..Filter::default() }));
    let star = Filter { msrs: vec![MsrWish::Name("STAR".to_owned())], ..Filter::default() };
    assert!(!wants(star.clone()));
    assert!(words().wants(&event(event::EXIT), &star), "an exit is of all MSRs");
}
