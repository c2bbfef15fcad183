//! The same numbers in every format and by every pair of dimensions: what is shown, left out and summed is all there was.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Checks, sections::Sections, sound};

/// `KVM_RUN` calls of the small guest, and the call that sets its MSR.
const RESTORES: u64 = 36;
/// Exits that it makes on purpose.
const EXITS: i64 = 30 * 21 + 5;
/// Exits beyond those: timer interrupts, page faults.
const INTERRUPTS: i64 = 200;
const DIMENSIONS: [&str; 7] = ["msr", "vm", "vcpu", "cpu", "reason", "cause", "payer"];

pub(super) fn check(checks: &mut Checks, sections: &Sections) -> Result<()> {
    each_format(checks, sections)?;
    for (position, one) in DIMENSIONS.iter().enumerate() {
        for other in &DIMENSIONS[..position] {
            by(checks, sections, &format!("{other},{one}"))?;
        }
    }
    by(checks, sections, "vcpu,cause,payer")?;
    by(checks, sections, &DIMENSIONS.join(","))?;
    intervals(checks, sections)?;
    filtered(checks, sections)?;
    top(checks, sections)
}

fn each_format(checks: &mut Checks, sections: &Sections) -> Result<()> {
    let report = sound::verified(checks, sections, "json")?;
    sound::as_the_kernel_counts(checks, sections, &report, "json")?;
    checks.equal("json: performed = KVM_RUN calls + 1", report.number("/totals/performed")?, RESTORES);
    for name in ["jsonl", "csv", "markdown", "table"] {
        checks.equal(&format!("{name}: exit status"), sections.number(&format!("{name}.status"))?, 0);
        let restored = sections.number(&format!("{name}.wrmsr_to_host"))?;
        checks.equal(&format!("{name}: the kernel restored as often as the guest ran"), restored, RESTORES);
    }
    let lines = Lines::of(sections, "jsonl")?;
    checks.equal("jsonl: performed", number(&lines.rows[0], "performed")?, i64::try_from(RESTORES)?);
    add_up(checks, "jsonl", &lines)?;
    let table = csv(sections.text("csv.report")?)?;
    let seen = format!("{table:?}");
    checks.check("csv: a header and the MSR's row", table.len() == 2 && table[1][0] == "TSC_AUX", &seen);
    checks.equal("csv: performed", sum_of(&table[..1], &table[1..], "performed")?, i64::try_from(RESTORES)?);
    let table = markdown(sections.text("markdown.report")?);
    let whole = table.len() == 3 && table.iter().all(|row| row.len() == table[0].len());
    checks.check("markdown: a header, the MSR's row and the total's, all as wide", whole, &format!("{table:?}"));
    for row in &table[1..] {
        let performed = sum_of(&table[..1], std::slice::from_ref(row), "PERFORMED")?;
        checks.equal(&format!("markdown: performed of {}", row.join(" ").trim()), performed, i64::try_from(RESTORES)?);
    }
    Ok(())
}

/// The rows of one report by these dimensions.
fn by(checks: &mut Checks, sections: &Sections, by: &str) -> Result<()> {
    checks.equal(&format!("--by {by}: exit status"), sections.number(&format!("{by}.status"))?, 0);
    let lines = Lines::of(sections, by)?;
    let name = format!("--by {by}");
    let told = |row: &Value| by.split(',').all(|dimension| row.get(dimension).is_some());
    let all_told = !lines.rows.is_empty() && lines.rows.iter().all(told);
    checks.check(&format!("{name}: each row says what it is of"), all_told, &lines.rows[0].to_string());
    let again = |row: &Value| by.split(',').map(|dimension| row[dimension].to_string()).collect::<Vec<_>>();
    let mut keys: Vec<Vec<String>> = lines.rows.iter().map(again).collect();
    keys.sort();
    keys.dedup();
    checks.equal(&format!("{name}: no row twice"), keys.len(), lines.rows.len());
    add_up(checks, &name, &lines)?;
    let Some(total) = lines.sums.iter().find(|sum| sum["row"] == "total") else { return Ok(()) };
    // What the guest did is known, whichever columns there are.
    let restores = i64::try_from(RESTORES)?;
    for (column, least, most) in [
        ("exits", EXITS, EXITS + INTERRUPTS),
        ("deferred", EXITS, EXITS + INTERRUPTS),
        ("performed", restores, restores),
        ("closes", restores, restores),
        ("set_written", restores, restores),
        ("userspace_exits", restores - 1, restores - 1),
    ] {
        if total.get(column).is_some() {
            let number = number(total, column)?;
            let what = format!("{name}: {column} from {least} to {most}");
            checks.check(&what, (least..=most).contains(&number), &number.to_string());
        }
    }
    Ok(())
}

