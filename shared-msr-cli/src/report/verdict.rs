//! The measurement in one sentence, for somebody who has never heard of the mechanism.

use super::number::{counted, grouped, seconds};
use crate::{
    kernel::host::Vendor,
    ledger::{Events, Ledger},
};

/// One sentence, or two.
pub fn verdict(ledger: &Ledger, vendor: Vendor) -> String {
    let totals = &ledger.totals;
    let duration = seconds(ledger.duration);
    if ledger.msrs.is_empty() && !ledger.reconciled() {
        return format!(
            "In {duration} and {} nothing can be said of restores: KVM's list of user-return MSRs is empty, but {} was seen to use \
             them.",
            counted(ledger.events.exits, "exit"),
            vendor.module(),
        );
    }
    if ledger.msrs.is_empty() {
        return format!(
            "In {duration} there was nothing to put off: this kernel's {} does not use user-return MSRs (KVM's list of them is \
             empty). {}, no window.",
            vendor.module(),
            counted(ledger.events.exits, "exit"),
        );
    }
    let (Some(deferred), Some(performed), Some(avoided)) = (totals.deferred, totals.performed, totals.avoided) else {
        return format!(
            "In {duration} and {} these MSRs were written {}. Which of these WRMSRs loaded a guest's value, which put back the \
             host's, and which restores were put off cannot be told on this host.",
            counted(ledger.events.exits, "exit"),
            totals.wrmsrs.map_or_else(|| "an unknown number of times".to_owned(), |writes| counted(writes, "time")),
        );
    };
    if deferred == 0 && performed == 0 {
        return nothing(ledger, &duration);
    }
    let facts = format!(
        "In {duration} KVM put off {} of host MSR values and paid for {}",
        counted(deferred, "restore"),
        grouped(performed)
    );
    if avoided < 0 {
        let more = grouped(avoided.unsigned_abs());
        return format!("{facts}: {more} more than a hypervisor that restores them at every exit (the eager baseline).");
    }
    format!(
        "{facts}: {} were avoided, compared with a hypervisor that restores them at every exit (the eager baseline, an upper \
         bound).",
        grouped(avoided.unsigned_abs()),
    )
}

fn nothing(ledger: &Ledger, duration: &str) -> String {
    let totals = &ledger.totals;
    let Events { exits, windows_open_at_start, windows_opened, .. } = ledger.events;
    let no_write = totals.set_written == Some(0);
    if exits == 0 && no_write && totals.set_skipped.is_none_or(|skipped| skipped == 0) {
        return format!("In {duration} no guest ran: there was no exit, and nothing to restore.");
    }
    let why = if windows_open_at_start.unwrap_or(0) + windows_opened.unwrap_or(0) > 0 {
        "no exit happened while a guest's value was in the hardware"
    } else if totals.set_skipped.is_some_and(|skipped| skipped > 0) && no_write {
        "the guests' values of these MSRs are the host's own, so no WRMSR was needed to load or to restore them"
    } else if totals.set_skipped.is_none() {
        "no WRMSR loaded a guest's value into these MSRs"
    } else {
        "no call of KVM that loads a guest's value into these MSRs was seen"
    };
    format!("In {duration} KVM neither put off nor performed a restore in {}: {why}.", counted(exits, "exit"))
}
