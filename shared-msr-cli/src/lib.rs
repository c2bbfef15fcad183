//! Shows which MSR restores KVM put off, which it really performed, and for which MSR.
//!
//! Layers, each using only those above it: [`kernel`] (what this host's kernel looks like), [`probe`] (the kernel-side
//! programs), [`sample`] (a snapshot of what they counted), [`ledger`] (pure arithmetic on snapshots), [`report`] and [`tui`]
//! (ways to show a ledger), [`trace`] (single events). [`guest`] stands beside; [`commands`] puts everything together.

pub mod cli;
pub mod commands;
pub mod duration;
pub mod guest;
pub mod kernel;
pub mod ledger;
pub mod notice;
pub mod obstacle;
pub mod output_file;
pub mod probe;
pub mod report;
pub mod sample;
pub mod trace;
pub mod tui;
