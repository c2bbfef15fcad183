//! What keys do.

use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{User, facts};
use crate::{
    ledger::facts::Measures,
    report::by::Column,
    tui::{
        event::{Effect, Event},
        export,
        grid::{Key, Kind},
        state::{Depth, Status, View},
    },
};

/// The rows' keys, from above.
fn rows(user: &User) -> Vec<Key> {
    user.state.grid().unwrap().rows.into_iter().map(|row| row.key).collect()
}

/// The numbers of each VM in the order of rows.
fn column(user: &User, number: fn(&Measures) -> u64) -> Vec<u64> {
    let shown = user.state.shown.as_ref().unwrap();
    let of = |key: &Key| match key {
        Key::Vm(vm) => shown.vm(*vm).map(|row| number(user.state.choose(&row.lately, &row.total))),
        _ => None,
    };
    rows(user).iter().filter_map(of).collect()
}

#[test]
fn tab_and_numbers_go_through_the_views() {
    let mut user = User::at(80, 24);
    for view in View::ALL {
        assert_eq!(user.state.view, view);
        user.key(KeyCode::Tab);
    }
    assert_eq!(user.state.view, View::Overview);
    user.key(KeyCode::BackTab);
    assert_eq!(user.state.view, View::Help);
    user.keys("5");
    assert_eq!(user.state.view, View::Causes);
    user.keys("h");
    assert_eq!(user.state.view, View::Help);
    user.keys("?");
    assert_eq!(user.state.view, View::Causes, "help leads back");
}

#[test]
fn vms_are_sorted_by_exits_until_a_column_key_is_pressed_and_the_same_key_turns_the_order_round() {
    let mut user = User::at(80, 24);
    user.keys("2");
    let exits = |user: &User| column(user, |measures| measures.exits);
    assert_eq!(exits(&user).len(), 3);
    assert!(exits(&user).is_sorted_by(|left, right| left >= right), "{:?}", exits(&user));
    user.keys("P");
    assert!(column(&user, |measures| measures.performed).is_sorted_by(|left, right| left >= right));
    user.keys("P");
    assert!(column(&user, |measures| measures.performed).is_sorted());
    assert_eq!(user.state.status, Some(Status::Done("sorted by PERFORMED, smallest first".to_owned())));
    assert!(user.screen().contains("PERFORMED▲"), "{}", user.screen());
}

#[test]
fn o_goes_through_all_columns_and_comes_back() {
    let mut user = User::at(80, 24);
    user.keys("2");
    let mut seen = vec![user.state.sort(Kind::Vms).column];
    loop {
        user.keys("o");
        let now = user.state.sort(Kind::Vms);
        if now.column == seen[0] {
            break;
        }
        assert_eq!(now.descending, now.column.is_some(), "largest first, names in order");
        seen.push(now.column);
    }
    assert_eq!(seen.len(), Kind::Vms.columns(false).len() + 1);
    assert!(seen.contains(&None) && seen.contains(&Some(Column::Closes)));
}

#[test]
fn a_column_that_is_not_there_is_refused_in_words() {
    let mut user = User::at(80, 24);
    user.keys("4W");
    assert_eq!(user.state.status, Some(Status::Problem("there is no column WRITTEN here".to_owned())));
}

#[test]
fn the_selection_stays_with_its_row_when_the_order_changes() {
    let mut user = User::at(80, 24);
    user.keys("2jj");
    let selected = rows(&user)[2].clone();
    user.keys("EN");
    let position = user.state.position(&user.state.grid().unwrap());
    assert_eq!(rows(&user)[position], selected);
}

#[test]
fn a_filter_is_typed_mended_and_cleared() {
    let mut user = User::at(80, 24);
    user.keys("2f(");
    user.key(KeyCode::Enter);
    assert!(user.state.input.is_some() && matches!(user.state.status, Some(Status::Problem(_))), "it can be mended");
    user.key(KeyCode::Backspace);
    let Key::Vm(vm) = rows(&user)[1] else { panic!("no VM") };
    let process = vm.process;
    user.keys(&process.to_string());
    user.key(KeyCode::Enter);
    assert_eq!(rows(&user), [Key::Vm(vm)]);
    assert!(user.screen().contains(&format!("filter {process}")) && user.screen().contains("1 of 3 VMs"), "{}", user.screen());
    user.keys("c");
    assert_eq!(user.state.shown.as_ref().unwrap().vms.len(), 3);
    assert!(user.state.filter.is_none());
    user.keys("f^nothing has this name$");
    user.key(KeyCode::Enter);
    assert_eq!(rows(&user), []);
    user.keys("fanything");
    user.key(KeyCode::Esc);
    assert!(user.state.input.is_none() && user.state.filter.is_some(), "Esc leaves the filter as it was");
}

