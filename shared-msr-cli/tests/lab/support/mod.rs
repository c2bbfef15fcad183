//! What the scenarios share: the host they run on, the program, guests, and the kernel's own counts.

mod covered;
mod guest;
mod histogram;
mod host;
mod kernel_counter;
mod kvm_modules;
mod measured;
mod program;
mod setting;
mod sound;
mod trace_instance;
mod writes;

pub(crate) use covered::Covered;
pub(crate) use guest::Guest;
pub(crate) use histogram::Histogram;
pub(crate) use host::{Host, close_windows, on_cpu, wait_until};
pub(crate) use kernel_counter::KernelCounter;
pub(crate) use kvm_modules::{WithoutKvm, vendor_module};
pub(crate) use measured::{Measured, measure};
pub(crate) use program::{Ended, Running, arguments, command, json, shared_msr};
pub(crate) use setting::Setting;
pub(crate) use sound::{Counter, assert_adds_up, assert_all_attributed, assert_nothing_lost, assert_reconciled, assert_verified};
pub(crate) use writes::{Write, WriteRecord, restored};

/// A report for programs.
pub(crate) type Report = shared_msr::report::json::document::Document<'static>;
