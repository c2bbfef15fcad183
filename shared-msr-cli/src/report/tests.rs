//! What people and programs read, on a made-up ledger.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;
use shared_msr_common::{
    BankKey, CauseKey, CauseTally, ReasonCounters, SlotTally, Tally, TallyKey,
    accounting::Watched,
    cause::{FOREIGN, USERSPACE_EXIT},
    owner::{EVERY_CPU, NOBODY, Task},
};

use super::{
    Report,
    by::{By, Choice, Column, Rows},
    columns::Style,
    csv,
    filter::Filter,
    json, jsonl, table,
    verdict::verdict,
};
use crate::{
    kernel::{
        host::{Host, Vendor},
        process::{PidNamespace, Processes},
        tables::Slot,
    },
    ledger::{Counts, CpuRow, Events, Ledger, Lost, MsrRow, books::OwnerBooks},
    obstacle::Obstacle,
    probe::{
        hooks::Hooks,
        ladder::{Event, Refused},
        probes::Sight,
    },
    sample::{
        owners::{Owners, Vm},
        vcpus::{Identities, Vcpu, VcpuId, VmId},
    },
};

mod filtered;
mod percentiles;

fn plain(report: &Report<'_>) -> String {
    table::render(report, Style::Plain)
}

fn ledger(counts: Counts, events: Events) -> Ledger {
    Ledger {
        duration: Duration::from_millis(1500),
        sight: Sight::Split(Watched::Calls),
        checked: false,
        timed: false,
        events,
        totals: counts,
        msrs: vec![MsrRow { slot: Slot { slot: 0, index: 0xc000_0103, name: "TSC_AUX".to_owned() }, counts, loaded: Some(true) }],
        cpus: vec![CpuRow { cpu: 1, events, counts, dirty_at_start: Some(0) }],
        owners: books(),
        compared: true,
        reloads: 0,
        lost: Lost { skipped_runs: Some(0), ..Lost::default() },
        violations: Vec::new(),
    }
}

/// Two VMs: one of 2,000 CPUIDs, HLTs and exits of unknown reason that came back itself, and one whose restores others paid for.
fn books() -> OwnerBooks {
    const WEB: u64 = 77 << 32 | 78;
    const NAMELESS: u64 = 90 << 32 | 91;
    let vcpu = |task: Task, id| {
        let vm = VmId { process: (task >> 32) as u32, number: Some(1) };
        (task, Vcpu { task, vm, id, ended: false, command: *b"CPU 0/KVM\0\0\0\0\0\0\0" })
    };
    let mut tally = Tally { exits: 2263, userspace_exits: 250, ..Tally::EMPTY };
    tally.slots[0] = SlotTally { written: 250, skipped: 3, failed: 0, deferred: 2263, performed: 250 };
    tally.windows.opened = 250;
    tally.windows.closed = 250;
    tally.windows.exits_per_window[4] = 250;
    tally.windows.age[20] = 250;
    let mut other = Tally::EMPTY;
    other.slots[0] = SlotTally { written: 1, skipped: 0, failed: 0, deferred: 0, performed: 1 };
    (other.windows.opened, other.windows.closed) = (1, 1);
    let key = |owner| TallyKey { owner, cpu: EVERY_CPU };
    let mut performed = [0; 16];
    performed[0] = 250;
    let returned = CauseTally { closed: 250, clean: 0, performed, command: *b"CPU 0/KVM\0\0\0\0\0\0\0" };
    performed[0] = 1;
    let paid = CauseTally { closed: 1, clean: 0, performed, command: *b"make\0\0\0\0\0\0\0\0\0\0\0\0" };
    let cause = |owner, payer, kind, code| CauseKey { owner, payer, cpu: EVERY_CPU, kind, code };
    let mut reasons = ReasonCounters::EMPTY;
    reasons.common[0x72] = 2000;
    reasons.common[0x78] = 200;
    reasons.unread = 63;
    let bank = BankKey { owner: WEB, other: NOBODY, cpu: EVERY_CPU, dirty: 1, others: 0 };
    OwnerBooks::open(&Owners {
        identities: Identities {
            vcpus: [vcpu(WEB, VcpuId::Number(0)), vcpu(NAMELESS, VcpuId::Unknown)].into(),
            ..Identities::default()
        },
        vms: [(77, Vm { name: Some("web,1".to_owned()), command: Some("qemu".to_owned()) })].into(),
        tallies: [(key(WEB), tally), (key(NAMELESS), other), (key(NOBODY), Tally::EMPTY)].into(),
        causes: [(cause(WEB, 77, USERSPACE_EXIT, 2), returned), (cause(NAMELESS, 500, FOREIGN, 0), paid)].into(),
        banks: Some([(bank, reasons)].into()),
        ..Owners::default()
    })
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
    with_choice(ledger, &[By::Msr], &Filter::default(), show)
}