/// Rows, what filters and `--top` leave out, and the total.
fn add_up(checks: &mut Checks, name: &str, lines: &Lines) -> Result<()> {
    let total = lines.sum("total")?;
    let columns: Vec<&String> = total
        .as_object()
        .context("the total is no object")?
        .iter()
        .filter(|(key, value)| !matches!(key.as_str(), "rows" | "schema" | "seconds") && value.is_i64() | value.is_u64())
        .map(|(key, _)| key)
        .collect();
    let left_out = lines.sums.iter().filter(|sum| sum["row"] != "total");
    let all: Vec<&Value> = lines.rows.iter().chain(left_out).collect();
    let mut wrong = Vec::new();
    for column in &columns {
        let sum = all.iter().map(|row| number(row, column)).sum::<Result<i64>>()?;
        if sum != number(total, column)? {
            wrong.push(format!("{column} {sum} of {}", total[column.as_str()]));
        }
    }
    let names = columns.iter().map(|column| column.as_str()).collect::<Vec<_>>().join(" ");
    let seen = format!("{} rows, {}", lines.rows.len(), if wrong.is_empty() { names } else { wrong.join(", ") });
    checks.check(&format!("{name}: rows = total, column by column"), wrong.is_empty() && !columns.is_empty(), &seen);
    checks.check(&format!("{name}: reconciled"), total["reconciled"] == true, &total["lost"].to_string());
    Ok(())
}

/// The sum over all intervals is what the kernel counted.
fn intervals(checks: &mut Checks, sections: &Sections) -> Result<()> {
    for format in ["json", "jsonl", "csv", "table", "markdown", "markdown-cpu"] {
        let name = format!("interval-{format}");
        checks.equal(&format!("{name}: exit status"), sections.number(&format!("{name}.status"))?, 0);
        let text = sections.text(&format!("{name}.report"))?;
        let (times, performed) = match format {
            "json" => by_interval(text, |object| object["totals"]["performed"].as_i64())?,
            "jsonl" => by_interval(text, |object| (object["row"] == "total").then(|| object["performed"].as_i64()).flatten())?,
            "csv" => {
                let table = csv(text)?;
                checks.equal(&format!("{name}: the times come first"), table[0][0].as_str(), "seconds");
                (table.len() - 1, sum_of(&table[..1], &table[1..], "performed")?)
            }
            "markdown-cpu" => {
                let table = markdown(text);
                let totals: Vec<Vec<String>> = table.iter().filter(|row| row[0] == "total").cloned().collect();
                (totals.len(), sum_of(&table[..1], &totals, "PERFORMED")?)
            }
            _ => {
                let table: Vec<Vec<String>> = text
                    .lines()
                    .map(|line| line.split_whitespace().map(str::to_owned).collect())
                    .take_while(|row: &Vec<String>| !row.is_empty())
                    .collect();
                // "TO VMM" is one heading of two words.
                let place = table[0].iter().position(|heading| heading == "PERFORMED").context("no PERFORMED")? - 1;
                let numbers = table[1..].iter().map(|row| count(&row[place])).collect::<Result<Vec<i64>>>()?;
                (numbers.len(), numbers.iter().sum())
            }
        };
        let restored = i64::try_from(sections.number(&format!("{name}.wrmsr_to_host"))?)?;
        let seen = format!("{performed} in {times} intervals, {restored} by the kernel's count");
        checks.check(&format!("{name}: the intervals' performed = the kernel's count"), performed == restored, &seen);
        checks.check(&format!("{name}: there are several"), times >= if format == "markdown-cpu" { 1 } else { 3 }, &seen);
    }
    Ok(())
}

/// How many objects have a number of restores, and their sum.
fn by_interval(text: &str, performed: impl Fn(&Value) -> Option<i64>) -> Result<(usize, i64)> {
    let objects: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let numbers: Vec<i64> = objects.iter().filter_map(performed).collect();
    Ok((numbers.len(), numbers.iter().sum()))
}

