//! Exits by reason.

use ratatui::{Frame, layout::Rect, text::Span};

use crate::{
    report::number::counted,
    tui::{
        grid::percent,
        shown::Shown,
        state::State,
        widgets::{self, line, paragraph, take},
    },
};

/// Draws it.
pub(super) fn draw(state: &State, shown: &Shown, frame: &mut Frame<'_>, area: Rect) {
    let mut rest = area;
    let (ledger, _) = state.numbers(shown);
    let events = &ledger.events;
    let share = percent(events.userspace_exits as f64, events.exits as f64);
    let when = if state.totals { "since start or reset" } else { "in this interval" };
    let ended = if area.width >= 80 { "ended in user space" } else { "to user space" };
    let text = format!("{}, {share} {ended} ({when})", counted(events.exits, "exit"));
    line(frame, take(&mut rest, 1), vec![Span::styled(text, state.theme.heading())]);
    match state.grid() {
        Some(grid) => {
            let position = state.position(&grid);
            widgets::table(frame, rest, &grid, Some(position), state.theme);
        }
        None => {
            take(&mut rest, 1);
            let text = "Exits are not counted by reason, because reading the reason costs more on every exit. \
                        Start `shared-msr top --by-reason` to have them here.";
            paragraph(frame, rest, text);
        }
    }
}