#[test]
fn letters_that_are_typed_are_no_commands() {
    let mut user = User::at(80, 24);
    user.keys("fq r");
    assert!(user.effects.is_empty() && user.state.input.as_ref().unwrap().text == "q r");
}

#[test]
fn a_filter_chooses_whose_msrs_causes_and_exits_are_shown() {
    let mut user = User::at(80, 24);
    let number = |user: &User, letter| {
        let mut user = User { state: user.state.clone(), samples: Vec::new().into_iter(), effects: Vec::new() };
        user.keys(letter);
        user.state.grid().unwrap().rows.len()
    };
    let all = (number(&user, "4"), number(&user, "5"));
    user.keys("2");
    let Key::Vm(vm) = rows(&user)[2] else { panic!("no VM") };
    user.keys(&format!("f{}", vm.process));
    user.key(KeyCode::Enter);
    let some = (number(&user, "4"), number(&user, "5"));
    assert!(some.0 < all.0 || some.1 < all.1, "{some:?} of {all:?}");
}

#[test]
fn enter_goes_down_to_one_vcpu_and_escape_back_up() {
    let mut user = User::at(80, 24);
    user.keys("2j");
    let Key::Vm(vm) = rows(&user)[1] else { panic!("no VM") };
    user.key(KeyCode::Enter);
    assert_eq!(user.state.depth, Depth::Vm(vm));
    let Key::Vcpu(vm, owner) = rows(&user)[0] else { panic!("no vCPU") };
    user.key(KeyCode::Enter);
    assert_eq!(user.state.depth, Depth::Vcpu(vm, owner));
    user.key(KeyCode::Enter);
    user.key(KeyCode::Esc);
    user.key(KeyCode::Backspace);
    assert_eq!(user.state.depth, Depth::Vms);
    assert_eq!(user.state.position(&user.state.grid().unwrap()), 1, "back at the same VM");
    user.key(KeyCode::Esc);
    assert_eq!((user.state.view, user.state.depth), (View::Vms, Depth::Vms));
}

#[test]
fn enter_on_a_guest_of_the_overview_opens_it() {
    let mut user = User::at(80, 24);
    user.keys("b");
    user.key(KeyCode::Enter);
    assert!(user.state.view == View::Vms && matches!(user.state.depth, Depth::Vm(_)));
}

#[test]
fn pause_freezes_the_picture_while_measuring_goes_on() {
    let mut user = User::at(80, 24);
    user.keys("t ");
    let (frozen, revision) = (user.screen(), user.state.revision);
    user.sample();
    user.sample();
    assert_eq!((user.screen(), user.state.revision), (frozen.clone(), revision), "nothing is drawn");
    assert!(frozen.contains("PAUSED"));
    let total = |user: &User| user.state.shown.as_ref().unwrap().total.events.exits;
    let before = total(&user);
    user.keys(" ");
    assert!(total(&user) > before && user.state.shown.as_ref().unwrap().history.host.len() == 4, "nothing was missed");
}

#[test]
fn reset_starts_new_totals_at_once_and_from_the_newest_sample() {
    let mut user = User::at(80, 24);
    user.keys("2t");
    assert!(column(&user, |measures| measures.exits).iter().all(|exits| *exits > 0));
    let before = user.state.newest.as_ref().unwrap().sample.ledger.events.exits;
    user.keys("r");
    let shown = user.state.shown.clone().unwrap();
    assert_eq!((shown.total.events.exits, shown.total.duration), (0, Duration::ZERO));
    assert!(shown.lately.events.exits > 0, "rates stay");
    user.sample();
    let shown = user.state.shown.clone().unwrap();
    assert_eq!(shown.total.events.exits, shown.sample.ledger.events.exits - before);
    assert_eq!(
        column(&user, |measures| measures.exits).iter().sum::<u64>() + shown.unattributed.1.exits,
        shown.total.events.exits
    );
}

