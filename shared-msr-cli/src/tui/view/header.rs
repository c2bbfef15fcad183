//! The first line: which views there are, and what is special now.

use ratatui::{Frame, layout::Rect, text::Span};
use unicode_width::UnicodeWidthStr as _;

use crate::tui::{
    state::{State, View},
    widgets::{fit, line},
};

/// Draws it.
pub(super) fn draw(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let theme = state.theme;
    let width = usize::from(area.width);
    let special = special(state, width >= 80);
    let long: Vec<String> = tabs(false);
    let needed = |tabs: &[String]| tabs.iter().map(|tab| tab.width()).sum::<usize>() + special.width() + 1;
    let tabs = if needed(&long) <= width { long } else { tabs(true) };
    let mut spans: Vec<Span<'static>> = Vec::new();
    let mut used = 0;
    for (tab, view) in tabs.into_iter().zip(View::ALL) {
        used += tab.width();
        spans.push(if view == state.view { Span::styled(tab, theme.selected()) } else { Span::raw(tab) });
    }
    let room = width.saturating_sub(used + 1);
    let special = fit(&special, special.width().min(room), theme);
    spans.push(Span::raw(" ".repeat(width.saturating_sub(used + special.width()))));
    spans.push(Span::styled(special, theme.heading()));
    line(frame, area, spans);
}

fn tabs(short: bool) -> Vec<String> {
    let tab = |(number, view): (usize, View)| {
        let (long, brief) = view.names();
        if short { format!("{number}{brief} ") } else { format!(" {number} {long} ") }
    };
    (1..).zip(View::ALL).map(tab).collect()
}

fn special(state: &State, wide: bool) -> String {
    let mut parts = Vec::new();
    if state.paused {
        parts.push("PAUSED".to_owned());
    }
    if let Some(filter) = &state.filter {
        parts.push(if wide { format!("filter {}", state.theme.text(filter.text())) } else { "filter".to_owned() });
    }
    parts.push(if state.totals { "totals" } else { "rates" }.to_owned());
    parts.join(" ")
}
