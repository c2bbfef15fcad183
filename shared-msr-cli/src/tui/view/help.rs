//! The keys and the words.

use ratatui::{Frame, layout::Rect, text::Span};

use super::footer;
use crate::tui::{
    state::State,
    widgets::{self, line, take},
};

const TEXT: [&str; 45] = [
    "Views      1-7, Tab, Shift-Tab; h or ? this page and back",
    "Move       arrows, j k, PageUp PageDown, Home End",
    "Open       Enter: VM -> vCPUs -> one vCPU; Esc or Backspace back",
    "space      freeze the picture; measuring goes on",
    "t          rates per second, or totals since start or reset",
    "r          reset: totals start anew",
    "f          filter: VMs whose name matches a regular expression,",
    "           or the VM of a process; c clears it (g and p: as f)",
    "o          sort by the next column; or by its letter:",
    "           E exits  D deferred  P performed  A avoided  U to VMM",
    "           W written  S skipped  F failed  C closes  N name",
    "           the same letter again turns the order round",
    "b          by guest: VMs in Overview, rows of each VM in 4 and 5",
    "x          expand: vCPUs below VMs, a column for each MSR",
    "s + -      interval: type it, longer, shorter",
    "e          export: totals as JSON into a file",
    "Ctrl-L     draw again    Ctrl-Z suspend    q Ctrl-C quit",
    "",
    "After a VM-exit KVM leaves the guest's values of some MSRs in the",
    "CPU, and puts the host's back only when the CPU returns to user",
    "mode.",
    "",
    "DEFERRED   exits that happened with a guest's value left there:",
    "           each is a restore that was put off",
    "PERFORMED  host's values really put back with a WRMSR",
    "AVOIDED    deferred less performed, compared with restoring at",
    "           every exit (the eager baseline, an upper bound)",
    "WRITTEN    sets that loaded a guest's value with a WRMSR",
    "SKIPPED    sets that found it in the hardware already",
    "FAILED     sets whose WRMSR faulted",
    "EXITS      VM-exits          TO VMM  returns to the VMM",
    "CLOSES     windows closed    CLEAN   those without a dirty slot",
    "DEF/EXIT   deferred restores per exit",
    "window     on one CPU, from the write that makes a slot dirty to",
    "           the restore",
    "cause      why a window closed: userspace-exit (the vCPU's thread",
    "           went back to its VMM), foreign (another task returned",
    "           to user mode and paid), drop (KVM gave the CPU up)",
    "unattributed  what is nobody's: never a silent remainder",
    "",
    "cost       bpf: time in our kernel-side programs, self: this",
    "           process; in percent of one CPU",
    "LOST       what could not be counted, since start",
    "?          what the hooks in use cannot tell",
    "Without a terminal: shared-msr report",
];

/// All lines, in so many columns: the text, then what observes this host.
fn lines(state: &State, width: usize) -> Vec<String> {
    let host = &state.facts.host;
    let measured = [String::new(), format!("Linux {} ({}), observed by", host.kernel, state.facts.vendor.module())];
    let hooks = footer::hooks(state).into_iter().map(|(event, hook)| format!("  {event} {hook}"));
    let refused = state.facts.refused.iter().map(|refused| {
        let why = &refused.why.problem;
        format!("  {} not by {}: {why}", refused.event.name(), refused.hook)
    });
    let all = TEXT.iter().map(|text| (*text).to_owned()).chain(measured).chain(hooks).chain(refused);
    all.flat_map(|text| widgets::wrap(&state.theme.text(&text), width, 2)).collect()
}

/// How many lines there are.
pub(in crate::tui) fn length(state: &State) -> usize {
    lines(state, usize::from(state.size.0)).len()
}

/// Draws it.
pub(super) fn draw(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let mut rest = area;
    let room = usize::from(area.height);
    let lines = lines(state, usize::from(area.width));
    let first = state.help.min(lines.len().saturating_sub(room));
    for text in lines.into_iter().skip(first).take(room) {
        line(frame, take(&mut rest, 1), vec![Span::raw(text)]);
    }
}
