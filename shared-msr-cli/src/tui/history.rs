//! What happened lately, for the curves.

use std::collections::{HashMap, VecDeque};

use shared_msr_common::Owner;

use crate::ledger::facts::Measures;

/// How many intervals are kept of the host: the width of a wide terminal.
const OF_HOST: usize = 400;
/// How many are kept of each VM and vCPU.
const OF_GUEST: usize = 120;

/// What there is a curve of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// Exits per second.
    Exits,
    /// Deferred restores per second.
    Deferred,
    /// Restores per second.
    Performed,
}

impl Curve {
    /// All curves.
    pub const ALL: [Self; 3] = [Self::Exits, Self::Deferred, Self::Performed];

    /// Its heading.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exits => "exits/s",
            Self::Deferred => "deferred/s",
            Self::Performed => "performed/s",
        }
    }
}

/// One thing's rates, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    rates: VecDeque<[f32; 3]>,
}

impl Series {
    fn push(&mut self, measures: &Measures, seconds: f64, most: usize) {
        let rate = |number: u64| if seconds > 0.0 { (number as f64 / seconds) as f32 } else { 0.0 };
        self.rates.push_back([measures.exits, measures.deferred, measures.performed].map(rate));
        while self.rates.len() > most {
            self.rates.pop_front();
        }
    }

    /// One curve, newest first.
    pub fn newest_first(&self, curve: Curve) -> impl Iterator<Item = f64> {
        self.rates.iter().rev().map(move |rates| f64::from(rates[curve as usize]))
    }

    /// How many intervals there are.
    pub fn len(&self) -> usize {
        self.rates.len()
    }

    /// Whether there is none yet.
    pub fn is_empty(&self) -> bool {
        self.rates.is_empty()
    }
}

/// All curves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Over the whole host.
    pub host: Series,
    vcpus: HashMap<Owner, Series>,
}

impl History {
    /// Notes an interval. Who is not among `vcpus` is forgotten.
    pub fn note(&mut self, host: &Measures, vcpus: &[(Owner, Measures)], seconds: f64) {
        self.host.push(host, seconds, OF_HOST);
        let mut before = std::mem::take(&mut self.vcpus);
        self.vcpus.reserve(vcpus.len());
        for (owner, measures) in vcpus {
            let mut series = before.remove(owner).unwrap_or_default();
            series.push(measures, seconds, OF_GUEST);
            self.vcpus.insert(*owner, series);
        }
    }

    /// A vCPU's; none of one that has ended.
    pub fn vcpu(&self, owner: Owner) -> Option<&Series> {
        self.vcpus.get(&owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_bounded_and_forgets_who_is_gone() {
        let mut history = History::default();
        let measures = Measures { exits: 10, ..Measures::default() };
        for _ in 0..2 * OF_HOST {
            history.note(&measures, &[(1, measures), (2, measures)], 2.0);
        }
        assert_eq!((history.host.len(), history.vcpu(1).map(Series::len)), (OF_HOST, Some(OF_GUEST)));
        assert_eq!(history.host.newest_first(Curve::Exits).next(), Some(5.0));
        history.note(&measures, &[(2, measures)], 2.0);
        assert_eq!((history.vcpu(1), history.vcpu(2).map(Series::len)), (None, Some(OF_GUEST)));
    }
}
