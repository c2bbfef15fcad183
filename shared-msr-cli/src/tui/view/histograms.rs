//! Distributions: exits per window, age of windows, cost of a restore.

use std::time::Duration;

use ratatui::{Frame, layout::Rect, text::Span};
use shared_msr_common::{Tally, WindowTally};
use unicode_width::UnicodeWidthStr as _;

use crate::{
    ledger::distribution::{Bucket, buckets, percentile, total},
    report::number::grouped,
    tui::{
        grid::percent,
        rows,
        shown::Shown,
        state::State,
        theme::Theme,
        widgets::{self, bar, fit, line, take},
    },
};

/// How numbers are written.
#[derive(Clone, Copy)]
enum Unit {
    Count,
    Time,
}

impl Unit {
    fn show(self, number: u64, theme: Theme) -> String {
        match self {
            Self::Count => grouped(number),
            Self::Time => {
                let text = format!("{:.1?}", Duration::from_nanos(number));
                if theme.ascii { text.replace('µ', "u") } else { text }
            }
        }
    }
}

/// Draws them: side by side where there is room, else one after the other.
pub(super) fn draw(state: &State, shown: &Shown, frame: &mut Frame<'_>, area: Rect) {
    let (ledger, _) = state.numbers(shown);
    let mut sum = Tally::EMPTY;
    let wanted = ledger.owners.tallies.iter().filter(|(key, _)| rows::takes(state, ledger, key.owner));
    wanted.for_each(|(_, tally)| sum.add(tally));
    let when = if state.totals { "since start or reset" } else { "in this interval" };
    let mut rest = area;
    let keys = if area.width >= 120 { "" } else { "; left/right: the others" };
    line(frame, take(&mut rest, 1), vec![Span::styled(format!("Windows that closed {when}{keys}"), state.theme.heading())]);
    if area.width >= 120 {
        let width = rest.width / 3;
        for place in 0..3 {
            let column = Rect { x: rest.x + place * width, width: width - 2, ..rest };
            one(state, &sum.windows, usize::from(place), frame, column);
        }
    } else {
        one(state, &sum.windows, state.histogram.0, frame, rest);
    }
}

/// One distribution with its percentiles.
fn one(state: &State, windows: &WindowTally, which: usize, frame: &mut Frame<'_>, area: Rect) {
    let theme = state.theme;
    let (name, counts, unit): (_, &[u64], _) = match which {
        0 => ("exits per window", &windows.exits_per_window, Unit::Count),
        1 => ("time a window was open", &windows.age, Unit::Time),
        _ => ("cost of a restored MSR", &windows.restore_cost, Unit::Time),
    };
    let mut rest = area;
    widgets::title(frame, take(&mut rest, 1), name.to_owned(), theme);
    if total(counts) == 0 {
        let why = if which == 2 && state.facts.hooks.restored.is_none() {
            "Restores are not timed. Start `shared-msr top --timing` to have their cost here."
        } else {
            "No window closed."
        };
        return widgets::paragraph(frame, rest, why);
    }
    let percentiles = [50, 90, 99].map(|percent| format!("p{percent} {}", at_most(counts, percent, unit, theme)));
    line(frame, take(&mut rest, 1), vec![Span::raw(percentiles.join("  "))]);
    let found = buckets(counts);
    let most = found.iter().map(|bucket| bucket.count).max().unwrap_or(0);
    let label = |bucket: &Bucket| format!("from {}", unit.show(bucket.from, theme));
    let labels = found.iter().map(|bucket| label(bucket).width()).max().unwrap_or(0);
    let numbers = grouped(most).len();
    let width = usize::from(area.width).saturating_sub(labels + numbers + 11);
    let skip = state.histogram.1.min(found.len().saturating_sub(usize::from(rest.height)));
    for bucket in found.iter().skip(skip).take(usize::from(rest.height)) {
        let mut spans = vec![Span::raw(fit(&label(bucket), labels + 1, theme))];
        spans.extend(bar(bucket.count as f64, most as f64, width, theme));
        let share = percent(bucket.count as f64, total(counts) as f64);
        spans.push(Span::raw(format!(" {:>numbers$} {share:>6}", grouped(bucket.count))));
        line(frame, take(&mut rest, 1), spans);
    }
}

fn at_most(counts: &[u64], percent: u64, unit: Unit, theme: Theme) -> String {
    percentile(counts, percent).map_or_else(
        || "?".to_owned(),
        |bucket| match bucket.to {
            Some(to) => format!("<= {}", unit.show(to, theme)),
            None => format!(">= {}", unit.show(bucket.from, theme)),
        },
    )
}

/// The percentiles of all distributions of one owner, a line each.
pub(super) fn brief(windows: &WindowTally, theme: Theme) -> Vec<String> {
    let three: [(&str, &[u64], Unit); 3] = [
        ("exits per window", &windows.exits_per_window, Unit::Count),
        ("window open", &windows.age, Unit::Time),
        ("cost of a restore", &windows.restore_cost, Unit::Time),
    ];
    let line = |(name, counts, unit): (&str, &[u64], Unit)| {
        let parts = [50, 90, 99].map(|percent| format!("p{percent} {}", at_most(counts, percent, unit, theme)));
        format!("{name:<18}{}", parts.join("  "))
    };
    three.into_iter().filter(|(_, counts, _)| total(counts) > 0).map(line).collect()
}

/// All three of one owner, side by side.
pub(super) fn beside(state: &State, windows: &WindowTally, frame: &mut Frame<'_>, area: Rect) {
    let width = area.width / 3;
    for place in 0..3 {
        one(state, windows, usize::from(place), frame, Rect { x: area.x + place * width, width: width - 2, ..area });
    }
}
