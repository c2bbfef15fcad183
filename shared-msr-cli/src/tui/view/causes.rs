//! Why windows closed, and who paid.

use ratatui::{Frame, layout::Rect, text::Span};

use crate::{
    report::number::{counted, known},
    tui::{
        shown::Shown,
        state::State,
        widgets::{self, line, take},
    },
};

/// Draws it.
pub(super) fn draw(state: &State, shown: &Shown, frame: &mut Frame<'_>, area: Rect) {
    let mut rest = area;
    let events = &state.numbers(shown).0.events;
    let when = if state.totals { "since start or reset" } else { "in this interval" };
    let closed = events.windows_closed.map_or_else(|| "? windows".to_owned(), |closed| counted(closed, "window"));
    let text =
        format!("{closed} closed, {} clean, {} open now ({when})", known(events.clean_closes), known(events.windows_open_at_end));
    line(frame, take(&mut rest, 1), vec![Span::styled(text, state.theme.heading())]);
    if let Some(grid) = state.grid() {
        let position = state.position(&grid);
        widgets::table(frame, rest, &grid, Some(position), state.theme);
    }
}
