//! (state, event) -> state, and what is to be done. Touches nothing else.

use std::{sync::Arc, time::Duration};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::{
    event::{Effect, Event},
    grid::{Key, Kind, Sort},
    key::{self, Action, Move},
    layout,
    name_filter::NameFilter,
    shown::Shown,
    source::Sample,
    state::{Depth, Input, Purpose, State, Status, View},
    view,
};
use crate::{duration::positive_duration, report::by::Column};

/// Intervals that `+` and `-` go through.
const STEPS: [u64; 9] = [100, 250, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000];
/// The shortest interval, so that measuring does not become the load.
pub const SHORTEST: Duration = Duration::from_millis(100);
/// The longest interval.
pub const LONGEST: Duration = Duration::from_secs(3600);
/// More cannot be typed.
const LONGEST_INPUT: usize = 120;

/// Takes an event.
pub fn update(mut state: State, event: Event) -> (State, Vec<Effect>) {
    let mut effects = Vec::new();
    match event {
        Event::Key(key) => {
            if key.kind == KeyEventKind::Release {
                return (state, effects);
            }
            state.status = None;
            match state.input.take() {
                Some(input) => typed(&mut state, input, key, &mut effects),
                None => {
                    if let Some(action) = key::action(key) {
                        act(&mut state, action, &mut effects);
                    }
                }
            }
        }
        Event::Resize(columns, rows) => state.size = (columns, rows),
        Event::Sample(sample) => {
            take(&mut state, sample);
            if state.paused {
                return (state, effects);
            }
        }
        Event::Exported(Ok(path)) => state.status = Some(Status::Done(format!("wrote {path}"))),
        Event::Exported(Err(why)) => state.status = Some(Status::Problem(why)),
        Event::Failed(why) => effects.push(Effect::Fail(why)),
        Event::Quit => effects.push(Effect::Quit),
    }
    state.revision += 1;
    (state, effects)
}

fn take(state: &mut State, sample: Arc<Sample>) {
    if !state.paused {
        state.shown = None;
    }
    // Nobody else has it then, and a long history need not be copied.
    let before = state.newest.take().map(Arc::unwrap_or_clone);
    let (before, history) = before.map(|shown| (shown.sample, shown.history)).unzip();
    let shown = Shown::new(sample, before.as_deref(), state.base.as_deref(), history.unwrap_or_default());
    let shown = Arc::new(shown);
    state.newest = Some(Arc::clone(&shown));
    if !state.paused {
        state.shown = Some(shown);
    }
}

fn act(state: &mut State, action: Action, effects: &mut Vec<Effect>) {
    match action {
        Action::Quit => effects.push(Effect::Quit),
        Action::NextView => turn(state, 1),
        Action::PreviousView => turn(state, View::ALL.len() - 1),
        Action::Show(view) => show(state, view),
        Action::Help if state.view == View::Help => state.view = state.before_help,
        Action::Help => show(state, View::Help),
        Action::Pause => {
            state.paused = !state.paused;
            if !state.paused {
                state.shown.clone_from(&state.newest);
            }
        }
        Action::Reset => reset(state),
        Action::Filter => {
            let text = state.filter.as_ref().map(|filter| filter.text().to_owned()).unwrap_or_default();
            state.input = Some(Input { purpose: Purpose::Filter, text });
        }
        Action::ClearFilter => state.filter = None,
        Action::NextSort => next_sort(state),
        Action::Sort(column) => sort_by(state, column),
        Action::ByGuest => by_guest(state),
        Action::Expand => {
            state.expanded = !state.expanded;
            let what = if state.expanded { "more detail" } else { "less detail" };
            state.status = Some(Status::Done(what.to_owned()));
        }
        Action::Interval => state.input = Some(Input { purpose: Purpose::Interval, text: String::new() }),
        Action::Longer => step(state, effects, |now| STEPS.into_iter().map(Duration::from_millis).find(|step| *step > now)),
        Action::Shorter => {
            step(state, effects, |now| STEPS.into_iter().rev().map(Duration::from_millis).find(|step| *step < now));
        }
        Action::Totals => state.totals = !state.totals,
        Action::Export => match &state.shown {
            Some(shown) => effects.push(Effect::Export(Arc::clone(&shown.total), shown.sample.ledger.duration)),
            None => state.status = Some(Status::Problem("nothing was measured yet; wait for the first sample".to_owned())),
        },
        Action::Redraw => effects.push(Effect::Redraw),
        Action::Suspend => effects.push(Effect::Suspend),
        Action::Move(step) => go(state, step),
        Action::Enter => enter(state),
        Action::Back => back(state),
    }
}

