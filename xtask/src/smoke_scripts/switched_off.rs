//! Hooks that are switched off in mid-run: the report tells the loss and ends with status 1, also when nobody looked at the switch
//! in the meantime.

use anyhow::Result;

use super::{Checks, sections::Sections};

pub(super) fn check(checks: &mut Checks, sections: &Sections) -> Result<()> {
    for name in ["control-fentry", "control-kprobe"] {
        let report = sections.json(&format!("{name}.report"))?;
        checks.equal(&format!("{name}: exit status"), sections.number(&format!("{name}.status"))?, 0);
        checks.check(&format!("{name}: nothing lost"), report.all_zero("/lost")?, &report.at("/lost")?.to_string());
        checks.check(&format!("{name}: reconciled"), report.is_true("/reconciled")?, &report.at("/violations")?.to_string());
        let performed = report.number("/totals/performed")?;
        checks.check(&format!("{name}: it has seen restores"), performed > 0, &performed.to_string());
    }
    let runs =
        ["fentry-ftrace-long", "fentry-ftrace-quick", "kprobe-ftrace-quick", "kprobe-kprobes-quick", "kprobe-kprobes-long"];
    for name in runs {
        let report = sections.json(&format!("{name}.report"))?;
        checks.equal(&format!("{name}: exit status"), sections.number(&format!("{name}.status"))?, 1);
        let (returns, performed) = (report.number("/totals/userspace_exits")?, report.number("/totals/performed")?);
        let numbers = format!("{performed} restores at {returns} returns");
        checks.check(&format!("{name}: closes were missed, and some were seen"), 0 < performed && performed < returns, &numbers);
        let lost = report.at("/lost")?.to_string();
        let missed = report.at("/lost/missed_closes").is_ok_and(|number| number.as_u64().is_some_and(|number| number > 0));
        checks.check(&format!("{name}: missed closes are told"), missed, &lost);
        // Only what is off for longer than 5 s is sure to be seen so.
        if name.ends_with("-long") {
            let seen = report.at("/lost/hooks_off").is_ok_and(|number| number.as_u64().is_some_and(|number| number > 0));
            checks.check(&format!("{name}: the switch is told"), seen, &lost);
        }
        let said = sections.text(&format!("{name}.err"))?.lines().last().unwrap_or_default();
        let clear = said.starts_with("shared-msr: ") && !said.contains("panicked") && !said.contains("please report");
        checks.check(&format!("{name}: it says so"), clear, said);
    }
    Ok(())
}
