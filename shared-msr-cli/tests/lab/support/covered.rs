//! A file of the host that reads otherwise for a while.

use std::{fs, process::Command};

use shared_msr::probe::refuse;
use tempfile::NamedTempFile;

use super::Refused;

/// Another content is mounted over a file in /proc or /sys. It is taken away when the value is dropped.
pub(crate) struct Covered {
    file: &'static str,
    /// What does not ask the file, and would see through it.
    _refused: Option<Refused>,
    _content: NamedTempFile,
}

impl Covered {
    /// Covers a file.
    pub(crate) fn with(file: &'static str, content: &str) -> Self {
        let covering = NamedTempFile::new().unwrap();
        fs::write(covering.path(), content).unwrap();
        let mounted = Command::new("mount").arg("--bind").arg(covering.path()).arg(file).status().unwrap();
        assert!(mounted.success(), "cannot mount over {file}");
        let refused = (file == "/proc/kallsyms").then(|| Refused::way(refuse::LOOKUP));
        Self { file, _refused: refused, _content: covering }
    }

    /// Takes a function or variable out of the kernel's list of symbols.
    pub(crate) fn without_symbol(symbol: &str) -> Self {
        let symbols = fs::read_to_string("/proc/kallsyms").unwrap();
        let others: Vec<&str> = symbols.lines().filter(|line| !line.contains(symbol)).collect();
        assert!(others.len() < symbols.lines().count(), "there is no {symbol} that could be hidden");
        Self::with("/proc/kallsyms", &(others.join("\n") + "\n"))
    }
}

impl Drop for Covered {
    fn drop(&mut self) {
        match Command::new("umount").arg(self.file).status() {
            Ok(status) if status.success() => {}
            other => eprintln!("cannot uncover {}: {other:?}", self.file),
        }
    }
}
