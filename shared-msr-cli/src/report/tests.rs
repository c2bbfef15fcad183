//! What people and programs read, on a made-up ledger.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;

use super::{Report, json, table, verdict::verdict};
use crate::{
    kernel::{
        host::{Host, Vendor},
        tables::Slot,
    },
    ledger::{Counts, Events, Ledger, Lost, MsrRow},
    probe::probes::Hooks,
};

fn ledger(counts: Counts, events: Events) -> Ledger {
    Ledger {
        duration: Duration::from_millis(1500),
        events,
        totals: counts,
        msrs: vec![MsrRow { slot: Slot { slot: 0, index: 0xc000_0103, name: "TSC_AUX".to_owned() }, counts }],
        lost: Lost { skipped_runs: Some(0), ..Lost::default() },
        violations: Vec::new(),
    }
}

fn busy() -> Ledger {
    let counts = Counts { set_written: 251, set_skipped: 3, set_failed: 0, deferred: 2263, performed: 251, avoided: 2012 };
    ledger(counts, Events { exits: 2263, userspace_exits: 250, windows_opened: 251, windows_closed: 251, ..Events::default() })
}

fn with_report<T>(ledger: &Ledger, show: impl FnOnce(&Report<'_>) -> T) -> T {
    let host = Host { kernel: "6.12".to_owned(), online_cpus: vec![0, 1], possible_cpus: vec![0, 1, 2, 3] };
    let name = |name: &str| name.to_owned();
    let hooks = Hooks { set: name("a:s"), close: name("a:c"), exit: name("b:e"), userspace_exit: name("b:u") };
    show(&Report { host: &host, vendor: Vendor::Amd, hooks: &hooks, ledger })
}

#[test]
fn the_table_begins_with_the_verdict_and_says_the_same_as_the_rows() {
    let text = with_report(&busy(), |report| table::render(report, true));
    assert!(text.starts_with("In 1.500 s KVM put off 2,263 restores"), "{text}");
    let row = text.lines().find(|line| line.contains("TSC_AUX")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells, ["0", "0xc0000103", "TSC_AUX", "251", "3", "0", "2,263", "251", "2,012"]);
    assert!(text.contains("nothing lost, reconciled"));
}

#[test]
fn without_rows_only_the_total_is_left() {
    let text = with_report(&busy(), |report| table::render(report, false));
    assert!(!text.contains("TSC_AUX") && text.contains("\ntotal "), "{text}");
}

#[test]
fn losses_and_violations_stand_before_the_rows() {
    let mut ledger = busy();
    ledger.lost.unseen_changes = 4;
    ledger.violations = vec!["CPU 0: something".to_owned()];
    let text = with_report(&ledger, |report| table::render(report, true));
    let first: Vec<&str> = text.lines().take(3).collect();
    assert!(first[1].starts_with("LOST: unseen changes: 4;") && first[2].starts_with("NOT RECONCILED: CPU 0"), "{first:?}");
    assert!(text.contains("with losses, NOT RECONCILED"));
}

#[test]
fn equal_values_are_named_as_the_reason_for_nothing() {
    let counts = Counts { set_skipped: 250, ..Counts::default() };
    let text = verdict(&ledger(counts, Events { exits: 2000, ..Events::default() }));
    assert!(text.contains("neither put off nor performed") && text.contains("are the host's own"), "{text}");
}

#[test]
fn a_host_without_a_guest_is_called_so() {
    assert!(verdict(&ledger(Counts::default(), Events::default())).contains("no guest ran"));
}

#[test]
fn more_restores_than_deferrals_are_not_called_a_saving() {
    let counts = Counts { set_written: 5, performed: 5, avoided: -5, ..Counts::default() };
    let text = verdict(&ledger(counts, Events { windows_opened: 5, windows_closed: 5, ..Events::default() }));
    assert!(text.contains("put off 0 restores") && text.contains("5 more than"), "{text}");
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
