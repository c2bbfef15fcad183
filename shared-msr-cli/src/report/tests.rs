//! What people and programs read, on a made-up ledger.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;
use shared_msr_common::accounting::Watched;

use super::{Report, json, table, verdict::verdict};
use crate::{
    cli::By,
    kernel::{
        host::{Host, Vendor},
        tables::Slot,
    },
    ledger::{Counts, CpuRow, Events, Ledger, Lost, MsrRow, ReasonRow},
    obstacle::Obstacle,
    probe::{
        ladder::{Event, Refused},
        probes::{Hooks, Sight},
    },
};

fn ledger(counts: Counts, events: Events) -> Ledger {
    Ledger {
        duration: Duration::from_millis(1500),
        sight: Sight::Split(Watched::Calls),
        checked: false,
        events,
        totals: counts,
        msrs: vec![MsrRow { slot: Slot { slot: 0, index: 0xc000_0103, name: "TSC_AUX".to_owned() }, counts, loaded: Some(true) }],
        cpus: vec![CpuRow { cpu: 1, events, counts }],
        reasons: Some(vec![ReasonRow { reason: Some(0x72), exits: 2000 }, ReasonRow { reason: None, exits: 263 }]),
        lost: Lost { skipped_runs: Some(0), ..Lost::default() },
        violations: Vec::new(),
    }
}

fn busy() -> Ledger {
    let counts = Counts {
        set_written: Some(251),
        set_skipped: Some(3),
        deferred: Some(2263),
        performed: Some(251),
        avoided: Some(2012),
        ..Counts::ZERO
    };
    let events =
        Events { exits: 2263, userspace_exits: 250, windows_opened: Some(251), windows_closed: Some(251), ..Events::ZERO };
    ledger(counts, events)
}

