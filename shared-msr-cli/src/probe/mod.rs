//! The kernel-side programs: chosen, loaded, attached, read.

mod fentry;
pub mod hooks;
pub mod kernel_log;
pub mod ladder;
mod lean;
mod lookup;
pub mod maps;
mod object;
mod on_demand;
pub mod probes;
pub mod reader;
pub mod refuse;
pub mod survey;
mod sys;
mod table;
pub mod target;
