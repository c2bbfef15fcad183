//! Rows as JSON, one object on each line.

use serde_json::{Value, json};

use super::{
    Report,
    by::{self, Rows},
    json::SCHEMA,
};

/// One line for each row, then one for the total. Each says at which second of the measurement it was taken.
pub fn render(report: &Report<'_>, seconds: f64) -> String {
    let rows = Rows::of(report);
    let ledger = report.ledger;
    let mut lines: Vec<Value> = rows.rows.iter().map(|row| by::object(&rows, row, ledger)).collect();
    let sums = [("rest", rows.rest), ("filtered_out", rows.filtered_out), ("total", Some((rows.rows.len() as u64, rows.total)))];
    for (name, sum) in sums {
        if let Some((number, measures)) = sum {
            let mut object = by::numbers(&rows, &measures, ledger);
            object.insert("row".to_owned(), json!(name));
            object.insert("rows".to_owned(), json!(number));
            if name == "total" {
                object.insert("lost".to_owned(), json!(ledger.lost));
                object.insert("reconciled".to_owned(), json!(ledger.reconciled()));
            }
            lines.push(Value::Object(object));
        }
    }
    let mut text = String::new();
    for mut line in lines {
        if let Value::Object(object) = &mut line {
            object.insert("schema".to_owned(), json!(SCHEMA));
            object.insert("seconds".to_owned(), json!(seconds));
        }
        text += &format!("{line}\n");
    }
    text
}
