//! view(state) -> frame.

mod causes;
mod cpus;
mod exits;
mod footer;
mod header;
pub(super) mod help;
mod histograms;
mod overview;
mod vcpu;
mod vms;

use ratatui::Frame;

use super::{
    layout,
    state::{Depth, State, View},
    widgets,
};

/// Draws everything.
pub fn view(state: &State, frame: &mut Frame<'_>) {
    let area = frame.area();
    if !layout::fits((area.width, area.height)) {
        let (columns, rows) = (layout::LEAST_COLUMNS, layout::LEAST_ROWS);
        let text = format!("shared-msr top needs {columns}x{rows} cells; here are {}x{}.", area.width, area.height);
        return widgets::paragraph(frame, area, text);
    }
    let parts = layout::parts(area);
    header::draw(state, frame, parts.header);
    footer::status(state, frame, parts.status);
    footer::draw(state, frame, parts.footer);
    if state.view == View::Help {
        return help::draw(state, frame, parts.body);
    }
    let Some(shown) = &state.shown else {
        let interval = humantime::format_duration(state.interval);
        return widgets::paragraph(frame, parts.body, format!("Measuring; the first numbers come after {interval}."));
    };
    match (state.view, state.depth) {
        (View::Overview | View::Help, _) => overview::draw(state, shown, frame, parts.body),
        (View::Vms, Depth::Vcpu(vm, owner)) => vcpu::draw(state, shown, (vm, owner), frame, parts.body),
        (View::Vms, _) => vms::draw(state, shown, frame, parts.body),
        (View::Cpus, _) => cpus::draw(state, shown, frame, parts.body),
        (View::Exits, _) => exits::draw(state, shown, frame, parts.body),
        (View::Causes, _) => causes::draw(state, shown, frame, parts.body),
        (View::Histograms, _) => histograms::draw(state, shown, frame, parts.body),
    }
}
