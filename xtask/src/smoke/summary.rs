//! The table at the end: what ran where, how long it took, and how it went.

use std::{collections::BTreeMap, time::Duration};

use super::run::Done;

/// A scenario on a host.
#[derive(Debug, Default)]
struct Line {
    passed: usize,
    failed: usize,
    took: Duration,
}

/// Prints a line for each scenario, the slowest first.
pub(super) fn print(done: &[Done]) {
    let mut lines: BTreeMap<(String, &str), Line> = BTreeMap::new();
    for one in done {
        let place = one.job.boot.place_and_cpus();
        let mut tests = Duration::ZERO;
        for outcome in &one.outcomes {
            let scenario = outcome.test.split("::").next().unwrap_or_default();
            let line = lines.entry((place.clone(), scenario)).or_default();
            if outcome.passed {
                line.passed += 1;
            } else {
                line.failed += 1;
            }
            line.took += outcome.took;
            tests += outcome.took;
        }
        let starting = lines.entry((place, "(starting)")).or_default();
        starting.took += one.took.saturating_sub(tests);
    }
    let mut lines: Vec<_> = lines.into_iter().collect();
    lines.sort_by_key(|(_, line)| std::cmp::Reverse(line.took));
    let header = ["HOST", "SCENARIO", "SECONDS", "PASSED", "FAILED", "VERDICT"].map(str::to_owned);
    let rows = lines.into_iter().map(|((place, scenario), line)| {
        let verdict = if line.failed > 0 { "FAIL" } else { "ok" };
        let seconds = format!("{:.1}", line.took.as_secs_f64());
        [place, scenario.to_owned(), seconds, line.passed.to_string(), line.failed.to_string(), verdict.to_owned()]
    });
    let rows: Vec<[String; 6]> = std::iter::once(header).chain(rows).collect();
    let widths: [usize; 6] = std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
    println!();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        println!("{}", cells.join("  ").trim_end());
    }
}
