//! What the scenarios share: the host they run on, the program, guests, and the kernel's own counts.

mod by_thread;
mod capabilities;
mod covered;
mod guest;
mod histogram;
mod host;
mod kernel_counter;
mod kvm_modules;
mod looks;
mod measured;
mod program;
mod refused;
mod reused_addresses;
mod setting;
mod sound;
mod terminal;
mod trace_instance;
mod uret_record;
mod writes;

pub(crate) use by_thread::{Counted, KernelThreads, Told, assert_each_row, assert_threads, assert_vms};
pub(crate) use capabilities::{Capability, as_nobody_with};
pub(crate) use covered::Covered;
pub(crate) use guest::Guest;
pub(crate) use histogram::Histogram;
pub(crate) use host::{Host, close_windows, on_cpu, wait_until};
pub(crate) use kernel_counter::{KernelCounter, wait_for_exits};
pub(crate) use kvm_modules::{WithoutKvm, vendor_module};
pub(crate) use looks::Looks;
pub(crate) use measured::{Measured, Measuring, measure, report_on, report_over_exits};
pub(crate) use program::{
    Ended, Foreign, Running, arguments, command, inspect, is_attached, json, modest, process_named, programs_in_kernel, send,
    shared_msr, wait_until_no_program_is_left,
};
pub(crate) use refused::Refused;
pub(crate) use reused_addresses::ReusedAddresses;
pub(crate) use setting::Setting;
pub(crate) use sound::{Counter, assert_all_attributed, assert_nothing_lost, assert_reconciled, assert_verified};
pub(crate) use terminal::{OnTerminal, Terminal};
pub(crate) use uret_record::UretRecord;
pub(crate) use writes::{Write, WriteRecord, restored};

/// A report for programs.
pub(crate) type Report = shared_msr::report::json::document::Document<'static>;
