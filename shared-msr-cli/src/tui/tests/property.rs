//! No sequence of keys and sizes makes the view panic.

use proptest::prelude::*;
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

use super::{AMD, User, samples};
use crate::tui::{event::Event, update::update, view::view};

#[derive(Clone, Debug)]
enum Step {
    Key(KeyCode, KeyModifiers),
    Resize(u16, u16),
    Sample,
}

fn step() -> impl Strategy<Value = Step> {
    let special = prop::sample::select(vec![
        KeyCode::Enter,
        KeyCode::Esc,
        KeyCode::Backspace,
        KeyCode::Tab,
        KeyCode::BackTab,
        KeyCode::Up,
        KeyCode::Down,
        KeyCode::Left,
        KeyCode::Right,
        KeyCode::PageUp,
        KeyCode::PageDown,
        KeyCode::Home,
        KeyCode::End,
        KeyCode::Delete,
        KeyCode::F(5),
    ]);
    let plain = KeyModifiers::NONE;
    prop_oneof![
        6 => (32_u8..127).prop_map(move |letter| Step::Key(KeyCode::Char(letter.into()), plain)),
        5 => special.prop_map(move |code| Step::Key(code, plain)),
        1 => any::<char>().prop_map(move |letter| Step::Key(KeyCode::Char(letter), plain)),
        1 => (b'a'..=b'z').prop_map(|letter| Step::Key(KeyCode::Char(letter.into()), KeyModifiers::CONTROL)),
        2 => (1_u16..150, 1_u16..50).prop_map(|(columns, rows)| Step::Resize(columns, rows)),
        1 => Just(Step::Sample),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// 100 times 100 events, drawn after each.
    #[test]
    fn no_keys_and_sizes_make_it_panic(ascii: bool, begun: bool, steps in prop::collection::vec(step(), 100)) {
        let mut state = User::at(80, 24).state;
        state.theme.ascii = ascii;
        if !begun {
            (state.shown, state.newest) = (None, None);
        }
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        let mut samples = samples(AMD).into_iter().skip(2);
        for step in steps {
            let event = match step {
                Step::Key(code, modifiers) => Event::Key(KeyEvent::new(code, modifiers)),
                Step::Resize(columns, rows) => {
                    terminal.backend_mut().resize(columns, rows);
                    Event::Resize(columns, rows)
                }
                Step::Sample => match samples.next() {
                    Some(sample) => Event::Sample(sample),
                    None => continue,
                },
            };
            state = update(state, event).0;
            terminal.draw(|frame| view(&state, frame)).unwrap();
        }
    }
}
