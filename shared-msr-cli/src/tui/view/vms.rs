//! VMs, or the vCPUs of one.

use ratatui::{Frame, layout::Rect, text::Span};

use crate::{
    report::number::counted,
    tui::{
        shown::Shown,
        state::{Depth, State},
        widgets::{self, line, take},
    },
};

/// Draws it.
pub(super) fn draw(state: &State, shown: &Shown, frame: &mut Frame<'_>, area: Rect) {
    let mut rest = area;
    let all = shown.vms.len();
    let text = match state.depth {
        Depth::Vm(vm) => match shown.vm(vm) {
            Some(row) => {
                let vcpus = counted(row.vcpus.len() as u64, "vCPU");
                format!("VM {}, {vcpus}; Enter opens one, Esc goes back", state.theme.text(&row.label()))
            }
            None => format!("VM {} is gone; Esc goes back", vm.process),
        },
        _ => {
            let some = shown.vms.iter().filter(|vm| state.takes(vm.vm.process, vm.name.as_deref())).count();
            let which = if some == all { counted(all as u64, "VM") } else { format!("{some} of {}", counted(all as u64, "VM")) };
            format!("{which}; Enter opens one, x shows the vCPUs of each")
        }
    };
    line(frame, take(&mut rest, 1), vec![Span::styled(text, state.theme.heading())]);
    if let Some(grid) = state.grid() {
        let position = state.position(&grid);
        widgets::table(frame, rest, &grid, Some(position), state.theme);
    }
}
