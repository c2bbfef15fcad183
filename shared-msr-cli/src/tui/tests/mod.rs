//! The live view without a terminal and without a kernel, on ledgers of real runs in the lab.

mod keys;
mod property;
mod screens;

use std::{sync::Arc, time::Duration};

use ratatui::{
    Terminal,
    backend::TestBackend,
    buffer::Buffer,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

use super::{
    event::{Effect, Event},
    source::{Cost, CpuNow, Facts, Sample},
    state::State,
    theme::{Colours, Theme},
    update::update,
    view::view,
};
use crate::{
    kernel::{
        host::{Host, Vendor},
        process::Processes,
        structure::Value,
    },
    ledger::{Ledger, saved::Saved},
    probe::hooks::Hooks,
};

/// Four looks, two seconds apart, at an emulated AMD host with two CPUs and three guests; see `xtask/src/save_data/ledgers.rs`.
const AMD: &str = include_str!("../../../tests/data/ledgers-amd.jsonl");
/// Four looks at an emulated Intel host with one CPU and two guests, each with four MSRs of its own; see the same.
const INTEL: &str = include_str!("../../../tests/data/ledgers-intel.jsonl");

/// The ledgers of a file.
fn ledgers(text: &str) -> Vec<Ledger> {
    text.lines().map(|line| serde_json::from_str::<Saved>(line).unwrap().into()).collect()
}

/// Samples of ledgers: the structures and costs are made up, because they are not in the file.
fn samples(text: &str) -> Vec<Arc<Sample>> {
    let sample = |(number, ledger): (u64, Ledger)| {
        let values = |curr| vec![Value { host: 0, curr }; ledger.msrs.len()];
        let cpus = vec![CpuNow { cpu: 1, registered: true, values: values(0xdef) }];
        let cost = Cost { kernel: Some(Duration::from_micros(number * 2_500)), process: Duration::from_millis(number * 8) };
        Arc::new(Sample { ledger: ledger.into(), cpus, cost })
    };
    (1..).zip(ledgers(text)).map(sample).collect()
}

fn facts() -> Facts {
    let hook = |name: &str| Some(name.to_owned());
    Facts {
        host: Host {
            kernel: "6.12.117+deb12-cloud-amd64".to_owned(),
            online_cpus: vec![0, 1],
            possible_cpus: vec![0, 1],
            processes: Processes::ON_THE_HOST,
        },
        vendor: Vendor::Amd,
        hooks: Hooks {
            set: hook("fentry:kvm_set_user_return_msr"),
            close: hook("fentry:kvm_on_user_return"),
            exit: "raw_tracepoint:kvm_exit".to_owned(),
            userspace_exit: "raw_tracepoint:kvm_userspace_exit".to_owned(),
            check: None,
            drop: hook("kprobe:kvm_arch_disable_virtualization_cpu"),
            restored: hook("fexit:kvm_on_user_return"),
            thread_end: "raw_tracepoint:sched_process_exit".to_owned(),
            exec: "raw_tracepoint:sched_process_exec".to_owned(),
            vcpu_made: hook("raw_tracepoint:kvm_write_tsc_offset"),
            check_exit: None,
        },
        refused: Vec::new(),
        list_known: true,
    }
}

/// A user before the view.
struct User {
    state: State,
    samples: std::vec::IntoIter<Arc<Sample>>,
    effects: Vec<Effect>,
}

impl User {
    /// In front of a terminal of this size, after two samples.
    fn at(columns: u16, rows: u16) -> Self {
        Self::before(AMD, facts(), columns, rows)
    }

    /// The same, on an Intel host.
    fn on_intel(columns: u16, rows: u16) -> Self {
        let facts = Facts { vendor: Vendor::Intel, ..facts() };
        let kernel = "6.1.0-56-cloud-amd64".to_owned();
        let host = Host { kernel, online_cpus: vec![0], possible_cpus: vec![0], ..facts.host };
        Self::before(INTEL, Facts { host, ..facts }, columns, rows)
    }

    fn before(text: &str, facts: Facts, columns: u16, rows: u16) -> Self {
        let theme = Theme { colours: Colours::True, ascii: false };
        let state = State::new(facts, theme, (columns, rows), Duration::from_secs(2));
        let mut user = Self { state, samples: samples(text).into_iter(), effects: Vec::new() };
        user.sample();
        user.sample();
        user
    }

    fn event(&mut self, event: Event) {
        let effects;
        (self.state, effects) = update(self.state.clone(), event);
        self.effects.extend(effects);
    }

    fn sample(&mut self) {
        let sample = self.samples.next().expect("the file has more ledgers");
        self.event(Event::Sample(sample));
    }

    fn key(&mut self, code: KeyCode) {
        self.event(Event::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    }

    fn keys(&mut self, letters: &str) {
        letters.chars().for_each(|letter| self.key(KeyCode::Char(letter)));
    }

    fn screen(&self) -> String {
        text(&draw(&self.state))
    }
}

fn draw(state: &State) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(state.size.0, state.size.1)).unwrap();
    terminal.draw(|frame| view(state, frame)).unwrap();
    terminal.backend().buffer().clone()
}

/// What can be read, without blanks at the ends of lines.
fn text(buffer: &Buffer) -> String {
    let area = buffer.area;
    let line = |y| (0..area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..area.height).map(line).collect::<Vec<_>>().join("\n")
}