/// Of two guests one is shown, and the other one is in a line of its own.
fn filtered(checks: &mut Checks, sections: &Sections) -> Result<()> {
    let (wanted, other) = (sections.number("wanted.pid")?, sections.number("other.pid")?);
    checks.equal("--vm: exit status", sections.number("vm-json.status")?, 0);
    let report = sections.json("vm-json.out")?;
    let pids = |array: &str| -> Result<Vec<u64>> {
        Ok(sound::rows(&report, array)?.iter().filter_map(|row| row["vm"].as_u64()).collect())
    };
    for array in ["vms", "vcpus"] {
        let pids = pids(array)?;
        checks.check(&format!("--vm, json: {array} has that VM alone"), pids == [wanted], &format!("{pids:?}, not {other}"));
        let out = report.at(&format!("/filtered_out/{array}"))?;
        checks.equal(&format!("--vm, json: one of {array} is left out"), out["rows"].as_u64().unwrap_or(0), 1);
        for counter in ["exits", "deferred", "performed"] {
            let shown = sound::sum(report.at(&format!("/{array}"))?, counter)?;
            let left_out = out[counter].as_u64().unwrap_or(0);
            let nobody = report.number(&format!("/unattributed/{counter}"))?;
            let total = report.number(&format!("/totals/{counter}"))?;
            let seen = format!("{shown} + {left_out} + {nobody} = {total}");
            let what = format!("--vm, json: {counter} shown + left out + unattributed = total");
            checks.check(&what, shown > 0 && left_out > 0 && shown + left_out + nobody == total, &seen);
        }
    }
    for by in ["vm", "vcpu,cause", "msr"] {
        let name = format!("--vm --by {by}");
        checks.equal(&format!("{name}: exit status"), sections.number(&format!("vm-{by}.status"))?, 0);
        let lines = Lines::parse(sections.text(&format!("vm-{by}.out"))?)?;
        add_up(checks, &name, &lines)?;
        let out = lines.sum("filtered_out")?;
        let (left_out, shown) = (number(out, "performed")?, number(&lines.rows[0], "performed")?);
        checks.check(&format!("{name}: both parts are there"), left_out > 0 && shown > 0, &format!("{shown} and {left_out}"));
    }
    let lines = Lines::parse(sections.text("vcpu-none.out")?)?;
    checks.equal("--vcpu 5, which nobody has: no row", lines.rows.len(), 0);
    add_up(checks, "--vcpu 5", &lines)
}

/// The guest with more exits is shown, the other one is in the rest.
fn top(checks: &mut Checks, sections: &Sections) -> Result<()> {
    let lines = Lines::of(sections, "top-jsonl")?;
    add_up(checks, "--top 1", &lines)?;
    let [row] = lines.rows.as_slice() else { anyhow::bail!("--top 1 shows {} rows", lines.rows.len()) };
    let rest = lines.sum("rest")?;
    checks.equal("--top 1: one is left", number(rest, "rows")?, 1);
    let (shown, left, kernel) = (number(row, "exits")?, number(rest, "exits")?, sections.number("top-jsonl.kvm_exit")?);
    let seen = format!("{shown} and {left}");
    checks.check("--top 1: the guest with more exits", shown >= 30 * 101 && (20 * 11..shown).contains(&left), &seen);
    checks.equal("--top 1: both together = the kernel's count", u64::try_from(shown + left)?, kernel);
    let table = sections.text("top-table.report")?;
    let more = table.lines().find(|line| line.starts_with("(1 more)")).unwrap_or_default();
    checks.check("--top 1, table: the rest has its line", !more.is_empty(), more);
    Ok(())
}

/// What `--format jsonl` printed.
struct Lines {
    rows: Vec<Value>,
    /// Those with a "row": the rest, what is filtered out, the total.
    sums: Vec<Value>,
}

impl Lines {
    /// Of the section `NAME.report`.
    fn of(sections: &Sections, name: &str) -> Result<Self> {
        Self::parse(sections.text(&format!("{name}.report"))?)
    }

    fn parse(text: &str) -> Result<Self> {
        let objects: Vec<Value> =
            text.lines().map(serde_json::from_str).collect::<Result<_, _>>().with_context(|| format!("not JSON: {text}"))?;
        let (sums, rows) = objects.into_iter().partition(|object| object.get("row").is_some());
        Ok(Self { rows, sums })
    }

    fn sum(&self, name: &str) -> Result<&Value> {
        self.sums.iter().find(|sum| sum["row"] == name).with_context(|| format!("no line {name} in {:?}", self.sums))
    }
}

fn number(row: &Value, column: &str) -> Result<i64> {
    row[column].as_i64().with_context(|| format!("{column} is no number in {row}"))
}

/// The fields of comma-separated values, none of which has a comma here.
fn csv(text: &str) -> Result<Vec<Vec<String>>> {
    let rows: Vec<Vec<String>> = text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect();
    ensure!(!rows.is_empty() && rows.iter().all(|row| row.len() == rows[0].len()), "not a table: {text}");
    Ok(rows)
}

/// The cells of all tables, without the lines that divide head and body.
fn markdown(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().filter(|line| line.starts_with('|') && !line.starts_with("|-") && !line.starts_with("|:"));
    lines.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// The sum of the column that has this heading.
fn sum_of(head: &[Vec<String>], rows: &[Vec<String>], heading: &str) -> Result<i64> {
    let place = head.iter().flatten().position(|cell| cell == heading).with_context(|| format!("no {heading} in {head:?}"))?;
    rows.iter().map(|row| count(&row[place])).sum()
}

/// A number for people.
fn count(text: &str) -> Result<i64> {
    text.replace(',', "").parse().with_context(|| format!("{text:?} is no number"))
}
