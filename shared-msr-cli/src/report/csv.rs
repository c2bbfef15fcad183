//! Rows as comma-separated values, with one header line. What the hooks in use cannot tell is an empty field.

use super::{Report, by::Rows};

/// The header line.
pub fn header(report: &Report<'_>, with_time: bool) -> String {
    let rows = Rows::of(report);
    let time = with_time.then_some("seconds").into_iter();
    let by = rows.by.iter().map(|by| by.name());
    let columns = rows.columns.iter().map(|column| column.names().0);
    line(time.chain(by).chain(columns).map(str::to_owned))
}

/// One line for each row; the total if nothing is broken down.
pub fn rows(report: &Report<'_>, seconds: Option<f64>) -> String {
    let rows = Rows::of(report);
    let numbers = |measures: &_| -> Vec<String> {
        let number = |column: &super::by::Column| column.number(measures, report.ledger);
        rows.columns.iter().map(|column| number(column).map_or_else(String::new, |number| number.to_string())).collect()
    };
    let time = || seconds.map(|seconds| format!("{seconds:.3}"));
    let mut text = String::new();
    for row in &rows.rows {
        let cells = row.cells.iter().map(|cell| quoted(&cell.text));
        text += &line(time().into_iter().chain(cells).chain(numbers(&row.measures)));
    }
    for (name, sum) in [("(rest)", &rows.rest), ("(filtered out)", &rows.filtered_out)] {
        if let Some((_, measures)) = sum {
            let cells =
                rows.by.iter().enumerate().map(|(position, _)| if position == 0 { name.to_owned() } else { String::new() });
            text += &line(time().into_iter().chain(cells).chain(numbers(measures)));
        }
    }
    text
}

/// RFC 4180.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

fn line(cells: impl Iterator<Item = String>) -> String {
    cells.collect::<Vec<_>>().join(",") + "\n"
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_comma_in_a_name_does_not_make_another_field() {
        assert_eq!(quoted("12 web,1"), "\"12 web,1\"");
        assert_eq!(quoted("a \"b\""), "\"a \"\"b\"\"\"");
        assert_eq!(quoted("plain"), "plain");
    }
}