fn turn(state: &mut State, by: usize) {
    let now = View::ALL.iter().position(|view| *view == state.view).unwrap_or(0);
    show(state, View::ALL[(now + by) % View::ALL.len()]);
}

fn show(state: &mut State, view: View) {
    if view == View::Help && state.view != View::Help {
        state.before_help = state.view;
    }
    state.view = view;
}

fn reset(state: &mut State) {
    let Some(newest) = state.newest.clone() else {
        state.status = Some(Status::Problem("nothing was measured yet; wait for the first sample".to_owned()));
        return;
    };
    state.base = Some(Arc::clone(&newest.sample));
    // The total of nothing, so that what was counted so far is gone at once.
    let total = Arc::new(newest.sample.ledger.since(&newest.sample.ledger));
    let zero = |shown: &Arc<Shown>| {
        let mut shown = Shown::clone(shown);
        shown.total = Arc::clone(&total);
        shown.unattributed.1 = Default::default();
        for vm in &mut shown.vms {
            vm.total = Default::default();
            vm.vcpus.iter_mut().for_each(|vcpu| vcpu.total = Default::default());
        }
        Arc::new(shown)
    };
    state.newest = state.newest.as_ref().map(zero);
    if !state.paused {
        state.shown.clone_from(&state.newest);
    }
    state.status = Some(Status::Done("totals start anew".to_owned()));
}

fn by_guest(state: &mut State) {
    let what = match state.view {
        View::Overview | View::Exits | View::Causes => {
            state.by_guest = !state.by_guest;
            if state.by_guest { "by guest" } else { "over all guests" }
        }
        View::Vms => "these are by guest already; x shows the vCPUs of each",
        View::Cpus | View::Histograms | View::Help => "nothing to show by guest here; f chooses guests",
    };
    state.status = Some(Status::Done(what.to_owned()));
}

/// The columns a table can be sorted by, in the order of `o`: none is the order of names.
fn sortable(state: &State, kind: Kind) -> Vec<Option<Column>> {
    kind.columns(state.expanded).iter().copied().map(Some).chain([None]).collect()
}

fn next_sort(state: &mut State) {
    let Some(kind) = state.kind() else { return };
    let now = state.sort(kind).column;
    let columns = sortable(state, kind);
    let next = columns.iter().position(|column| *column == now).map_or(0, |place| (place + 1) % columns.len());
    set_sort(state, kind, Sort { column: columns[next], descending: columns[next].is_some() });
}

/// Largest first; the same column again turns the order round.
fn sort_by(state: &mut State, column: Option<Column>) {
    let Some(kind) = state.kind() else { return };
    if !sortable(state, kind).contains(&column) {
        let name = column.map_or("NAME", |column| column.names().1);
        state.status = Some(Status::Problem(format!("there is no column {name} here")));
        return;
    }
    let now = state.sort(kind);
    let descending = if now.column == column { !now.descending } else { column.is_some() };
    set_sort(state, kind, Sort { column, descending });
}

fn set_sort(state: &mut State, kind: Kind, sort: Sort) {
    state.places[kind as usize].sort = Some(sort);
    let by = sort.column.map_or("name", |column| column.names().1);
    let order = match (sort.column.is_some(), sort.descending) {
        (true, true) => "largest first",
        (true, false) => "smallest first",
        (false, true) => "last first",
        (false, false) => "first first",
    };
    state.status = Some(Status::Done(format!("sorted by {by}, {order}")));
}

fn step(state: &mut State, effects: &mut Vec<Effect>, next: impl Fn(Duration) -> Option<Duration>) {
    if let Some(interval) = next(state.interval) {
        set_interval(state, effects, interval);
    }
}

fn set_interval(state: &mut State, effects: &mut Vec<Effect>, interval: Duration) {
    state.interval = interval.clamp(SHORTEST, LONGEST);
    state.status = Some(Status::Done(format!("interval {}", humantime::format_duration(state.interval))));
    effects.push(Effect::SetInterval(state.interval));
}

fn typed(state: &mut State, mut input: Input, key: KeyEvent, effects: &mut Vec<Effect>) {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c') if control => effects.push(Effect::Quit),
        KeyCode::Char('u') if control => state.input = Some(Input { text: String::new(), ..input }),
        KeyCode::Char('l') if control => {
            effects.push(Effect::Redraw);
            state.input = Some(input);
        }
        KeyCode::Esc => {}
        KeyCode::Enter => finish(state, input, effects),
        KeyCode::Backspace => {
            input.text.pop();
            state.input = Some(input);
        }
        KeyCode::Char(letter) if !control => {
            if input.text.chars().count() < LONGEST_INPUT {
                input.text.push(letter);
            }
            state.input = Some(input);
        }
        _ => state.input = Some(input),
    }
}

