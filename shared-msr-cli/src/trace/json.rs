//! Events as JSON, one object on each line.

use serde_json::{Map, Value, json};
use shared_msr_common::event::{self, Event};

use super::{Words, cause, reason};
use crate::{
    report::{json::SCHEMA, labels},
    sample::owners::{tgid, tid},
};

/// One line.
pub fn line(event: &Event, words: &Words) -> String {
    let vcpu = words.whose(event);
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| drop(object.insert(key.to_owned(), value));
    put("schema", json!(SCHEMA));
    put("time_ns", json!(event.time.saturating_sub(words.began)));
    put("cpu", json!(event.cpu));
    put("vm", json!(vcpu.map(|vcpu| vcpu.vm.process)));
    put("vm_number", json!(vcpu.and_then(|vcpu| vcpu.vm.number)));
    put("vcpu", vcpu.map_or(Value::Null, |vcpu| vcpu.id.value()));
    put("tid", json!(vcpu.map(|vcpu| tid(vcpu.task))));
    put("event", json!(name(event.kind)));
    match event.kind {
        event::SET_WRITTEN | event::SET_SKIPPED | event::SET_FAILED | event::RESTORE => {
            put("slot", json!(event.slot));
            put("msr", json!(words.msr(event.slot)));
            let before = (event.kind != event::SET_FAILED).then_some((event.curr, event.host));
            put("host", json!(before.map(|(_, host)| host)));
            put("before", json!(before.map(|(before, _)| before)));
            put("after", json!(event.value));
            match event.kind {
                event::SET_WRITTEN => put("outcome", json!("written")),
                event::SET_SKIPPED => put("outcome", json!("skipped")),
                event::SET_FAILED => put("outcome", json!("failed")),
                _ => {}
            }
            if event.kind == event::SET_WRITTEN {
                put("opens", json!(event.window == 1));
            }
        }
        event::EXIT => {
            let reason = reason(event);
            put("isa", json!(words.vendor.isa()));
            put("reason", json!(reason));
            put("name", json!(reason.and_then(|reason| labels::reason_name(words.vendor, reason))));
            put("dirty", json!(words.dirty(event.dirty)));
        }
        event::USERSPACE_EXIT => put("reason", json!(labels::cause_reason(cause(event)))),
        event::CLOSE => {
            put("cause", json!(labels::cause(event.cause)));
            put("reason", json!(labels::cause_reason(cause(event))));
            put("payer", json!({"tgid": tgid(event.task), "command": words.payer(event).command}));
            put("dirty", json!(words.dirty(event.dirty)));
            put("age_ns", json!((event.window != 0).then_some(event.window)));
            put("exits", json!((event.window != 0).then_some(event.exits)));
        }
        _ => {}
    }
    format!("{}\n", Value::Object(object))
}

/// The last line: how many events there were, and how many found no room.
pub fn end(shown: u64, lost: u64) -> String {
    format!("{}\n", json!({"schema": SCHEMA, "event": "end", "shown": shown, "lost": lost}))
}

fn name(kind: u32) -> &'static str {
    match kind {
        event::SET_WRITTEN | event::SET_SKIPPED | event::SET_FAILED => "set",
        event::EXIT => "exit",
        event::USERSPACE_EXIT => "userspace-exit",
        event::CLOSE => "close",
        event::RESTORE => "restore",
        _ => "unknown",
    }
}
