//! Ways to show a ledger.

pub mod columns;
pub mod json;
pub mod number;
pub mod table;
pub mod verdict;

use crate::{
    kernel::host::{Host, Vendor},
    ledger::Ledger,
    probe::{ladder::Refused, probes::Hooks},
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
}

#[cfg(test)]
mod tests;
