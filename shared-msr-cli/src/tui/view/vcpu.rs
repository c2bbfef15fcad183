//! One vCPU: its curves, MSRs, causes and distributions.

use ratatui::{Frame, layout::Rect, text::Span};
use shared_msr_common::Owner;

use super::histograms;
use crate::{
    sample::vcpus::VmId,
    tui::{
        grid::{Kind, Plan},
        rows,
        shown::Shown,
        state::State,
        widgets::{self, line, take},
    },
};

/// Draws it.
pub(super) fn draw(state: &State, shown: &Shown, (vm, owner): (VmId, Owner), frame: &mut Frame<'_>, area: Rect) {
    let theme = state.theme;
    let mut rest = area;
    let Some((vm, vcpu)) = shown.vcpu(vm, owner) else {
        return widgets::paragraph(frame, rest, "This vCPU is gone; Esc goes back.");
    };
    let text = format!("{} of VM {}; Esc goes back", vcpu.label(), vm.label());
    line(frame, take(&mut rest, 1), vec![Span::styled(theme.text(&text).into_owned(), theme.heading())]);
    let tall = area.height >= 40;
    match shown.history.vcpu(owner) {
        Some(series) => widgets::curves(frame, take(&mut rest, if tall { 9 } else { 3 }), series, theme),
        None => line(frame, take(&mut rest, 1), vec![Span::styled("its thread has ended", theme.dim())]),
    }
    if let Some(grid) = state.grid() {
        let height = u16::try_from(grid.rows.len() + 1).unwrap_or(u16::MAX);
        let most = rest.height / 3;
        widgets::table(frame, take(&mut rest, height.min(most.max(2))), &grid, None, theme);
    }
    let (ledger, per) = state.numbers(shown);
    let kind = Kind::Causes;
    let plan = Plan {
        kind,
        title: "CAUSE",
        more: vec!["% CLOSES".to_owned()],
        columns: kind.columns(false),
        ledger,
        per,
        sort: state.sort(kind),
    };
    let mut lines = rows::causes(state, ledger, per, Some(owner));
    lines.iter_mut().for_each(|line| line.more.truncate(1));
    let grid = plan.grid(lines);
    let windows = ledger.owners.of(owner).windows;
    let brief = histograms::brief(&windows, theme);
    let wide = tall && area.width >= 120;
    let below = if wide { rest.height / 2 } else { u16::try_from(brief.len()).unwrap_or(0) };
    let height = u16::try_from(grid.rows.len() + 1).unwrap_or(u16::MAX).min(rest.height.saturating_sub(below)).max(2);
    widgets::table(frame, take(&mut rest, height), &grid, None, theme);
    if wide {
        take(&mut rest, 1);
        return histograms::beside(state, &windows, frame, rest);
    }
    for text in brief {
        line(frame, take(&mut rest, 1), vec![Span::raw(text)]);
    }
}
