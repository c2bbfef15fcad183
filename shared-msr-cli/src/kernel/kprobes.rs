//! Whether this kernel has kprobes, and whether hooks on functions fire.

use std::{fs, path::Path};

use crate::obstacle::Obstacle;

/// Any one of these is enough to attach a kprobe: perf's (since 4.17), or tracefs where it is mounted.
const INTERFACES: [&str; 3] =
    ["/sys/bus/event_source/devices/kprobe", "/sys/kernel/tracing/kprobe_events", "/sys/kernel/debug/tracing/kprobe_events"];

/// A switch with which an administrator turns hooks off while they stay attached: they would never fire, and a measurement
/// would be silently empty.
struct Switch {
    /// Holds 0 when it is off.
    file: &'static str,
    /// What to do then.
    cure: &'static str,
}

/// kernel/kprobes.c; there only where debugfs is mounted.
const KPROBES: Switch = Switch { file: "/sys/kernel/debug/kprobes/enabled", cure: "echo 1 > /sys/kernel/debug/kprobes/enabled" };
/// kernel/trace/ftrace.c. A kprobe at a function's entry uses ftrace, and so does fentry.
const FTRACE: Switch = Switch { file: "/proc/sys/kernel/ftrace_enabled", cure: "sysctl kernel.ftrace_enabled=1" };

/// Whether there are kprobes, and whether they fire, as far as the switches that can be read tell.
pub fn check() -> Result<String, Obstacle> {
    if !INTERFACES.iter().any(|interface| Path::new(interface).exists()) {
        return Err(Obstacle::new(
            "this kernel has no kprobes",
            "use a kernel with CONFIG_KPROBES and CONFIG_KPROBE_EVENTS (every distribution's)",
        ));
    }
    judge("kprobes", &[KPROBES, FTRACE], |file| fs::read_to_string(file).ok())
}

/// Whether a function's entry can be hooked through ftrace.
pub fn check_ftrace() -> Result<String, Obstacle> {
    judge("function hooks", &[FTRACE], |file| fs::read_to_string(file).ok())
}

fn judge(what: &str, switches: &[Switch], read: impl Fn(&str) -> Option<String>) -> Result<String, Obstacle> {
    let mut unknown = Vec::new();
    for Switch { file, cure } in switches {
        match read(file).as_deref().map(str::trim) {
            Some("0") => {
                return Err(Obstacle::new(
                    format!("{what} are switched off on this host ({file} is 0), so nothing would be seen"),
                    format!("switch them on: {cure}"),
                ));
            }
            Some(_) => {}
            None => unknown.push(*file),
        }
    }
    Ok(match unknown.as_slice() {
        [] => format!("{what} are switched on"),
        files => format!("not known to be off ({} cannot be read)", files.join(" and ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_switch_is_an_obstacle_with_its_own_cure() {
        for off in [KPROBES, FTRACE] {
            let read = |file: &str| Some(if file == off.file { "0\n" } else { "1\n" }.to_owned());
            let obstacle = judge("kprobes", &[KPROBES, FTRACE], read).unwrap_err();
            assert!(obstacle.problem.contains(off.file) && obstacle.cure.contains(off.cure), "{obstacle}");
        }
        assert_eq!(judge("kprobes", &[KPROBES], |_| Some("1\n".to_owned())).unwrap(), "kprobes are switched on");
    }

    #[test]
    fn what_cannot_be_read_is_said_to_be_unknown() {
        assert!(judge("kprobes", &[FTRACE], |_| None).unwrap().contains("cannot be read"));
    }
}
