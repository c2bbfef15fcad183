//! Plain columns for people: no frames, so that awk and eyes find them alike.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets::NOTHING};

/// A table with this header. The first `left` columns are words and stand left, the others are numbers and stand right.
pub fn table(header: &[&str], left: usize) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    for (position, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        column.set_cell_alignment(if position < left { CellAlignment::Left } else { CellAlignment::Right });
    }
    table
}

/// The table as text, without blanks at the ends of lines.
pub fn text(table: &Table) -> String {
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n") + "\n"
}
