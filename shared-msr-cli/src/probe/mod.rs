//! The kernel-side programs: chosen, loaded, attached, read.

pub mod kernel_log;
pub mod object;
pub mod peek;
pub mod probes;
pub mod survey;
