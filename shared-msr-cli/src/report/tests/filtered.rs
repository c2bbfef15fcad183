//! Which rows filters keep out of the table, of CSV and of `rows` in JSON. The lists of MSRs and CPUs in JSON are filtered on
//! their own.

use super::{super::filter::MsrWish, *};
use crate::ledger::facts::Measures;

/// What is shown, and what is kept out.
fn parted(ledger: &Ledger, by: By, filter: &Filter) -> (Measures, Measures) {
    with_choice(ledger, &[by], filter, |report| {
        let rows = Rows::of(report);
        let mut shown = Measures::default();
        rows.rows.iter().for_each(|row| shown.add(&row.measures));
        (shown, rows.filtered_out.map(|(_, measures)| measures).unwrap_or_default())
    })
}

#[test]
fn rows_of_other_msrs_are_kept_out() {
    let performed = |name: &str| {
        let filter = Filter { msrs: vec![MsrWish::Name(name.to_owned())], ..Filter::default() };
        let (shown, out) = parted(&busy(), By::Msr, &filter);
        (shown.performed, out.performed)
    };
    assert_eq!((performed("TSC_AUX"), performed("STAR")), ((251, 0), (0, 251)));
}

#[test]
fn rows_of_other_cpus_are_kept_out() {
    let mut ledger = busy();
    let on = |cpu, exits| (TallyKey { owner: NOBODY, cpu }, Tally { exits, ..Tally::EMPTY });
    (ledger.owners.tallies, ledger.owners.by_cpu) = ([on(0, 5), on(1, 7)].into(), true);
    let (shown, out) = parted(&ledger, By::Cpu, &Filter { cpus: vec![1], ..Filter::default() });
    assert_eq!((shown.exits, out.exits), (7, 5));
}
