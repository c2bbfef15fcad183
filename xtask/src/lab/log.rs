//! The kernel's messages of each run, kept in `target/lab/logs`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use super::Host;
use crate::workspace;

/// How many logs stay.
const KEPT: usize = 40;
/// How many lines of a log are worth showing.
const SHOWN: usize = 20;

/// An empty log for a run, in place of the oldest one.
pub(super) fn create(host: Host, kernel: &str) -> Result<PathBuf> {
    /// Several runs of one process may go on at once.
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let folder = workspace::lab().join("logs");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    prune(&folder);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let log = folder.join(format!("{}-{kernel}-{}-{run}.log", host.name(), process::id()));
    File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
    Ok(log)
}

/// Removes all but the newest logs. What cannot be removed stays: it is only wasted space.
fn prune(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut logs: Vec<_> =
        entries.flatten().filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).collect();
    logs.sort();
    for (_, log) in logs.iter().rev().skip(KEPT) {
        let _ = fs::remove_file(log);
    }
}

/// The last lines of a log; empty if it cannot be read.
pub(super) fn tail(log: &Path) -> String {
    last_lines(&text(log), SHOWN)
}

/// What the kernel said when it panicked, if it did.
pub(super) fn panic(log: &Path) -> Option<String> {
    panic_message(&text(log))
}

fn text(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn panic_message(text: &str) -> Option<String> {
    let (_, message) = text.lines().find_map(|line| line.split_once("Kernel panic - not syncing: "))?;
    Some(message.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_come_without_carriage_returns_and_blanks() {
        assert_eq!(last_lines("a\r\nb\r\n\r\nc\r\n", 2), "b\nc");
        assert_eq!(last_lines("a", 2), "a");
        assert_eq!(last_lines("", 2), "");
    }

    #[test]
    fn the_reason_of_a_panic_is_found() {
        let log = "[ 1.0] x\r\n[ 2.0] Kernel panic - not syncing: sysrq triggered crash\r\n[ 2.1] CPU: 0\r\n";
        assert_eq!(panic_message(log).as_deref(), Some("sysrq triggered crash"));
        assert_eq!(panic_message("all is well"), None);
    }
}
