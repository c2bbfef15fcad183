//! Whether this kernel has kprobes, and whether they fire.

use std::{fs, path::Path};

use crate::obstacle::Obstacle;

/// Any one of these is enough to attach a kprobe: perf's (since 4.17), or tracefs where it is mounted.
const INTERFACES: [&str; 3] =
    ["/sys/bus/event_source/devices/kprobe", "/sys/kernel/tracing/kprobe_events", "/sys/kernel/debug/tracing/kprobe_events"];

/// Switches with which an administrator turns kprobes off while they stay attached: they would never fire, and a
/// measurement would be silently empty. The file, and what to do when it holds 0.
const SWITCHES: [(&str, &str); 2] = [
    // kernel/kprobes.c; there only where debugfs is mounted.
    ("/sys/kernel/debug/kprobes/enabled", "echo 1 > /sys/kernel/debug/kprobes/enabled"),
    // kernel/trace/ftrace.c; a kprobe at a function's entry uses ftrace.
    ("/proc/sys/kernel/ftrace_enabled", "sysctl kernel.ftrace_enabled=1"),
];

/// Whether there are kprobes, and whether they fire, as far as the switches that can be read tell.
pub fn check() -> Result<String, Obstacle> {
    if !INTERFACES.iter().any(|interface| Path::new(interface).exists()) {
        return Err(Obstacle::new(
            "this kernel has no kprobes, so KVM's functions cannot be observed",
            "use a kernel with CONFIG_KPROBES and CONFIG_KPROBE_EVENTS (every distribution's)",
        ));
    }
    judge(|file| fs::read_to_string(file).ok())
}

fn judge(read: impl Fn(&str) -> Option<String>) -> Result<String, Obstacle> {
    let mut unknown = Vec::new();
    for (file, cure) in SWITCHES {
        match read(file).as_deref().map(str::trim) {
            Some("0") => {
                return Err(Obstacle::new(
                    format!("kprobes are switched off on this host ({file} is 0), so nothing would be seen"),
                    format!("switch them on: {cure}"),
                ));
            }
            Some(_) => {}
            None => unknown.push(file),
        }
    }
    Ok(match unknown.as_slice() {
        [] => "kprobes are switched on".to_owned(),
        files => format!("not known to be off ({} cannot be read)", files.join(" and ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_switch_is_an_obstacle_with_its_own_cure() {
        for (off, cure) in SWITCHES {
            let obstacle = judge(|file| Some(if file == off { "0\n" } else { "1\n" }.to_owned())).unwrap_err();
            assert!(obstacle.problem.contains(off) && obstacle.cure.contains(cure), "{obstacle}");
        }
        assert_eq!(judge(|_| Some("1\n".to_owned())).unwrap(), "kprobes are switched on");
    }

    #[test]
    fn what_cannot_be_read_is_said_to_be_unknown() {
        assert!(judge(|_| None).unwrap().contains("cannot be read"));
    }
}
