//! Events as lines for people.

use std::time::Duration;

use shared_msr_common::event::{self, Event};

use super::{Words, cause, reason_text};
use crate::{
    report::{labels, number::counted},
    sample::owners::tid,
};

/// Headings of the columns.
pub const HEADINGS: &str = "     SECONDS  CPU  VCPU (THREAD)   EVENT\n";

/// One line. What a close restores stands below it, set in.
pub fn line(event: &Event, words: &Words) -> String {
    let seconds = Duration::from_nanos(event.time.saturating_sub(words.began)).as_secs_f64();
    let vcpu = words.whose(event);
    let vcpu = vcpu.map_or_else(|| "-".to_owned(), |vcpu| format!("{} ({})", vcpu.id.label(), tid(vcpu.task)));
    format!("{seconds:>12.6}  {:>3}  {vcpu:<14}  {}\n", event.cpu, substance(event, words))
}

fn substance(event: &Event, words: &Words) -> String {
    let change = || format!("{} {:#x} -> {:#x}", words.msr(event.slot), event.curr, event.value);
    match event.kind {
        event::SET_WRITTEN => {
            let opens = if event.window == 1 { ", opens a window" } else { "" };
            let clean = if event.value == event.host { ", the host's own value" } else { "" };
            format!("set      {} (host {:#x}): written{clean}{opens}", change(), event.host)
        }
        event::SET_SKIPPED => {
            format!(
                "set      {} = {:#x} (host {:#x}): skipped, in the hardware already",
                words.msr(event.slot),
                event.curr,
                event.host
            )
        }
        event::SET_FAILED => {
            format!("set      {}: the last set failed, its WRMSR of {:#x} faulted", words.msr(event.slot), event.value)
        }
        event::EXIT => {
            let dirty = words.dirty(event.dirty);
            let deferred =
                if dirty.is_empty() { "nothing to restore".to_owned() } else { format!("put off: {}", dirty.join(", ")) };
            format!("exit     {}; {deferred}", reason_text(event, words))
        }
        event::USERSPACE_EXIT => {
            format!("to VMM   {}", labels::cause_reason(cause(event)).unwrap_or_else(|| "?".to_owned()))
        }
        event::CLOSE => {
            let age = match event.window {
                0 => "opened before the trace began".to_owned(),
                age => format!("open for {:.1?}", Duration::from_nanos(age)),
            };
            let exits = if event.window == 0 { String::new() } else { format!(", {}", counted(event.exits, "exit")) };
            let clean = if event.dirty == 0 { ", nothing to restore" } else { "" };
            let payer = labels::payer_cell(&words.payer(event), &words.vms);
            format!("close    {}, paid by {payer}; {age}{exits}{clean}", labels::cause_cell(cause(event)))
        }
        event::RESTORE => format!("         restores {}", change()),
        kind => format!("unknown event {kind}"),
    }
}
