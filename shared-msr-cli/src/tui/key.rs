//! What keys mean: kvm_stat's letters, where it has one.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::state::View;
use crate::report::by::Column;

/// What the user wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// End.
    Quit,
    /// The view to the right.
    NextView,
    /// The view to the left.
    PreviousView,
    /// This view.
    Show(View),
    /// Help, or back from it.
    Help,
    /// Freeze the picture, or let it go on.
    Pause,
    /// Start new totals.
    Reset,
    /// Type a filter.
    Filter,
    /// No filter.
    ClearFilter,
    /// Sort by the next column.
    NextSort,
    /// Sort by this column; none is the order of names.
    Sort(Option<Column>),
    /// Rows by guest as well, or no longer.
    ByGuest,
    /// More detail, or less.
    Expand,
    /// Type an interval.
    Interval,
    /// A longer interval.
    Longer,
    /// A shorter interval.
    Shorter,
    /// Rates or totals.
    Totals,
    /// Write a file.
    Export,
    /// Draw everything again.
    Redraw,
    /// Stop, as any program does at Ctrl-Z.
    Suspend,
    /// Go to another row, cell or picture.
    Move(Move),
    /// Into the selected row.
    Enter,
    /// Back out of it.
    Back,
}

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// One row up.
    Up,
    /// One row down.
    Down,
    /// To the left.
    Left,
    /// To the right.
    Right,
    /// A screen up.
    PageUp,
    /// A screen down.
    PageDown,
    /// The first one.
    First,
    /// The last one.
    Last,
}

/// What a key means while nothing is typed.
pub fn action(key: KeyEvent) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c' | 'q') => Some(Action::Quit),
            KeyCode::Char('l') => Some(Action::Redraw),
            KeyCode::Char('z') => Some(Action::Suspend),
            _ => None,
        };
    }
    if key.modifiers.contains(KeyModifiers::ALT) {
        return None;
    }
    Some(match key.code {
        KeyCode::Tab => Action::NextView,
        KeyCode::BackTab => Action::PreviousView,
        KeyCode::Enter => Action::Enter,
        KeyCode::Esc | KeyCode::Backspace => Action::Back,
        KeyCode::Up => Action::Move(Move::Up),
        KeyCode::Down => Action::Move(Move::Down),
        KeyCode::Left => Action::Move(Move::Left),
        KeyCode::Right => Action::Move(Move::Right),
        KeyCode::PageUp => Action::Move(Move::PageUp),
        KeyCode::PageDown => Action::Move(Move::PageDown),
        KeyCode::Home => Action::Move(Move::First),
        KeyCode::End => Action::Move(Move::Last),
        KeyCode::Char(letter) => return of_letter(letter),
        _ => return None,
    })
}

fn of_letter(letter: char) -> Option<Action> {
    Some(match letter {
        '1'..='9' => Action::Show(*View::ALL.get((letter as usize).checked_sub('1' as usize)?)?),
        'q' => Action::Quit,
        'h' | '?' => Action::Help,
        ' ' => Action::Pause,
        'r' => Action::Reset,
        'f' | 'g' | 'p' | '/' => Action::Filter,
        'c' => Action::ClearFilter,
        'o' => Action::NextSort,
        'b' => Action::ByGuest,
        'x' => Action::Expand,
        's' => Action::Interval,
        '+' | '=' => Action::Longer,
        '-' | '_' => Action::Shorter,
        't' => Action::Totals,
        'e' => Action::Export,
        'k' => Action::Move(Move::Up),
        'j' => Action::Move(Move::Down),
        'N' => Action::Sort(None),
        _ => Action::Sort(Some(SORT_KEYS.iter().find(|(key, _)| *key == letter)?.1)),
    })
}

/// Keys of columns.
pub const SORT_KEYS: [(char, Column); 9] = [
    ('E', Column::Exits),
    ('U', Column::UserspaceExits),
    ('D', Column::Deferred),
    ('P', Column::Performed),
    ('A', Column::Avoided),
    ('W', Column::SetWritten),
    ('S', Column::SetSkipped),
    ('F', Column::SetFailed),
    ('C', Column::Closes),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_stats_letters_mean_what_they_mean_there() {
        let letter = |letter| action(KeyEvent::new(KeyCode::Char(letter), KeyModifiers::NONE));
        for (key, expected) in [
            ('b', Action::ByGuest),
            ('c', Action::ClearFilter),
            ('f', Action::Filter),
            ('g', Action::Filter),
            ('h', Action::Help),
            ('o', Action::NextSort),
            ('p', Action::Filter),
            ('q', Action::Quit),
            ('r', Action::Reset),
            ('s', Action::Interval),
            ('x', Action::Expand),
        ] {
            assert_eq!(letter(key), Some(expected), "{key}");
        }
        assert_eq!((letter('0'), letter('8'), letter('D')), (None, None, Some(Action::Sort(Some(Column::Deferred)))));
    }
}
