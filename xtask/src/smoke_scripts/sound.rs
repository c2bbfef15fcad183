//! What must hold of every report, whoever owned and paid: it agrees with itself, and with the kernel's own record.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    Checks,
    sections::{Json, Sections},
};

/// What is counted of a CPU as well as of an owner.
const COUNTERS: [&str; 10] = [
    "exits",
    "userspace_exits",
    "windows_opened",
    "windows_closed",
    "clean_closes",
    "set_written",
    "set_skipped",
    "set_failed",
    "deferred",
    "performed",
];

/// A report under `--verify`, in the section `NAME.report`: it ended well, nothing is missing and everything adds up.
pub(super) fn verified(checks: &mut Checks, sections: &Sections, name: &str) -> Result<Json> {
    let report = reconciled(checks, sections, name)?;
    checks.check(&format!("{name}: verified"), report.is_true("/verified")?, &report.at("/host/hooks/check")?.to_string());
    checks.check(&format!("{name}: nothing lost"), report.all_zero("/lost")?, &report.at("/lost")?.to_string());
    let failed = report.at("/totals/set_failed")?;
    checks.check(&format!("{name}: no set failed"), *failed == 0 || failed.is_null(), &failed.to_string());
    Ok(report)
}

/// The same without asking for completeness: what was lost may be missing in rows, but in no sum.
pub(super) fn reconciled(checks: &mut Checks, sections: &Sections, name: &str) -> Result<Json> {
    checks.equal(&format!("{name}: exit status"), sections.number(&format!("{name}.status"))?, 0);
    let report = sections
        .json(&format!("{name}.report"))
        .with_context(|| sections.text(&format!("{name}.err")).map_or_else(|_| String::new(), str::to_owned))?;
    checks.check(&format!("{name}: reconciled"), report.is_true("/reconciled")?, &report.at("/violations")?.to_string());
    add_up(checks, &report, name)?;
    Ok(report)
}

/// Adds up anew what the program says that it has added up.
fn add_up(checks: &mut Checks, report: &Json, name: &str) -> Result<()> {
    for (rows, nobody) in [("vcpus", Some("unattributed")), ("vms", Some("unattributed")), ("cpus", None)] {
        let mut wrong = Vec::new();
        for counter in COUNTERS {
            // Some steps cannot tell it.
            if report.at(&format!("/totals/{counter}"))?.is_null() {
                continue;
            }
            let of_nobody = nobody.map_or(Ok(0), |nobody| report.number(&format!("/{nobody}/{counter}")))?;
            let sum = sum(report.at(&format!("/{rows}"))?, counter)? + of_nobody;
            let total = report.number(&format!("/totals/{counter}"))?;
            if sum != total {
                wrong.push(format!("{counter} {sum} of {total}"));
            }
        }
        let number = self::rows(report, rows)?.len();
        let seen = if wrong.is_empty() { format!("{number} rows, {} counters", COUNTERS.len()) } else { wrong.join(", ") };
        let with = nobody.map_or_else(String::new, |nobody| format!(" + {nobody}"));
        checks.check(&format!("{name}: sum over {rows}{with} = totals"), wrong.is_empty(), &seen);
    }
    let causes = report.at("/causes")?;
    for (column, total) in [("closes", "windows_closed"), ("clean_closes", "clean_closes"), ("performed", "performed")] {
        let total = report.number(&format!("/totals/{total}"))?;
        checks.equal(&format!("{name}: sum over causes = totals, {column}"), sum(causes, column)?, total);
    }
    Ok(())
}

/// Totals against what the kernel itself counted in the same run; the guest's value of `TSC_AUX` is not the host's.
pub(super) fn as_the_kernel_counts(checks: &mut Checks, sections: &Sections, report: &Json, name: &str) -> Result<()> {
    for (counter, instance, what) in [
        ("exits", "kvm_exit", "the kernel's count"),
        ("userspace_exits", "kvm_userspace_exit", "the kernel's count"),
        ("set_written", "wrmsr_to_guest", "WRMSRs to the guest's value"),
        ("performed", "wrmsr_to_host", "WRMSRs to the host's value"),
    ] {
        let counted = sections.number(&format!("{name}.{instance}"))?;
        checks.equal(&format!("{name}: {counter} = {what}"), report.number(&format!("/totals/{counter}"))?, counted);
    }
    Ok(())
}

/// Nothing is nobody's.
pub(super) fn all_attributed(checks: &mut Checks, report: &Json, name: &str) -> Result<()> {
    let nobody = report.at("/unattributed")?;
    let none = nobody.as_object().context("unattributed is no object")?;
    // Some steps cannot tell every counter.
    let nothing = none.values().all(|number| number.is_null() || *number == 0) && none.contains_key("exits");
    checks.check(&format!("{name}: nothing is unattributed"), nothing, &nobody.to_string());
    Ok(())
}

/// The elements of an array of objects.
pub(super) fn rows<'a>(report: &'a Json, array: &str) -> Result<&'a [Value]> {
    let rows = report.at(&format!("/{array}"))?;
    rows.as_array().map(Vec::as_slice).with_context(|| format!("{array} is not an array but {rows}"))
}

/// The one row of `array` whose `key` is `value`.
pub(super) fn row(report: &Json, array: &str, key: &str, value: u64) -> Result<Json> {
    let found: Vec<&Value> = rows(report, array)?.iter().filter(|row| row[key] == value).collect();
    match found.as_slice() {
        [row] => Ok(Json((*row).clone())),
        _ => anyhow::bail!("{array} has {} rows with {key} {value}: {}", found.len(), report.at(&format!("/{array}"))?),
    }
}

/// The sum of a column.
pub(super) fn sum(rows: &Value, counter: &str) -> Result<u64> {
    let number = |row: &Value| row[counter].as_u64().with_context(|| format!("{counter} is no number in {row}"));
    rows.as_array().into_iter().flatten().map(number).sum()
}
