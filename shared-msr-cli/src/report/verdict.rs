//! The measurement in one sentence, for somebody who has never heard of the mechanism.

use super::number::{counted, grouped, seconds};
use crate::ledger::Ledger;

/// One sentence, or two.
pub fn verdict(ledger: &Ledger) -> String {
    let totals = &ledger.totals;
    let duration = seconds(ledger.duration);
    if totals.deferred == 0 && totals.performed == 0 {
        return nothing(ledger, &duration);
    }
    let facts = format!(
        "In {duration} KVM put off {} of host MSR values and paid for {}",
        counted(totals.deferred, "restore"),
        grouped(totals.performed),
    );
    if totals.avoided < 0 {
        let more = grouped(totals.avoided.unsigned_abs());
        return format!("{facts}: {more} more than a hypervisor that restores them at every exit (the eager baseline).");
    }
    format!(
        "{facts}: {} were avoided, compared with a hypervisor that restores them at every exit (the eager baseline, an upper \
         bound).",
        grouped(totals.avoided.unsigned_abs()),
    )
}

fn nothing(ledger: &Ledger, duration: &str) -> String {
    let totals = &ledger.totals;
    let events = &ledger.events;
    if events.exits == 0 && totals.set_skipped == 0 && totals.set_written == 0 {
        return format!("In {duration} no guest ran: there was no exit, and nothing to restore.");
    }
    let why = if events.windows_open_at_start + events.windows_opened > 0 {
        "no exit happened while a guest's value was in the hardware"
    } else if totals.set_skipped > 0 && totals.set_written == 0 {
        "the guests' values of these MSRs are the host's own, so no WRMSR was needed to load or to restore them"
    } else {
        "no call of KVM that loads a guest's value into these MSRs was seen"
    };
    format!("In {duration} KVM neither put off nor performed a restore in {}: {why}.", counted(events.exits, "exit"))
}
