//! The table at the end: what ran where, and how it went.

/// What a scenario, or a part of it, has to show.
#[derive(Debug)]
pub(super) struct Summary {
    /// The scenario.
    pub(super) what: String,
    /// Hooks for sets and closes.
    pub(super) hooks: String,
    /// What was counted.
    pub(super) numbers: String,
}

/// One line of the table.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) host: String,
    pub(super) kernel: String,
    pub(super) summary: Summary,
    pub(super) verdict: &'static str,
}

/// Prints the lines in columns.
pub(super) fn print(lines: &[Line]) {
    let header = ["HOST", "KERNEL", "HOOKS", "SCENARIO", "NUMBERS", "VERDICT"].map(str::to_owned);
    let rows: Vec<[String; 6]> = lines
        .iter()
        .map(|line| {
            let Summary { what, hooks, numbers } = &line.summary;
            [line.host.clone(), line.kernel.clone(), hooks.clone(), what.clone(), numbers.clone(), line.verdict.to_owned()]
        })
        .collect();
    let all = || std::iter::once(&header).chain(&rows);
    let widths: [usize; 6] = std::array::from_fn(|column| all().map(|row| row[column].len()).max().unwrap_or(0));
    println!();
    for row in all() {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        println!("{}", cells.join("  ").trim_end());
    }
}
