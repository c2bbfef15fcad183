//! Ways to show a ledger.

pub mod by;
pub mod columns;
pub mod csv;
pub mod filter;
pub mod interval;
pub mod json;
pub mod jsonl;
pub(crate) mod labels;
pub mod number;
mod processes;
mod summary;
pub mod table;
pub mod verdict;

use std::time::Duration;

use by::Choice;
use filter::Filter;

use crate::{
    kernel::host::{Host, Vendor},
    ledger::Ledger,
    probe::{hooks::Hooks, ladder::Refused},
};

/// A measurement, ready to be shown.
pub struct Report<'a> {
    /// The machine.
    pub host: &'a Host,
    /// Which part of KVM ran guests.
    pub vendor: Vendor,
    /// What observed it.
    pub hooks: &'a Hooks,
    /// Hooks that could not be had.
    pub refused: &'a [Refused],
    /// Whether the rows are KVM's own list, rather than all MSRs that any KVM lists.
    pub list_known: bool,
    /// What was counted.
    pub ledger: &'a Ledger,
    /// How long after counting began the counters were read.
    pub at: Duration,
    /// Which rows are wanted.
    pub filter: &'a Filter,
    /// What they are of, and in which order.
    pub choice: &'a Choice,
}

#[cfg(test)]
mod tests;
