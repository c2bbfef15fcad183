//! What must hold on every CPU (the program checks itself in every report).

use super::cpu::CpuLedger;
use crate::kernel::tables::Slot;

/// The invariants that do not hold on this CPU, each in a sentence.
pub(super) fn violations(cpu: &CpuLedger, list: &[Slot]) -> Vec<String> {
    let mut violations = Vec::new();
    let number = cpu.cpu;
    let events = &cpu.events;
    let open = (events.windows_open_at_start + events.windows_opened).checked_sub(events.windows_closed);
    if open != Some(events.windows_open_at_end) || events.windows_open_at_end > 1 {
        violations.push(format!(
            "CPU {number}: {} windows open at start + {} opened - {} closed is not the {} open at the end",
            events.windows_open_at_start, events.windows_opened, events.windows_closed, events.windows_open_at_end
        ));
    }
    if events.clean_closes > events.windows_closed {
        violations.push(format!("CPU {number}: {} clean closes of {} closes", events.clean_closes, events.windows_closed));
    }
    for (slot, row) in list.iter().zip(&cpu.slots) {
        let name = &slot.name;
        let into = u64::from(row.dirty_at_start) + row.made_dirty;
        let out = row.counts.performed + row.made_clean + u64::from(row.dirty_at_end);
        if into != out {
            violations.push(format!(
                "CPU {number}, {name}: it became dirty {into} times (at start included), and {out} times clean again or \
                 still dirty at the end"
            ));
        }
        if row.counts.deferred > events.exits {
            violations.push(format!("CPU {number}, {name}: {} deferred of {} exits", row.counts.deferred, events.exits));
        }
        if row.made_dirty + row.made_clean > row.counts.set_written {
            violations.push(format!("CPU {number}, {name}: more changes than the {} writes", row.counts.set_written));
        }
        if row.counts.performed > events.windows_closed {
            violations
                .push(format!("CPU {number}, {name}: {} performed in {} closes", row.counts.performed, events.windows_closed));
        }
    }
    violations
}
