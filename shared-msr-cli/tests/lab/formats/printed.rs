//! What reports in the formats for programs and for people say.

use serde_json::Value;

/// What `--format jsonl` printed.
pub(super) struct Lines {
    pub(super) rows: Vec<Value>,
    /// Those with a "row": the rest, what is filtered out, the total.
    sums: Vec<Value>,
}

impl Lines {
    #[track_caller]
    pub(super) fn parse(text: &str) -> Self {
        let object = |line| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {text}"));
        let (sums, rows) = text.lines().map(object).partition(|object| object.get("row").is_some());
        Self { rows, sums }
    }

    #[track_caller]
    pub(super) fn sum(&self, name: &str) -> &Value {
        self.sums.iter().find(|sum| sum["row"] == name).unwrap_or_else(|| panic!("no line {name} in {:?}", self.sums))
    }

    /// Rows, and what filters and `--top` leave out, are the total, column by column.
    #[track_caller]
    pub(super) fn assert_add_up(&self) {
        let total = self.sum("total");
        let is_number = |(key, value): &(&String, &Value)| {
            !matches!(key.as_str(), "rows" | "schema" | "seconds") && value.is_i64() | value.is_u64()
        };
        let columns: Vec<&String> = total.as_object().unwrap().iter().filter(is_number).map(|(key, _)| key).collect();
        assert!(!columns.is_empty(), "{total}");
        let left_out = self.sums.iter().filter(|sum| sum["row"] != "total");
        let all: Vec<&Value> = self.rows.iter().chain(left_out).collect();
        for column in columns {
            let sum: i64 = all.iter().map(|row| number(row, column)).sum();
            assert_eq!(sum, number(total, column), "{column} of {all:?}");
        }
        assert_eq!(total["reconciled"], true, "{}", total["lost"]);
    }
}

#[track_caller]
pub(super) fn number(row: &Value, column: &str) -> i64 {
    row[column].as_i64().unwrap_or_else(|| panic!("{column} is no number in {row}"))
}

/// The fields of comma-separated values, none of which has a comma here.
#[track_caller]
pub(super) fn csv(text: &str) -> Vec<Vec<String>> {
    let rows: Vec<Vec<String>> = text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect();
    assert!(!rows.is_empty() && rows.iter().all(|row| row.len() == rows[0].len()), "not a table: {text}");
    rows
}

/// The cells of all tables, without the lines that divide head and body.
pub(super) fn markdown(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().filter(|line| line.starts_with('|') && !line.starts_with("|-") && !line.starts_with("|:"));
    lines.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// The numbers of the column that has this heading.
#[track_caller]
pub(super) fn column(head: &[String], rows: &[Vec<String>], heading: &str) -> Vec<i64> {
    let place = head.iter().position(|cell| cell == heading).unwrap_or_else(|| panic!("no {heading} in {head:?}"));
    rows.iter().map(|row| count(&row[place])).collect()
}

#[track_caller]
pub(super) fn sum_of(head: &[String], rows: &[Vec<String>], heading: &str) -> i64 {
    column(head, rows, heading).iter().sum()
}

/// A number for people.
#[track_caller]
pub(super) fn count(text: &str) -> i64 {
    text.replace(',', "").parse().unwrap_or_else(|error| panic!("{text:?} is no number: {error}"))
}
