//! Pictures of every view in every size.

use std::sync::Arc;

use ratatui::crossterm::event::KeyCode;

use super::{User, draw};
use crate::tui::{
    grid::Key,
    state::Status,
    theme::{Colours, Theme},
};

const SIZES: [(u16, u16); 3] = [(200, 60), (80, 24), (40, 12)];

/// The view that these keys lead to, in each size.
fn pictures(keys: &[KeyCode]) -> String {
    pictures_of(User::at, keys)
}

fn pictures_of(user: fn(u16, u16) -> User, keys: &[KeyCode]) -> String {
    let picture = |(columns, rows)| {
        let mut user = user(columns, rows);
        keys.iter().for_each(|key| user.key(*key));
        format!("--- {columns}x{rows}\n{}\n", user.screen())
    };
    SIZES.into_iter().map(picture).collect()
}

const fn letter(letter: char) -> KeyCode {
    KeyCode::Char(letter)
}

#[test]
fn overview() {
    insta::assert_snapshot!("overview", pictures(&[]));
}

/// Four MSRs of a host in place of one, and Intel's names of reasons.
#[test]
fn overview_on_intel() {
    insta::assert_snapshot!("overview_on_intel", pictures_of(User::on_intel, &[]));
}

#[test]
fn vcpu_on_intel() {
    insta::assert_snapshot!("vcpu_on_intel", pictures_of(User::on_intel, &[letter('2'), KeyCode::Enter, KeyCode::Enter]));
}

#[test]
fn exits_on_intel() {
    insta::assert_snapshot!("exits_on_intel", pictures_of(User::on_intel, &[letter('4')]));
}

#[test]
fn overview_of_totals_by_guest() {
    insta::assert_snapshot!("overview_totals_by_guest", pictures(&[letter('t'), letter('b'), letter('j')]));
}

#[test]
fn vms() {
    insta::assert_snapshot!("vms", pictures(&[letter('2')]));
}

#[test]
fn vms_expanded() {
    insta::assert_snapshot!("vms_expanded", pictures(&[letter('2'), letter('x')]));
}

#[test]
fn vcpus() {
    insta::assert_snapshot!("vcpus", pictures(&[letter('2'), KeyCode::Enter]));
}

#[test]
fn vcpu() {
    insta::assert_snapshot!("vcpu", pictures(&[letter('2'), KeyCode::Enter, KeyCode::Enter]));
}

#[test]
fn cpus() {
    insta::assert_snapshot!("cpus", pictures(&[letter('3'), KeyCode::Right]));
}

#[test]
fn exits() {
    insta::assert_snapshot!("exits", pictures(&[letter('4'), letter('x')]));
}

#[test]
fn causes() {
    insta::assert_snapshot!("causes", pictures(&[letter('5'), letter('b')]));
}

#[test]
fn histograms() {
    insta::assert_snapshot!("histograms", pictures(&[letter('6'), letter('t')]));
}

#[test]
fn help() {
    insta::assert_snapshot!("help", pictures(&[letter('h')]));
}

#[test]
fn a_terminal_that_is_too_small_is_told_so() {
    let small = User::at(20, 5);
    insta::assert_snapshot!("too_small", small.screen());
    let (narrow, low) = (User::at(39, 60), User::at(200, 11));
    assert!(narrow.screen().contains("needs 40x12") && low.screen().contains("needs 40x12 cells; here are 200x11."));
}

#[test]
fn ascii_means_ascii_in_every_view() {
    for view in '1'..='7' {
        let mut user = User::at(200, 60);
        user.state.theme.ascii = true;
        user.keys(&format!("{view}xt"));
        assert!(user.screen().is_ascii(), "{}", user.screen());
    }
}

#[test]
fn without_colours_there_is_none_and_the_text_is_the_same() {
    for view in '1'..='7' {
        let mut user = User::at(80, 24);
        user.keys(&view.to_string());
        let coloured = user.screen();
        user.state.theme = Theme { colours: Colours::None, ascii: false };
        let plain = draw(&user.state);
        assert_eq!(super::text(&plain), coloured);
        let is_plain = |cell: &ratatui::buffer::Cell| {
            let colours = [cell.fg, cell.bg];
            colours.iter().all(|colour| *colour == ratatui::style::Color::Reset)
        };
        assert!(plain.content.iter().all(is_plain), "view {view} has colours");
    }
}