#[test]
fn rates_are_of_the_last_interval_alone() {
    let user = User::at(80, 24);
    let ledgers = super::ledgers(super::AMD);
    let shown = user.state.shown.unwrap();
    let seconds = (ledgers[1].duration - ledgers[0].duration).as_secs_f64();
    assert_eq!(shown.lately.events.exits, ledgers[1].events.exits - ledgers[0].events.exits);
    let newest = shown.history.host.newest_first(crate::tui::history::Curve::Exits).next().unwrap();
    assert!((newest - shown.lately.events.exits as f64 / seconds).abs() < 1.0);
}

#[test]
fn rows_of_vms_add_up_to_the_host() {
    let user = User::at(80, 24);
    let shown = user.state.shown.unwrap();
    let sum: u64 = shown.vms.iter().map(|vm| vm.lately.performed).sum::<u64>() + shown.unattributed.0.performed;
    assert_eq!(Some(sum), shown.lately.totals.performed);
}

#[test]
fn the_interval_is_stepped_and_typed() {
    let mut user = User::at(80, 24);
    user.keys("+-");
    user.keys("s500ms");
    user.key(KeyCode::Enter);
    let intervals: Vec<Duration> = user
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::SetInterval(interval) => Some(*interval),
            _ => None,
        })
        .collect();
    assert_eq!(intervals, [5_000, 2_000, 500].map(Duration::from_millis));
    user.keys("ssoon");
    user.key(KeyCode::Enter);
    assert!(matches!(user.state.status, Some(Status::Problem(_))) && user.state.interval == Duration::from_millis(500));
}

#[test]
fn quit_redraw_and_suspend_are_handed_on() {
    let mut user = User::at(80, 24);
    for (letter, expected) in [('l', "Redraw"), ('z', "Suspend"), ('c', "Quit")] {
        user.event(Event::Key(KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL)));
        assert_eq!(format!("{:?}", user.effects.pop().unwrap()), expected);
    }
    user.keys("q");
    assert!(matches!(user.effects.as_slice(), [Effect::Quit]));
    user.event(Event::Failed("it has ended".to_owned()));
    assert!(matches!(&user.effects[1], Effect::Fail(why) if why == "it has ended"));
}

#[test]
fn an_export_is_a_new_file_with_the_totals_and_the_user_is_told_where() {
    let folder = std::env::temp_dir().join(format!("shared-msr-export-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut user = User::at(80, 24);
    user.keys("e");
    let Some(Effect::Export(ledger, at)) = user.effects.pop() else { panic!("no export") };
    let now = std::time::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let path = export::write(&facts(), &ledger, at, &folder, now).unwrap();
    assert!(path.ends_with("shared-msr-20270115-080000.json"), "{path}");
    let document: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(document["totals"]["exits"], ledger.events.exits);
    assert_eq!(document["schema"], 2);
    assert_eq!(document["vms"].as_array().unwrap().len(), 3);
    let second = export::write(&facts(), &ledger, at, &folder, now).unwrap();
    assert!(second.ends_with("-2.json"), "nothing is overwritten: {second}");
    user.event(Event::Exported(Ok(path.clone())));
    assert_eq!(user.state.status, Some(Status::Done(format!("wrote {path}"))));
    std::fs::remove_dir_all(&folder).unwrap();
    let failed = export::write(&facts(), &ledger, at, &folder, now);
    assert!(failed.as_ref().is_err_and(|why| why.contains("--export-dir")), "{failed:?}");
}

#[test]
fn cpus_are_gone_through_with_arrows() {
    let mut user = User::at(80, 24);
    user.keys("3");
    user.key(KeyCode::Right);
    assert!(user.screen().contains("CPU 1: inside a window now"), "{}", user.screen());
    user.key(KeyCode::Right);
    assert_eq!(user.state.cpu, 1);
    user.key(KeyCode::Home);
    assert!(user.screen().contains("CPU 0: "), "{}", user.screen());
}
