//! Plain columns for people: no frames, so that awk and eyes find them alike. Or a table in Markdown.

use comfy_table::{
    CellAlignment, ContentArrangement, Table,
    presets::{ASCII_MARKDOWN, NOTHING},
};

/// How a table is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Columns.
    #[default]
    Plain,
    /// As GitHub and others render it.
    Markdown,
}

/// A table with this header. The first `left` columns are words and stand left, the others are numbers and stand right.
pub fn table(header: &[&str], left: usize, style: Style) -> Table {
    let mut table = Table::new();
    let preset = if style == Style::Plain { NOTHING } else { ASCII_MARKDOWN };
    table.load_style(preset).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    for (position, column) in table.column_iter_mut().enumerate() {
        column.set_padding(if style == Style::Plain { (0, 2) } else { (1, 1) });
        column.set_cell_alignment(if position < left { CellAlignment::Left } else { CellAlignment::Right });
    }
    table
}

/// The table as text, without blanks at the ends of lines.
pub fn text(table: &Table) -> String {
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n") + "\n"
}