fn with_report<T>(ledger: &Ledger, show: impl FnOnce(&Report<'_>) -> T) -> T {
    let host = Host { kernel: "6.12".to_owned(), online_cpus: vec![0, 1], possible_cpus: vec![0, 1, 2, 3] };
    let name = |name: &str| name.to_owned();
    let hooks =
        Hooks { set: Some(name("a:s")), close: Some(name("a:c")), exit: name("b:e"), userspace_exit: name("b:u"), check: None };
    let refused = [Refused { event: Event::Set, hook: name("z:s"), why: Obstacle::new("no", "use another") }];
    show(&Report { host: &host, vendor: Vendor::Amd, hooks: &hooks, refused: &refused, list_known: true, ledger })
}

fn verdict_of(ledger: &Ledger) -> String {
    verdict(ledger, Vendor::Amd)
}

#[test]
fn the_table_begins_with_the_verdict_and_says_the_same_as_the_rows() {
    let text = with_report(&busy(), |report| table::render(report, By::Msr));
    assert!(text.starts_with("In 1.500 s KVM put off 2,263 restores"), "{text}");
    let row = text.lines().find(|line| line.contains("TSC_AUX")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells, ["0", "0xc0000103", "TSC_AUX", "251", "3", "0", "2,263", "251", "2,012"]);
    assert!(text.contains("nothing lost, reconciled"));
}

#[test]
fn without_rows_only_the_total_is_left() {
    let text = with_report(&busy(), |report| table::render(report, By::Total));
    assert!(!text.contains("TSC_AUX") && text.contains("\ntotal "), "{text}");
}

#[test]
fn exit_reasons_have_the_kernels_own_numbers_and_unknown_ones_are_not_left_out() {
    let text = with_report(&busy(), |report| table::render(report, By::Reason));
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(rows.contains(&vec!["svm", "0x72", "2,000"]) && rows.contains(&vec!["svm", "?", "263"]), "{text}");
    assert!(rows.contains(&vec!["total", "2,263"]), "{text}");
}

#[test]
fn losses_and_violations_stand_before_the_rows() {
    let mut ledger = busy();
    ledger.lost.unseen_changes = 4;
    ledger.violations = vec!["CPU 0: something".to_owned()];
    let text = with_report(&ledger, |report| table::render(report, By::Msr));
    let first: Vec<&str> = text.lines().take(3).collect();
    assert!(first[1].starts_with("LOST: unseen changes: 4;") && first[2].starts_with("NOT RECONCILED: CPU 0"), "{first:?}");
    assert!(text.contains("with losses, NOT RECONCILED"));
}

#[test]
fn equal_values_are_named_as_the_reason_for_nothing() {
    let counts = Counts { set_skipped: Some(250), ..Counts::ZERO };
    let text = verdict_of(&ledger(counts, Events { exits: 2000, ..Events::ZERO }));
    assert!(text.contains("neither put off nor performed") && text.contains("are the host's own"), "{text}");
}

#[test]
fn a_host_without_a_guest_is_called_so() {
    assert!(verdict_of(&ledger(Counts::ZERO, Events::ZERO)).contains("no guest ran"));
}

#[test]
fn more_restores_than_deferrals_are_not_called_a_saving() {
    let counts = Counts { set_written: Some(5), performed: Some(5), avoided: Some(-5), ..Counts::ZERO };
    let text = verdict_of(&ledger(counts, Events { windows_opened: Some(5), windows_closed: Some(5), ..Events::ZERO }));
    assert!(text.contains("put off 0 restores") && text.contains("5 more than"), "{text}");
}

#[test]
fn a_vendor_that_does_not_use_the_mechanism_is_named() {
    let mut ledger = ledger(Counts::ZERO, Events { exits: 77, ..Events::ZERO });
    ledger.msrs.clear();
    let text = verdict_of(&ledger);
    assert!(
        text.contains("this kernel's kvm_amd does not use user-return MSRs") && text.contains("77 exits, no window"),
        "{text}"
    );
}

#[test]
fn what_is_unknown_is_shown_as_unknown() {
    let unknown = Counts {
        set_written: None,
        set_skipped: None,
        set_failed: None,
        deferred: None,
        performed: None,
        avoided: None,
        wrmsrs: Some(1234),
        wrmsrs_failed: Some(0),
        wrmsrs_unchanged: None,
    };
    let mut ledger = ledger(unknown, Events { exits: 77, windows_opened: None, ..Events::ZERO });
    ledger.sight = Sight::WritesOnly;
    ledger.checked = true;
    let text = with_report(&ledger, |report| table::render(report, By::Msr));
    let row = text.lines().find(|line| line.contains("TSC_AUX")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells, ["0", "0xc0000103", "TSC_AUX", "?", "?", "?", "?", "?", "?", "1,234"]);
    assert!(text.contains("written 1,234 times") && text.contains("windows unknown"), "{text}");
    let json: Value = serde_json::from_str(&with_report(&ledger, json::render).unwrap()).unwrap();
    assert!(json["msrs"][0]["performed"].is_null() && json["totals"]["windows_opened"].is_null(), "{json}");
}

#[test]
fn returns_without_exits_are_pointed_out() {
    let events = Events { exits: 0, userspace_exits: 200, ..Events::ZERO };
    let text = with_report(&ledger(Counts::ZERO, events), |report| table::render(report, By::Msr));
    assert!(text.contains("200 returns to the VMM, but only 0 exits: kvm_amd does not report"), "{text}");
    assert!(!with_report(&busy(), |report| table::render(report, By::Msr)).contains("but only"));
}

#[test]
fn msrs_that_are_never_loaded_are_named_beside_those_that_are() {
    let mut ledger = busy();
    let efer = Slot { slot: 1, index: 0xc000_0080, name: "EFER".to_owned() };
    ledger.msrs.push(MsrRow { slot: efer, counts: Counts::ZERO, loaded: Some(false) });
    let text = with_report(&ledger, |report| table::render(report, By::Msr));
    assert!(text.contains("Never loaded on this host while measuring, though KVM lists them: EFER."), "{text}");
    ledger.msrs[0].loaded = Some(false);
    assert!(!with_report(&ledger, |report| table::render(report, By::Msr)).contains("Never loaded"), "nothing was");
}

fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                found.insert(key.clone());
                keys(value, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

#[test]
fn every_key_of_the_json_is_explained_in_the_documentation() {
    let text = with_report(&busy(), json::render).unwrap();
    assert_eq!(text.lines().count(), 1, "one object on one line");
    let mut found = BTreeSet::new();
    keys(&serde_json::from_str(&text).unwrap(), &mut found);
    let documentation = include_str!("../../../docs/metrics.md");
    // "host.hooks.set" and ".close" explain "set" and "close".
    let explained = |key: &String| ["`", ".", "`."].iter().any(|before| documentation.contains(&format!("{before}{key}`")));
    let missing: Vec<&String> =
        found.iter().filter(|key| !explained(key) && !["host", "hooks"].contains(&key.as_str())).collect();
    assert!(missing.is_empty(), "docs/metrics.md does not explain {missing:?}");
    assert!(found.len() > 30, "{found:?}");
}
