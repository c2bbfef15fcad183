//! The table of docs/compatibility.md: which command has been seen to work on which host, from the results of tests.

use std::fs;

use anyhow::{Context as _, Result};

use super::results::Results;
use crate::workspace;

const DOCUMENT: &str = "docs/compatibility.md";
/// What stands before the table, and after it.
const BEGIN: &str = "<!-- Written by `cargo xtask smoke --all --table`: -->\n";
const END: &str = "<!-- End of what is written. -->\n";

/// What a column says when all tests below its paths have passed. The first one of which a test was run counts.
type Said = (&'static [&'static str], &'static str);

/// Each column with what it can say.
const COLUMNS: [(&str, &[Said]); 13] = [
    (
        "report, fentry",
        &[
            (&["matrix::module_btf"], "yes"),
            (&["matrix::no_module_btf"], "not to be had"),
            (&["matrix::unused"], "nothing to count"),
        ],
    ),
    ("report, kprobe", &[(&["matrix::used::kprobes_give_the_same_numbers"], "yes"), (&["matrix::unused"], "exits only")]),
    (
        "report, tracepoint",
        &[(&["matrix::used::the_tracepoint_of_wrmsrs_gives_the_same_numbers"], "yes"), (&["matrix::unused"], "exits only")],
    ),
    ("by reason", &[(&["matrix::used::exits_by_reason_are_those_that_the_guest_makes"], "yes")]),
    ("--timing, fentry", &[(&["timing::module_btf"], "yes")]),
    ("--timing, kprobe", &[(&["timing::used::kprobe_times_each_restore"], "yes")]),
    ("trace, fentry", &[(&["trace::module_btf"], "yes")]),
    ("trace, kprobe", &[(&["trace::used::kprobe_shows_each_event"], "yes")]),
    ("trace, tracepoint", &[(&["trace::used::tracepoint_shows_each_event"], "yes")]),
    ("inspect, doctor", &[(&["matrix::used::inspect_lists_the_msrs_and_doctor_finds_nothing_in_the_way"], "yes")]),
    ("top", &[(&["top"], "yes")]),
    ("VMMs of all shapes", &[(&["shapes"], "yes")]),
    ("QEMU", &[(&["qemu"], "yes")]),
];

/// Writes the table into the document.
pub(super) fn write(results: &Results) -> Result<()> {
    let path = workspace::root().join(DOCUMENT);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {DOCUMENT}"))?;
    let text = with_table(&text, &table(results)).with_context(|| format!("{DOCUMENT} has no place for the table"))?;
    fs::write(&path, text).with_context(|| format!("cannot write {DOCUMENT}"))
}

fn with_table(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}

fn table(results: &Results) -> String {
    let line = |cells: &mut dyn Iterator<Item = String>| format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
    let headings = COLUMNS.iter().map(|(heading, _)| (*heading).to_owned());
    let mut table = line(&mut std::iter::once("host and kernel".to_owned()).chain(headings));
    table += &line(&mut std::iter::repeat_n("---".to_owned(), COLUMNS.len() + 1));
    for place in results.places() {
        let cells = COLUMNS.iter().map(|(_, said)| cell(results, place, said).to_owned());
        table += &line(&mut std::iter::once(place.to_owned()).chain(cells));
    }
    table
}

fn cell(results: &Results, place: &str, said: &[Said]) -> &'static str {
    let known = said.iter().find_map(|(paths, word)| Some((results.passed(place, paths)?, *word)));
    match known {
        Some((true, word)) => word,
        Some((false, _)) => "FAILS",
        None => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_a_place_for_the_table() {
        let text = fs::read_to_string(workspace::root().join(DOCUMENT)).unwrap();
        let written = with_table(&text, "| a |\n").unwrap();
        assert_eq!(with_table(&written, "| a |\n").unwrap(), written);
        assert!(written.contains("\n| a |\n"));
    }
}
