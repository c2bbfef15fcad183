//! Guests that run before and after the measurement, or come and go: every report must still agree with the kernel's record, WRMSR by WRMSR.

use anyhow::Result;

use super::{Checks, Summary, sections::Sections};

/// `reports` under each step.
pub(super) fn check(checks: &mut Checks, sections: &Sections, reports: u32) -> Result<Vec<Summary>> {
    let mut summaries = Vec::new();
    for step in ["fentry", "kprobe", "tracepoint"] {
        let (mut exits, mut performed) = (0, 0);
        for run in 1..=reports {
            let name = format!("{step}-{run}");
            let report = sections.json(&format!("{name}.out"))?;
            let number = |counter: &str| report.number(&format!("/totals/{counter}"));
            checks.equal(&format!("{name}: exit status"), sections.number(&format!("{name}.status"))?, 0);
            checks.check(
                &format!("{name}: there was something to count"),
                number("performed")? > 10,
                &number("performed")?.to_string(),
            );
            checks.check(&format!("{name}: verified"), report.is_true("/verified")?, &report.at("/violations")?.to_string());
            checks.check(&format!("{name}: nothing lost"), report.all_zero("/lost")?, &report.at("/lost")?.to_string());
            checks.equal(&format!("{name}: no set failed"), number("set_failed")?, 0);
            exits += number("exits")?;
            performed += number("performed")?;
        }
        let numbers = format!("{exits} exits, {performed} performed; reports: {reports}");
        summaries.push(Summary { what: format!("crowd {step}"), hooks: step.to_owned(), numbers });
    }
    Ok(summaries)
}
