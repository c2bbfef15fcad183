//! What this host's kernel looks like, as far as the mechanism is concerned. Nothing here loads a BPF program.

pub mod affinity;
pub mod btf;
pub mod cpu_list;
pub mod exit_names;
pub mod exit_reason;
pub mod host;
pub mod kprobes;
pub mod kvm_exit;
pub mod layout;
pub mod lockdown;
pub mod msr;
pub mod plausible;
#[cfg(test)]
mod print_fmt;
pub mod process;
pub mod rights;
pub mod structure;
pub mod symbols;
pub mod tables;
pub mod vcpu;
pub mod vmm;
