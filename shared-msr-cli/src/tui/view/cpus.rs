//! A cell for each CPU, by its restores per second; and what is known of the selected one.

use ratatui::{Frame, layout::Rect, style::Style, text::Span};

use crate::{
    ledger::CpuRow,
    tui::{
        grid::{rate, shown as cell},
        layout,
        shown::Shown,
        state::State,
        widgets::{self, line, take},
    },
};

/// Restores per second from which a cell has each level: half decades.
const LEVELS: [f64; 9] = [0.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0];

fn level(rate: f64) -> u8 {
    if rate <= 0.0 {
        return 0;
    }
    u8::try_from(LEVELS.iter().take_while(|from| **from < rate).count()).unwrap_or(9)
}

/// Draws it.
pub(super) fn draw(state: &State, shown: &Shown, frame: &mut Frame<'_>, area: Rect) {
    let theme = state.theme;
    let cpus = state.cpus();
    let selected = state.cpu.min(cpus.len().saturating_sub(1));
    let cells = layout::cells(area, cpus.len(), state.slots());
    let mut rest = area;
    let scale = if area.width >= 80 {
        "restores/s: . 0  1 >0  2 >3  3 >10  4 >30  5 >100  6 >300  7 >1k  8 >3k  9 >10k"
    } else {
        "restores/s: . 0 1 >0 3 >10 5 >100 7 >1k"
    };
    line(frame, take(&mut rest, 1), vec![Span::styled(scale, theme.dim())]);
    let rows = cpus.len().div_ceil(cells.per_row);
    let first = layout::first(selected / cells.per_row, rows, cells.rows);
    let seconds = shown.lately.duration.as_secs_f64();
    let per_second = |place: usize| {
        let performed = shown.lately.cpus.get(place).and_then(|row| row.counts.performed)?;
        Some(if seconds > 0.0 { performed as f64 / seconds } else { 0.0 })
    };
    for row in first..rows.min(first + cells.rows) {
        let range = row * cells.per_row..cpus.len().min((row + 1) * cells.per_row);
        let mut spans = Vec::new();
        for position in range.clone() {
            let place = cpus[position];
            let Some(cpu) = shown.sample.ledger.cpus.get(place) else { continue };
            let found = per_second(place);
            let sign = found.map_or('?', |rate| if level(rate) == 0 { '.' } else { char::from(b'0' + level(rate)) });
            let heat = found.map_or_else(Style::new, |rate| theme.heat(level(rate)));
            let style = if position == selected { theme.selected() } else { heat };
            if cells.roomy {
                let text = found.map_or_else(|| "?".to_owned(), rate);
                spans.push(Span::styled(
                    format!("{:>4} ", cpu.cpu),
                    if position == selected { theme.selected() } else { Style::new() },
                ));
                spans.push(Span::styled(format!(" {sign} "), heat));
                spans.push(Span::raw(format!("{text:>7} ")));
            } else {
                if position == range.start {
                    spans.push(Span::styled(format!("{:>4} ", cpu.cpu), theme.dim()));
                }
                spans.push(Span::styled(sign.to_string(), style));
            }
        }
        line(frame, take(&mut rest, 1), spans);
    }
    take(&mut rest, 1);
    let Some(row) = cpus.get(selected).and_then(|place| state.numbers(shown).0.cpus.get(*place)) else { return };
    detail(state, shown, row, frame, rest);
}

/// What is known of one CPU.
fn detail(state: &State, shown: &Shown, row: &CpuRow, frame: &mut Frame<'_>, area: Rect) {
    let theme = state.theme;
    let mut rest = area;
    let (_, per) = state.numbers(shown);
    let now = shown.sample.cpus.iter().find(|now| now.cpu == row.cpu);
    let open = match (now.map(|now| now.registered), row.events.windows_open_at_end) {
        (Some(true), _) | (None, Some(1)) => "inside a window",
        (Some(false), _) | (None, Some(_)) => "in no window",
        (None, None) => "it is not known whether in a window",
    };
    line(frame, take(&mut rest, 1), vec![Span::styled(format!("CPU {}: {open} now", row.cpu), theme.heading())]);
    let unit = if state.totals { "" } else { "/s" };
    let signed = |number: Option<u64>| cell(number.map(u64::cast_signed), per);
    let text = format!(
        "exits{unit} {}  deferred{unit} {}  performed{unit} {}  written{unit} {}  closes{unit} {}",
        signed(Some(row.events.exits)),
        signed(row.counts.deferred),
        signed(row.counts.performed),
        signed(row.counts.set_written),
        signed(row.events.windows_closed),
    );
    for text in widgets::wrap(&text, usize::from(area.width), 0) {
        line(frame, take(&mut rest, 1), vec![Span::raw(text)]);
    }
    let Some(now) = now else {
        let text = "Its values changed too fast to be read at one moment, or cannot be read here.";
        return line(frame, take(&mut rest, 1), vec![Span::styled(text, theme.dim())]);
    };
    let wide = area.width >= 80;
    let width = shown.sample.ledger.msrs.iter().map(|row| row.slot.name.len()).max().unwrap_or(0);
    for (row, value) in shown.sample.ledger.msrs.iter().zip(&now.values) {
        let dirty = if value.host == value.curr { "" } else { "dirty" };
        let text = if wide {
            format!("{:<width$}  host {:<#18x}  current {:<#18x}  {dirty}", row.slot.name, value.host, value.curr)
        } else {
            format!("{} {:#x} {:#x} {dirty}", row.slot.name, value.host, value.curr)
        };
        line(frame, take(&mut rest, 1), vec![Span::raw(text)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_half_decades_and_none_is_none() {
        let levels = [0.0, 0.5, 3.0, 3.5, 99.0, 101.0, 9_999.0, 10_001.0, 1e9].map(level);
        assert_eq!(levels, [0, 1, 1, 2, 4, 5, 8, 9, 9]);
    }
}