fn with_choice<T>(ledger: &Ledger, by: &[By], filter: &Filter, show: impl FnOnce(&Report<'_>) -> T) -> T {
    with_host(ledger, (by, filter), Processes::ON_THE_HOST, show)
}

fn with_processes<T>(ledger: &Ledger, processes: Processes, show: impl FnOnce(&Report<'_>) -> T) -> T {
    with_host(ledger, (&[By::Msr], &Filter::default()), processes, show)
}

fn with_host<T>(ledger: &Ledger, (by, filter): (&[By], &Filter), processes: Processes, show: impl FnOnce(&Report<'_>) -> T) -> T {
    let host = Host { kernel: "6.12".to_owned(), online_cpus: vec![0, 1], possible_cpus: vec![0, 1, 2, 3], processes };
    let name = |name: &str| name.to_owned();
    let hooks = Hooks {
        set: Some(name("a:s")),
        close: Some(name("a:c")),
        exit: name("b:e"),
        userspace_exit: name("b:u"),
        check: None,
        drop: Some(name("a:d")),
        restored: None,
        thread_end: name("b:t"),
        exec: name("b:x"),
        vcpu_made: Some(name("b:v")),
        check_exit: None,
    };
    let refused = [Refused { event: Event::Set, hook: name("z:s"), why: Obstacle::new("no", "use another") }];
    show(&Report {
        host: &host,
        vendor: Vendor::Amd,
        hooks: &hooks,
        refused: &refused,
        list_known: true,
        ledger,
        at: ledger.duration,
        filter,
        choice: &Choice { by: by.to_vec(), ..Choice::default() },
    })
}

fn verdict_of(ledger: &Ledger) -> String {
    verdict(ledger, Vendor::Amd)
}

#[test]
fn the_table_begins_with_the_verdict_and_says_the_same_as_the_rows() {
    let text = with_report(&busy(), plain);
    assert!(text.starts_with("In 1.500 s KVM put off 2,263 restores"), "{text}");
    let row = text.lines().find(|line| line.contains("TSC_AUX")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells, ["0", "0xc0000103", "TSC_AUX", "251", "3", "0", "2,263", "251", "2,012"]);
    assert!(text.contains("nothing lost, reconciled"));
}

#[test]
fn without_rows_only_the_total_is_left() {
    let text = with_choice(&busy(), &[By::Total], &Filter::default(), plain);
    assert!(!text.contains("TSC_AUX") && text.contains("\ntotal "), "{text}");
}

fn cells(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn exit_reasons_have_names_and_those_that_halt_come_last() {
    let text = with_choice(&busy(), &[By::Reason], &Filter::default(), plain);
    let rows = cells(&text);
    let row = |first: &str| rows.iter().position(|row| row.first() == Some(&first)).unwrap();
    assert_eq!(rows[row("cpuid")], ["cpuid", "2,000", "2,000", "96.9", "%"]);
    assert_eq!(rows[row("?")], ["?", "63", "63", "3.1", "%"]);
    assert_eq!(rows[row("hlt")], ["hlt", "200", "200", "idle"]);
    assert!(row("hlt") > row("?"), "{text}");
    assert_eq!(rows[row("total")], ["total", "2,263", "2,263"]);
}

#[test]
fn a_vm_is_shown_with_its_process_whether_it_has_a_name_or_not() {
    let text = with_choice(&busy(), &[By::Vm], &Filter::default(), plain);
    assert!(text.lines().any(|line| line.starts_with("77 web,1 ")), "{text}");
    assert!(text.lines().any(|line| line.starts_with("90 ")), "{text}");
}

#[test]
fn who_paid_is_another_column_than_whose_values_they_were() {
    let text = with_choice(&busy(), &[By::Vm, By::Cause, By::Payer], &Filter::default(), plain);
    let rows = cells(&text);
    assert!(rows.contains(&vec!["77", "web,1", "userspace-exit", "IO", "77", "web,1", "250", "250", "0"]), "{text}");
    assert!(rows.contains(&vec!["90", "CPU", "0/KVM", "foreign", "500", "make", "1", "1", "0"]), "{text}");
    assert!(text.contains("Windows closed by: 250 userspace-exit (250 IO); 1 foreign (1 500 make)."), "{text}");
}

#[test]
fn what_a_filter_keeps_out_is_summed_in_one_line_and_the_total_stays() {
    let filter = Filter { vms: vec!["web,1".to_owned()], ..Filter::default() };
    let text = with_choice(&busy(), &[By::Vm], &filter, plain);
    let rows = cells(&text);
    assert!(!text.lines().any(|line| line.starts_with("90 ")), "{text}");
    let out = rows.iter().find(|row| row.starts_with(&["(filtered", "out:", "1)"])).unwrap();
    assert_eq!(out[3..], ["0", "0", "1", "0", "0", "0", "1", "-1", "1", "0"]);
    let total = rows.iter().find(|row| row.first() == Some(&"total")).unwrap();
    assert_eq!(total[1..], ["2,263", "250", "251", "3", "0", "2,263", "251", "2,012", "251", "0"]);
    let json: Value = serde_json::from_str(&with_choice(&busy(), &[By::Msr], &filter, json::render).unwrap()).unwrap();
    assert_eq!((json["vms"].as_array().unwrap().len(), &json["filtered_out"]["vms"]["rows"]), (1, &Value::from(1)));
    assert_eq!(json["filtered_out"]["vms"]["performed"], 1);
}

#[test]
fn every_combination_of_dimensions_adds_up_to_the_totals() {
    let ledger = busy();
    let dimensions = [By::Msr, By::Vm, By::Vcpu, By::Cpu, By::Reason, By::Cause, By::Payer];
    for first in dimensions {
        for second in dimensions {
            with_choice(&ledger, &[first, second], &Filter::default(), |report| {
                let rows = Rows::of(report);
                for column in &rows.columns {
                    let sum: Option<i64> = rows.rows.iter().map(|row| column.number(&row.measures, &ledger)).sum();
                    let expected = match column {
                        Column::Exits => 2263,
                        Column::UserspaceExits => 250,
                        Column::SetWritten | Column::Performed | Column::Closes => 251,
                        Column::SetSkipped => 3,
                        Column::Deferred => 2263,
                        Column::Avoided => 2012,
                        Column::SetFailed | Column::CleanCloses => 0,
                    };
                    assert_eq!(sum, Some(expected), "{first:?} {second:?} {column:?}");
                }
            });
        }
    }
}

#[test]
fn rows_as_values_have_one_header_and_names_with_commas_are_quoted() {
    let text =
        with_choice(&busy(), &[By::Vm], &Filter::default(), |report| csv::header(report, true) + &csv::rows(report, Some(1.5)));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("seconds,vm,exits,userspace_exits,set_written"), "{text}");
    assert_eq!(lines[1], "1.500,\"77 web,1\",2263,250,250,3,0,2263,250,2013,250,0");
    assert_eq!(lines.len(), 3, "{text}");
}

#[test]
fn rows_as_json_lines_end_with_the_total() {
    let text = with_choice(&busy(), &[By::Payer], &Filter::default(), |report| jsonl::render(report, 1.5));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["payer"]["tgid"], &lines[0]["performed"]), (3, &Value::from(77), &Value::from(250)));
    assert_eq!(
        (&lines[2]["row"], &lines[2]["performed"], &lines[2]["rows"]),
        (&Value::from("total"), &Value::from(251), &Value::from(2))
    );
}

#[test]
fn a_table_in_markdown_has_bars_and_the_same_numbers() {
    let text = with_choice(&busy(), &[By::Cause], &Filter::default(), |report| table::render(report, Style::Markdown));
    assert!(text.lines().any(|line| line.starts_with("| userspace-exit IO |")), "{text}");
}

#[test]
fn an_interval_has_what_happened_since_the_one_before() {
    let (before, mut after) = (busy(), busy());
    after.events.exits += 7;
    let key = TallyKey { owner: 77 << 32 | 78, cpu: EVERY_CPU };
    after.owners.tallies.get_mut(&key).unwrap().exits += 7;
    let since = after.since(&before);
    assert_eq!((since.events.exits, since.totals.performed, since.vms().len()), (7, Some(0), 1));
    assert_eq!((since.vms()[0].tally.exits, since.vms()[0].tally.slots[0].performed), (7, 0));
}

#[test]
fn losses_and_violations_stand_before_the_rows() {
    let mut ledger = busy();
    ledger.lost.unseen_changes = 4;
    ledger.violations = vec!["CPU 0: something".to_owned()];
    let text = with_report(&ledger, plain);
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
fn an_empty_list_that_is_contradicted_is_no_vendor_that_does_not_use_the_mechanism() {
    let mut ledger = ledger(Counts::ZERO, Events { exits: 77, ..Events::ZERO });
    ledger.msrs.clear();
    ledger.violations = vec!["CPU 0: KVM's list of MSRs is empty, but there was a notifier that was registered".to_owned()];
    let text = verdict_of(&ledger);
    assert!(!text.contains("nothing to put off") && text.contains("kvm_amd was seen to use"), "{text}");
}

#[test]
fn a_pid_namespace_of_its_own_is_one_line() {
    let last = |pid_namespace, names| {
        with_processes(&busy(), Processes { pid_namespace, names }, |report| {
            let json: Value = serde_json::from_str(&json::render(report).unwrap()).unwrap();
            let host = (json["host"]["pid_namespace"].clone(), json["host"]["names"].clone());
            (plain(report).lines().last().unwrap_or_default().to_owned(), host)
        })
    };
    assert!(!last(PidNamespace::Host, true).0.contains("PID namespace"));
    assert_eq!(last(PidNamespace::Host, true).1, ("host".into(), true.into()));
    let (text, json) = last(PidNamespace::Own, true);
    assert!(text.contains("PID namespace of its own, but /proc is the host's"), "{text}");
    assert_eq!(json, ("own".into(), true.into()));
    let (text, json) = last(PidNamespace::Own, false);
    assert!(text.contains("PID namespace of its own, and /proc is not the host's"), "{text}");
    assert_eq!(json, ("own".into(), false.into()));
}

#[test]
fn a_process_has_one_name_whichever_of_its_threads_was_seen() {
    const VCPU: u64 = 178 << 32 | 179;
    let paid = |command: &[u8; 16]| CauseTally { closed: 1, command: *command, ..CauseTally::EMPTY };
    let cause = |owner, kind| CauseKey { owner, payer: 178, cpu: EVERY_CPU, kind, code: 2 };
    let vm = VmId { process: (VCPU >> 32) as u32, number: Some(1) };
    let vcpu = Vcpu { task: VCPU, vm, id: VcpuId::Number(0), ended: false, command: *b"guest-vcpu\0\0\0\0\0\0" };
    let mut owners = Owners {
        identities: Identities { vcpus: [(VCPU, vcpu)].into(), ..Identities::default() },
        causes: [
            (cause(VCPU, USERSPACE_EXIT), paid(b"guest-vcpu\0\0\0\0\0\0")),
            (cause(VCPU, FOREIGN), paid(b"renamed\0\0\0\0\0\0\0\0\0")),
            (cause(NOBODY, FOREIGN), paid(b"shared-msr\0\0\0\0\0\0")),
        ]
        .into(),
        ..Owners::default()
    };
    for (own, name) in [(Some("shared-msr"), "shared-msr"), (None, "guest-vcpu")] {
        owners.vms = [(178, Vm { name: None, command: own.map(str::to_owned) })].into();
        let mut ledger = busy();
        ledger.owners = OwnerBooks::open(&owners);
        with_choice(&ledger, &[By::Payer], &Filter::default(), |report| {
            let json: Value = serde_json::from_str(&json::render(report).unwrap()).unwrap();
            assert_eq!(json["vms"][0]["command"], name);
            let payers = json["causes"].as_array().unwrap().iter().filter(|cause| !cause["payer"].is_null());
            assert!(payers.clone().count() == 1 && payers.clone().all(|cause| cause["payer"]["command"] == name), "{json}");
            assert_eq!(json["rows"][0]["payer"]["command"], name);
            assert_eq!(json["rows"].as_array().unwrap().len(), 1, "payers are told by their process alone");
            assert!(plain(report).lines().any(|line| line.starts_with(&format!("178 {name} "))), "{}", plain(report));
        });
    }
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
    let text = with_report(&ledger, plain);
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
    let text = with_report(&ledger(Counts::ZERO, events), plain);
    assert!(text.contains("200 returns to the VMM, but only 0 exits: kvm_amd does not report"), "{text}");
    assert!(!with_report(&busy(), plain).contains("but only"));
}

#[test]
fn msrs_that_are_never_loaded_are_named_beside_those_that_are() {
    let mut ledger = busy();
    let efer = Slot { slot: 1, index: 0xc000_0080, name: "EFER".to_owned() };
    ledger.msrs.push(MsrRow { slot: efer, counts: Counts::ZERO, loaded: Some(false) });
    let text = with_report(&ledger, plain);
    assert!(text.contains("Never loaded on this host while measuring, though KVM lists them: EFER."), "{text}");
    ledger.msrs[0].loaded = Some(false);
    assert!(!with_report(&ledger, plain).contains("Never loaded"), "nothing was");
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
    for column in <Column as clap::ValueEnum>::value_variants() {
        let (key, heading) = column.names();
        assert!(documentation.contains(&format!("{heading} `{key}`")), "docs/metrics.md does not explain the column {heading}");
    }
    let missing: Vec<&String> =
        found.iter().filter(|key| !explained(key) && !["host", "hooks"].contains(&key.as_str())).collect();
    assert!(missing.is_empty(), "docs/metrics.md does not explain {missing:?}");
    assert!(found.len() > 30, "{found:?}");
}
