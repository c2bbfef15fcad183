//! The host at a glance.

use ratatui::{Frame, layout::Rect, text::Span};

use crate::{
    report::{number::grouped, verdict::verdict},
    tui::{
        grid::percent,
        shown::Shown,
        state::State,
        widgets::{self, bar, line, take},
    },
};

/// Draws it.
pub(super) fn draw(state: &State, shown: &Shown, frame: &mut Frame<'_>, area: Rect) {
    let mut rest = area;
    let text = if area.width >= 80 { verdict(&shown.total, state.facts.vendor) } else { brief(shown) };
    let lines = widgets::wrap(&text, usize::from(area.width), 0);
    for text in lines.into_iter().take(usize::from(area.height / 3).max(1)) {
        line(frame, take(&mut rest, 1), vec![Span::raw(text)]);
    }
    if let Some(violation) = shown.sample.ledger.violations.first() {
        // Nothing below can be trusted then.
        let text = format!("NOT RECONCILED, please report this: {}", state.theme.text(violation));
        for text in widgets::wrap(&text, usize::from(area.width), 0).into_iter().take(2) {
            line(frame, take(&mut rest, 1), vec![Span::styled(text, state.theme.alarm())]);
        }
    }
    gauge(state, shown, frame, take(&mut rest, 1));
    let roomy = area.height >= 18;
    if roomy {
        take(&mut rest, 1);
    }
    let table = state.grid();
    let rows = table.as_ref().map_or(0, |grid| grid.rows.len());
    // The curves get what the table does not need, as long as they are curves.
    let needed = u16::try_from(rows + 1).unwrap_or(u16::MAX);
    let height = if roomy { rest.height.saturating_sub(needed + 1).clamp(3, 15) / 3 * 3 } else { 3 };
    widgets::curves(frame, take(&mut rest, height), &shown.history.host, state.theme);
    if roomy {
        take(&mut rest, 1);
    }
    if let Some(grid) = table {
        let position = state.position(&grid);
        widgets::table(frame, rest, &grid, state.by_guest.then_some(position), state.theme);
    }
}

fn brief(shown: &Shown) -> String {
    let totals = &shown.total.totals;
    match (totals.deferred, totals.performed) {
        (Some(deferred), Some(performed)) => {
            format!("{} restores put off, {} paid for", grouped(deferred), grouped(performed))
        }
        _ => "What was put off cannot be told here.".to_owned(),
    }
}

/// How much of what was put off was never paid for.
fn gauge(state: &State, shown: &Shown, frame: &mut Frame<'_>, area: Rect) {
    let (ledger, _) = state.numbers(shown);
    let (Some(deferred), Some(avoided)) = (ledger.totals.deferred, ledger.totals.avoided) else { return };
    let when = if state.totals { "since start or reset" } else { "in this interval" };
    let share = percent(avoided as f64, deferred as f64);
    let label = if area.width >= 80 { format!("avoided {share} of deferred {when}  ") } else { format!("avoided {share} ") };
    let width = usize::from(area.width).saturating_sub(label.len());
    let mut spans = vec![Span::styled(label, state.theme.heading())];
    spans.extend(bar(avoided as f64, deferred as f64, width, state.theme));
    line(frame, area, spans);
}
