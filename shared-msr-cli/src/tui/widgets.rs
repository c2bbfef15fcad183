//! What views are put together from.

use ratatui::{
    Frame,
    layout::Rect,
    style::{Modifier, Style},
    text::{Line, Span},
    widgets::{Paragraph, RenderDirection, Sparkline, Wrap},
};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::{
    grid::{Grid, Head, rate},
    history::{Curve, Series},
    layout,
    theme::Theme,
};

/// Labels get at least so many columns before numbers are left out.
const LEAST_LABEL: usize = 16;

/// A text of exactly so many columns: cut, or with blanks after it.
pub(super) fn fit(text: &str, width: usize, theme: Theme) -> String {
    if text.width() <= width {
        return format!("{text}{}", " ".repeat(width - text.width()));
    }
    let mut cut = String::new();
    let mut used = 0;
    for sign in text.chars() {
        let wide = sign.width().unwrap_or(0);
        if used + wide + 1 > width {
            break;
        }
        cut.push(sign);
        used += wide;
    }
    if width > 0 {
        cut.push_str(theme.cut());
        used += 1;
    }
    format!("{cut}{}", " ".repeat(width.saturating_sub(used)))
}

/// A text in lines of at most so many columns. Words that go on in the next line are indented by `indentation`.
pub(super) fn wrap(text: &str, width: usize, indentation: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    // Blanks between words are kept, so that columns inside a line stay columns.
    for piece in text.split_inclusive(' ') {
        if line.width() + piece.trim_end().width() > width && !line.trim().is_empty() {
            lines.push(std::mem::replace(&mut line, " ".repeat(indentation)));
        }
        line.push_str(piece);
    }
    lines.push(line);
    lines
}

/// A text over as many lines as it needs.
pub(super) fn paragraph(frame: &mut Frame<'_>, area: Rect, text: impl Into<ratatui::text::Text<'static>>) {
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
}

/// One line, which is cut where the area ends.
pub(super) fn line(frame: &mut Frame<'_>, area: Rect, spans: Vec<Span<'static>>) {
    frame.render_widget(Line::from(spans), area);
}

/// Takes so many rows from the top of an area.
pub(super) fn take(area: &mut Rect, rows: u16) -> Rect {
    let rows = rows.min(area.height);
    let taken = Rect { height: rows, ..*area };
    area.y += rows;
    area.height -= rows;
    taken
}

/// Draws a table; the selected row is among those shown.
pub(super) fn table(frame: &mut Frame<'_>, area: Rect, grid: &Grid, selected: Option<usize>, theme: Theme) {
    let Some(room) = usize::from(area.height).checked_sub(1) else { return };
    let width = usize::from(area.width);
    let heads: Vec<String> = grid.heads.iter().map(|head| heading(head, theme)).collect();
    let mut widths: Vec<usize> = heads.iter().map(|head| head.width()).collect();
    let mut label = heading(&grid.label, theme).width();
    for row in &grid.rows {
        label = label.max(row.label.width());
        widths.iter_mut().zip(&row.cells).for_each(|(width, cell)| *width = (*width).max(cell.width()));
    }
    let columns = chosen(grid, &widths, width.saturating_sub(label.min(LEAST_LABEL)));
    let numbers: usize = columns.iter().map(|column| widths[*column] + 2).sum();
    let label = label.min(width.saturating_sub(numbers));
    let compose = |text: &str, cells: &[String]| {
        let mut line = fit(text, label, theme);
        for column in &columns {
            let cell = cells.get(*column).map_or("", String::as_str);
            line.push_str(&" ".repeat(2 + widths[*column] - cell.width().min(widths[*column])));
            line.push_str(cell);
        }
        line
    };
    let mut rest = area;
    line(frame, take(&mut rest, 1), vec![Span::styled(compose(&heading(&grid.label, theme), &heads), theme.heading())]);
    if grid.rows.is_empty() {
        line(frame, take(&mut rest, 1), vec![Span::styled("nothing", theme.dim())]);
    }
    let first = layout::first(selected.unwrap_or(0), grid.rows.len(), room);
    for (position, row) in grid.rows.iter().enumerate().skip(first).take(room) {
        let style = match (selected == Some(position), row.dim) {
            (true, _) => theme.selected(),
            (false, true) => theme.dim(),
            (false, false) => Style::new(),
        };
        line(frame, take(&mut rest, 1), vec![Span::styled(compose(&row.label, &row.cells), style)]);
    }
}

fn heading(head: &Head, theme: Theme) -> String {
    head.sorted.map_or_else(|| head.title.clone(), |descending| format!("{}{}", head.title, theme.sort_mark(descending)))
}

/// Which columns there is room for: the first ones, and in any case the one that rows are sorted by.
fn chosen(grid: &Grid, widths: &[usize], room: usize) -> Vec<usize> {
    let sorted = grid.heads.iter().position(|head| head.sorted.is_some());
    let mut left = room;
    let mut columns = Vec::new();
    for column in sorted.into_iter().chain((0..widths.len()).filter(|column| Some(*column) != sorted)) {
        let Some(rest) = left.checked_sub(widths[column] + 2) else { break };
        left = rest;
        columns.push(column);
    }
    columns.sort_unstable();
    columns
}

/// A bar for a part of a whole.
pub(super) fn bar(part: f64, whole: f64, width: usize, theme: Theme) -> [Span<'static>; 2] {
    let share = if whole > 0.0 { (part / whole).clamp(0.0, 1.0) } else { 0.0 };
    let full = ((share * width as f64).round() as usize).min(width);
    let (piece, nothing) = theme.pieces();
    [Span::styled(piece.repeat(full), theme.bar()), Span::styled(nothing.repeat(width - full), theme.dim())]
}

/// The three curves below each other, each with its name and its newest rate.
pub(super) fn curves(frame: &mut Frame<'_>, area: Rect, series: &Series, theme: Theme) {
    let height = (area.height / 3).max(1);
    let mut rest = area;
    for curve in Curve::ALL {
        let place = take(&mut rest, height);
        if place.is_empty() {
            return;
        }
        let newest = series.newest_first(curve).next().map_or_else(|| "-".to_owned(), rate);
        let label = 22.min(place.width);
        line(
            frame,
            Rect { width: label, height: 1, ..place },
            vec![Span::styled(format!("{:<12}", curve.name()), theme.heading()), Span::raw(format!("{newest:>9}"))],
        );
        // Thousandths, because rates below one a second are to be seen as well.
        let data: Vec<u64> = series.newest_first(curve).map(|rate| (rate * 1000.0) as u64).collect();
        let curve =
            Sparkline::default().data(data).direction(RenderDirection::RightToLeft).bar_set(theme.levels()).style(theme.bar());
        frame.render_widget(curve, Rect { x: place.x + label, width: place.width - label, ..place });
    }
}

/// A heading over a part of a view.
pub(super) fn title(frame: &mut Frame<'_>, area: Rect, text: String, theme: Theme) {
    line(frame, area, vec![Span::styled(text, theme.heading().add_modifier(Modifier::UNDERLINED))]);
}
