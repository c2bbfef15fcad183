//! The last two lines: what was done or can be done; and how it is measured, at which cost, with which losses.

use ratatui::{Frame, layout::Rect, style::Style, text::Span};
use unicode_width::UnicodeWidthStr as _;

use crate::{
    report::number::grouped,
    tui::{
        state::{Input, Purpose, State, Status},
        widgets::{fit, line},
    },
};

/// What was done, what is being typed, or what can be done.
pub(super) fn status(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let theme = state.theme;
    let width = usize::from(area.width);
    let (text, style) = match (&state.status, &state.input) {
        (Some(Status::Problem(why)), None) => (why.clone(), theme.alarm()),
        (Some(Status::Problem(why)), Some(input)) => (format!("{} ({why})", prompt(input)), theme.alarm()),
        (_, Some(input)) => (prompt(input), theme.heading()),
        (Some(Status::Done(what)), None) => (what.clone(), theme.heading()),
        (None, None) => (
            "h help  q quit  space pause  t rates/totals  r reset  f filter  o sort  x expand  b by guest  s interval  e export"
                .to_owned(),
            theme.dim(),
        ),
    };
    line(frame, area, vec![Span::styled(fit(&theme.text(&text), width, theme), style)]);
}

fn prompt(input: &Input) -> String {
    match input.purpose {
        Purpose::Filter => format!("VMs whose name matches, or a pid: {}_", input.text),
        Purpose::Interval => format!("interval, such as 2 or 500ms: {}_", input.text),
    }
}

/// How it is measured. What matters most comes first, because a narrow terminal cuts the rest.
pub(super) fn draw(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let theme = state.theme;
    let mut spans: Vec<Span<'static>> = Vec::new();
    let mut left = usize::from(area.width);
    for (text, style) in parts(state, left) {
        let separator = if spans.is_empty() { "" } else { theme.separator() };
        if left <= separator.width() {
            break;
        }
        left -= separator.width();
        spans.push(Span::styled(separator, theme.dim()));
        let text = fit(&text, text.width().min(left), theme);
        left -= text.width();
        spans.push(Span::styled(text, style));
    }
    line(frame, area, spans);
}

fn parts(state: &State, width: usize) -> Vec<(String, Style)> {
    let theme = state.theme;
    let plain = Style::new();
    let mut parts = Vec::new();
    if let Some(shown) = &state.shown {
        // Of the whole measurement, even after a reset: what was lost once is not found again.
        let ledger = &shown.sample.ledger;
        if !ledger.reconciled() {
            parts.push(("NOT RECONCILED".to_owned(), theme.alarm()));
        }
        let lost: Vec<(&str, u64)> = ledger.lost.named().into_iter().filter(|(_, number)| *number > 0).collect();
        match lost.as_slice() {
            [] => parts.push(("lost 0".to_owned(), plain)),
            [(name, number)] => parts.push((format!("LOST {} {}", grouped(*number), brief(name)), theme.alarm())),
            several => {
                let sum = several.iter().map(|(_, number)| number).sum();
                let names: Vec<&str> = several.iter().map(|(name, _)| brief(name)).collect();
                parts.push((format!("LOST {} ({})", grouped(sum), names.join(", ")), theme.alarm()));
            }
        }
        let programs = shown.cost.kernel.map_or_else(|| "?".to_owned(), |share| format!("{share:.2}%"));
        let process = format!("{:.2}%", shown.cost.process);
        let cost = match width {
            ..80 => format!("b{programs} s{process}"),
            80..120 => format!("bpf {programs} self {process}"),
            _ => format!("cost bpf {programs} self {process}"),
        };
        parts.push((cost, plain));
    }
    parts.insert(parts.len().min(1), (humantime::format_duration(state.interval).to_string(), plain));
    let kernel = state.facts.host.kernel.as_str();
    let wide = width >= 120;
    let kernel = if wide { kernel } else { kernel.split(['-', '+']).next().unwrap_or(kernel) };
    parts.push((if wide { format!("Linux {kernel} ({})", state.facts.vendor.module()) } else { kernel.to_owned() }, plain));
    // On a narrow terminal only how; of what, help says.
    let how = |hook: &str| if wide { hook.to_owned() } else { hook.split(':').next().unwrap_or(hook).to_owned() };
    let hooks: Vec<String> = hooks(state).into_iter().map(|(event, hook)| format!("{event} {}", how(hook))).collect();
    parts.push((hooks.join(if wide { ", " } else { " " }), plain));
    parts
}

/// The hooks in use, those that matter most first.
pub(super) fn hooks(state: &State) -> Vec<(&'static str, &str)> {
    let hooks = &state.facts.hooks;
    let named = [
        ("set", hooks.set.as_ref()),
        ("close", hooks.close.as_ref()),
        ("exit", Some(&hooks.exit)),
        ("drop", hooks.drop.as_ref()),
        ("restored", hooks.restored.as_ref()),
        ("check", hooks.check.as_ref()),
        ("userspace exit", Some(&hooks.userspace_exit)),
    ];
    named.into_iter().filter_map(|(event, hook)| Some((event, hook?.as_str()))).collect()
}

/// The name of a loss up to its explanation.
fn brief(name: &str) -> &str {
    name.split(" (").next().unwrap_or(name)
}