#[test]
fn five_hundred_cpus_fit_on_a_small_terminal() {
    let mut user = User::at(80, 24);
    let mut sample = (*user.state.shown.clone().unwrap().sample).clone();
    let ledger = Arc::make_mut(&mut sample.ledger);
    let first = ledger.cpus[1].clone();
    let row = |cpu: u32| {
        let mut row = crate::ledger::CpuRow { cpu, ..first.clone() };
        row.counts.performed = Some(if cpu.is_multiple_of(3) { 0 } else { 1_u64 << (cpu % 19) });
        row
    };
    ledger.cpus = (0..512).map(row).collect();
    let mut facts = (*user.state.facts).clone();
    facts.host.online_cpus = (0..512).collect();
    user.state.facts = facts.into();
    user.state.newest = None;
    user.event(crate::tui::event::Event::Sample(sample.into()));
    user.keys("3");
    (0..3).for_each(|_| user.key(KeyCode::Down));
    insta::assert_snapshot!("cpus_512", user.screen());
}

#[test]
fn losses_have_a_word_and_stand_first() {
    let mut user = User::at(80, 24);
    let mut sample = (*user.state.shown.clone().unwrap().sample).clone();
    let ledger = Arc::make_mut(&mut sample.ledger);
    ledger.lost.unseen_changes = 1_234;
    user.event(crate::tui::event::Event::Sample(sample.into()));
    let screen = user.screen();
    assert!(screen.lines().last().unwrap().starts_with("LOST 1,234 unseen changes"), "{screen}");
}

#[test]
fn without_reasons_it_is_said_how_to_have_them() {
    let mut user = User::at(80, 24);
    let mut sample = (*user.state.shown.clone().unwrap().sample).clone();
    let ledger = Arc::make_mut(&mut sample.ledger);
    ledger.owners.banks = None;
    user.event(crate::tui::event::Event::Sample(sample.into()));
    user.keys("4");
    assert!(user.screen().contains("--by-reason"), "{}", user.screen());
    assert!(user.state.grid().is_none() && user.state.status != Some(Status::Done(String::new())));
}

#[test]
fn before_the_first_sample_it_is_said_when_it_comes() {
    let mut user = User::at(80, 24);
    user.state.shown = None;
    assert!(user.screen().contains("the first numbers come after 2s"), "{}", user.screen());
}

#[test]
fn a_name_with_wide_signs_is_cut_where_its_column_ends() {
    let mut user = User::at(40, 12);
    let mut sample = (*user.state.shown.clone().unwrap().sample).clone();
    let ledger = Arc::make_mut(&mut sample.ledger);
    for vm in ledger.owners.vms.values_mut() {
        vm.name = Some("仮想計算機仮想計算機仮想計算機".to_owned());
    }
    user.event(crate::tui::event::Event::Sample(sample.into()));
    user.keys("2");
    let screen = user.screen();
    assert!(screen.contains('…') && screen.contains("EXITS"), "{screen}");
    assert!(matches!(user.state.grid().unwrap().rows[0].key, Key::Vm(_)));
}

#[test]
fn books_that_do_not_reconcile_are_said_so_with_the_reason() {
    let mut user = User::at(80, 24);
    let mut sample = (*user.state.shown.clone().unwrap().sample).clone();
    let ledger = Arc::make_mut(&mut sample.ledger);
    ledger.violations = vec!["exits: 7 over all owners, but 8 over all CPUs".to_owned()];
    user.event(crate::tui::event::Event::Sample(sample.into()));
    let screen = user.screen();
    assert!(screen.contains("please report this: exits: 7 over all owners"), "{screen}");
    assert!(screen.lines().last().unwrap().starts_with("NOT RECONCILED"), "{screen}");
}
