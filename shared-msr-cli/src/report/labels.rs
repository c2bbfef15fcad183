//! Words for causes, reasons, payers and VMs. An unknown number is shown as a number, never under a wrong name.

use std::collections::BTreeMap;

use shared_msr_common::cause;

use crate::{
    kernel::{exit_names, host::Vendor, kvm_exit},
    ledger::{
        Ledger,
        facts::{Cause, Payer, Reason},
    },
    sample::{owners::Vm, vcpus::VmId},
};

/// What kind of cause it is: one of the words of the documentation.
pub(crate) const fn cause(kind: u32) -> &'static str {
    match kind {
        cause::USERSPACE_EXIT | cause::USERSPACE_ERROR | cause::OTHER_CALL => "userspace-exit",
        cause::FOREIGN => "foreign",
        cause::DROP => "drop",
        _ => "unknown",
    }
}

/// Why a vCPU's thread went back to its VMM: KVM_EXIT_* without its prefix, the errno, or that it was no `KVM_RUN`. None for
/// the other causes.
pub(crate) fn cause_reason((kind, code): Cause) -> Option<String> {
    let named = |name: Option<&str>| name.map_or_else(|| code.to_string(), str::to_owned);
    match kind {
        cause::USERSPACE_EXIT => Some(named(kvm_exit::reason(code))),
        cause::USERSPACE_ERROR => Some(named(i32::try_from(code).ok().and_then(kvm_exit::errno))),
        cause::OTHER_CALL => Some("other-call".to_owned()),
        _ => None,
    }
}

/// Cause and reason in one cell.
pub(crate) fn cause_cell(cause: Cause) -> String {
    let kind = self::cause(cause.0);
    cause_reason(cause).map_or_else(|| kind.to_owned(), |reason| format!("{kind} {reason}"))
}

/// An exit reason's name; its number where it has none; a question mark where it could not be read.
pub(crate) fn reason_cell(vendor: Vendor, reason: Reason) -> String {
    let Some(reason) = reason else { return "?".to_owned() };
    reason_name(vendor, reason).unwrap_or_else(|| vendor.reason(reason))
}

/// An exit reason's name; none where it has none.
pub(crate) fn reason_name(vendor: Vendor, reason: u32) -> Option<String> {
    exit_names::exit_reason(vendor, reason).map(|name| name.to_string())
}

/// Who paid. A process that runs a VM is called as that VM is in its rows.
pub(crate) fn payer_cell(payer: &Payer, vms: &BTreeMap<u32, Vm>) -> String {
    match (payer.tgid, payer.command.as_str()) {
        (0, _) => "others".to_owned(),
        (tgid, _) if vms.contains_key(&tgid) => process_cell(tgid, vms.get(&tgid)),
        (tgid, "") => tgid.to_string(),
        (tgid, command) => format!("{tgid} {command}"),
    }
}

/// A process that runs VMs: always its number, and its name where it has one.
pub(crate) fn process_cell(tgid: u32, vm: Option<&Vm>) -> String {
    let name = vm.and_then(|vm| vm.name.as_ref().or(vm.command.as_ref()));
    name.map_or_else(|| tgid.to_string(), |name| format!("{tgid} {name}"))
}

/// A VM: its process, and which of its VMs where it has several.
pub(crate) fn vm_cell(vm: VmId, ledger: &Ledger) -> String {
    process_cell(vm.process, ledger.owners.vms.get(&vm.process)) + &vm_number(vm, ledger.owners.has_several_vms(vm.process))
}

/// Which VM of its process it is, if that has several.
pub(crate) fn vm_number(vm: VmId, several: bool) -> String {
    match (several, vm.number) {
        (false, _) => String::new(),
        (true, Some(number)) => format!(" VM {number}"),
        (true, None) => " VM ?".to_owned(),
    }
}
