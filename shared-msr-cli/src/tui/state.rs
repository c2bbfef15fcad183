//! All that the live view knows.

use std::{sync::Arc, time::Duration};

use ratatui::layout::Rect;
use shared_msr_common::Owner;

use super::{
    grid::{Grid, Key, Kind, Sort},
    layout,
    name_filter::NameFilter,
    rows,
    shown::Shown,
    source::{Facts, Sample},
    theme::Theme,
};
use crate::{
    ledger::{Ledger, facts::Measures},
    sample::vcpus::VmId,
};

/// The views, in the order of their number keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The host at a glance.
    Overview,
    /// VMs and their vCPUs.
    Vms,
    /// A cell for each CPU.
    Cpus,
    /// Exits by reason.
    Exits,
    /// Why windows closed, and who paid.
    Causes,
    /// Distributions.
    Histograms,
    /// The keys and the words.
    Help,
}

impl View {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::Overview, Self::Vms, Self::Cpus, Self::Exits, Self::Causes, Self::Histograms, Self::Help];

    /// Its name, and a short one.
    pub const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Overview => ("Overview", "Ov"),
            Self::Vms => ("VMs", "VM"),
            Self::Cpus => ("CPUs", "CP"),
            Self::Exits => ("Exits", "Ex"),
            Self::Causes => ("Causes", "Ca"),
            Self::Histograms => ("Histograms", "Hi"),
            Self::Help => ("Help", "?"),
        }
    }
}

/// How deep the user is in the VMs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// All VMs.
    #[default]
    Vms,
    /// The vCPUs of one.
    Vm(VmId),
    /// One vCPU.
    Vcpu(VmId, Owner),
}

/// Where the user is in a table, and its order.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The selected row, which stays selected where it goes.
    pub key: Option<Key>,
    /// Where it was last, in case it is gone.
    pub position: usize,
    /// The order, if it was chosen.
    pub sort: Option<Sort>,
}

/// What is being typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// What for.
    pub purpose: Purpose,
    /// So far.
    pub text: String,
}

/// What something is typed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A filter.
    Filter,
    /// An interval.
    Interval,
}

/// Whether a word to the user is good or bad news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Something was done.
    Done(String),
    /// Something could not be done.
    Problem(String),
}

/// All that the live view knows.
#[derive(Clone, Debug)]
pub struct State {
    /// What does not change.
    pub facts: Arc<Facts>,
    /// How things look.
    pub theme: Theme,
    /// Columns and rows of the terminal.
    pub size: (u16, u16),
    /// How far samples are apart.
    pub interval: Duration,
    /// The view.
    pub view: View,
    /// Where help was asked for.
    pub before_help: View,
    /// How deep the user is in the VMs.
    pub depth: Depth,
    /// By [`Kind`].
    pub places: [Place; Kind::COUNT],
    /// The selected CPU's place among those shown.
    pub cpu: usize,
    /// The selected distribution, and by how many lines it is scrolled.
    pub histogram: (usize, usize),
    /// By how many lines help is scrolled.
    pub help: usize,
    /// What is being typed.
    pub input: Option<Input>,
    /// Which VMs are wanted.
    pub filter: Option<NameFilter>,
    /// Totals instead of rates.
    pub totals: bool,
    /// Rows by guest as well.
    pub by_guest: bool,
    /// More detail.
    pub expanded: bool,
    /// What is on the screen; none before the first sample.
    pub shown: Option<Arc<Shown>>,
    /// What would be there, if it were not frozen.
    pub newest: Option<Arc<Shown>>,
    /// Whether the picture is frozen.
    pub paused: bool,
    /// The sample at the last reset.
    pub base: Option<Arc<Sample>>,
    /// A word to the user, until the next key.
    pub status: Option<Status>,
    /// Grows when the picture has to be drawn again.
    pub revision: u64,
}

impl State {
    /// Before the first sample.
    pub fn new(facts: Facts, theme: Theme, size: (u16, u16), interval: Duration) -> Self {
        Self {
            facts: Arc::new(facts),
            theme,
            size,
            interval,
            view: View::Overview,
            before_help: View::Overview,
            depth: Depth::default(),
            places: Default::default(),
            cpu: 0,
            histogram: (0, 0),
            help: 0,
            input: None,
            filter: None,
            totals: false,
            by_guest: false,
            expanded: false,
            shown: None,
            newest: None,
            paused: false,
            base: None,
            status: None,
            revision: 0,
        }
    }

    /// Where the view is drawn.
    pub fn body(&self) -> Rect {
        layout::parts(Rect::new(0, 0, self.size.0, self.size.1)).body
    }

    /// The ledger that numbers come from, and by how many seconds to divide them.
    pub fn numbers<'a>(&self, shown: &'a Shown) -> (&'a Ledger, Option<f64>) {
        if self.totals { (&shown.total, None) } else { (&shown.lately, Some(shown.lately.duration.as_secs_f64())) }
    }

    /// Of a pair of lately and total, the one that is shown.
    pub fn choose<'a>(&self, lately: &'a Measures, total: &'a Measures) -> &'a Measures {
        if self.totals { total } else { lately }
    }

    /// Whether a VM is wanted.
    pub fn takes(&self, vm: u32, name: Option<&str>) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.takes(vm, name))
    }

    /// The order of a table.
    pub fn sort(&self, kind: Kind) -> Sort {
        let usual = kind.usual_sort();
        self.places[kind as usize].sort.unwrap_or(Sort { column: usual, descending: usual.is_some() })
    }

    /// The table of the present view; none where it has none.
    pub fn kind(&self) -> Option<Kind> {
        match (self.view, self.depth) {
            (View::Overview, _) if self.by_guest => Some(Kind::Vms),
            (View::Overview, _) => Some(Kind::Msrs),
            (View::Vms, Depth::Vms) => Some(Kind::Vms),
            (View::Vms, Depth::Vm(_)) => Some(Kind::Vcpus),
            (View::Vms, Depth::Vcpu(..)) => Some(Kind::Msrs),
            (View::Exits, _) => Some(Kind::Exits),
            (View::Causes, _) => Some(Kind::Causes),
            (View::Cpus | View::Histograms | View::Help, _) => None,
        }
    }

    /// The same, filled.
    pub fn grid(&self) -> Option<Grid> {
        let shown = self.shown.as_ref()?;
        rows::grid(self, shown, self.kind()?)
    }

    /// Where the user is in a table.
    pub fn position(&self, grid: &Grid) -> usize {
        let place = &self.places[grid.kind as usize];
        let found = place.key.as_ref().and_then(|key| grid.rows.iter().position(|row| row.key == *key));
        found.unwrap_or(place.position).min(grid.rows.len().saturating_sub(1))
    }

    /// How many MSRs there are.
    pub fn slots(&self) -> usize {
        self.shown.as_ref().map_or(0, |shown| shown.sample.ledger.msrs.len())
    }

    /// The CPUs that are shown: those that are there, and those that were and counted something.
    pub fn cpus(&self) -> Vec<usize> {
        let Some(shown) = &self.shown else { return Vec::new() };
        let rows = shown.sample.ledger.cpus.iter().enumerate();
        let online = &self.facts.host.online_cpus;
        rows.filter(|(_, row)| row.events.exits > 0 || online.binary_search(&row.cpu).is_ok()).map(|(place, _)| place).collect()
    }
}