/// Takes what was typed; what is wrong stays, so that it can be mended.
fn finish(state: &mut State, input: Input, effects: &mut Vec<Effect>) {
    let taken = match input.purpose {
        Purpose::Filter if input.text.is_empty() => {
            state.filter = None;
            Ok(())
        }
        Purpose::Filter => NameFilter::parse(&input.text).map(|filter| {
            state.filter = Some(filter);
            state.status = Some(Status::Done("verdict, curves and CPUs stay those of the whole host".to_owned()));
        }),
        Purpose::Interval if input.text.is_empty() => Ok(()),
        Purpose::Interval => {
            let found = positive_duration(input.text.trim()).map_err(|_| "not a time; try 2 or 500ms".to_owned());
            found.map(|interval| set_interval(state, effects, interval))
        }
    };
    if let Err(why) = taken {
        state.status = Some(Status::Problem(why.lines().last().unwrap_or_default().to_owned()));
        state.input = Some(input);
    }
}

fn moved(now: usize, step: Move, count: usize, page: usize) -> usize {
    let last = count.saturating_sub(1);
    match step {
        Move::Up | Move::Left => now.saturating_sub(1),
        Move::Down | Move::Right => now + 1,
        Move::PageUp => now.saturating_sub(page),
        Move::PageDown => now + page,
        Move::First => 0,
        Move::Last => last,
    }
    .min(last)
}

fn go(state: &mut State, step: Move) {
    let body = state.body();
    let page = usize::from(body.height.saturating_sub(2)).max(1);
    match state.view {
        View::Cpus => {
            let count = state.cpus().len();
            let per_row = layout::cells(body, count, state.slots()).per_row;
            state.cpu = match step {
                Move::Up => state.cpu.checked_sub(per_row).unwrap_or(state.cpu),
                Move::Down if state.cpu + per_row < count => state.cpu + per_row,
                Move::Down => state.cpu,
                other => moved(state.cpu, other, count, per_row * 4),
            }
            .min(count.saturating_sub(1));
        }
        View::Histograms => match step {
            Move::Left => state.histogram = (state.histogram.0.saturating_sub(1), 0),
            Move::Right => state.histogram = ((state.histogram.0 + 1).min(2), 0),
            other => state.histogram.1 = moved(state.histogram.1, other, 64, page),
        },
        View::Help => {
            let last = view::help::length(state).saturating_sub(usize::from(body.height));
            state.help = moved(state.help.min(last), step, last + 1, page);
        }
        View::Overview | View::Vms | View::Exits | View::Causes => {
            let Some(grid) = state.grid() else { return };
            if matches!(step, Move::Left | Move::Right) {
                return;
            }
            let position = moved(state.position(&grid), step, grid.rows.len(), page);
            select(state, grid.kind, grid.rows.get(position).map(|row| row.key.clone()), position);
        }
    }
}

fn select(state: &mut State, kind: Kind, key: Option<Key>, position: usize) {
    let place = &mut state.places[kind as usize];
    (place.key, place.position) = (key, position);
}

fn enter(state: &mut State) {
    let Some(grid) = state.grid().filter(|grid| matches!(grid.kind, Kind::Vms | Kind::Vcpus)) else { return };
    let position = state.position(&grid);
    let Some(row) = grid.rows.get(position) else { return };
    let depth = match row.key {
        Key::Vm(vm) => Depth::Vm(vm),
        Key::Vcpu(vm, owner) => Depth::Vcpu(vm, owner),
        _ => return,
    };
    select(state, grid.kind, Some(row.key.clone()), position);
    if matches!(depth, Depth::Vm(_)) {
        (state.places[Kind::Vcpus as usize].key, state.places[Kind::Vcpus as usize].position) = (None, 0);
    }
    (state.view, state.depth) = (View::Vms, depth);
}

fn back(state: &mut State) {
    match (state.view, state.depth) {
        (View::Help, _) => state.view = state.before_help,
        (View::Vms, Depth::Vcpu(vm, _)) => state.depth = Depth::Vm(vm),
        (View::Vms, Depth::Vm(_)) => state.depth = Depth::Vms,
        _ => {}
    }
}
