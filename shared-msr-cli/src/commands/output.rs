//! Where a report goes.

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::notice::notice;

/// Standard output, or a file that can be written: opened before a measurement, so that none is lost for a slip of the pen.
pub(super) enum Output {
    Standard,
    /// The file, its name, and whether something was written to it already.
    File(File, PathBuf, bool),
}

impl Output {
    /// Opens the file, if one is given. Its content stays until there is a report to replace it.
    pub(super) fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self::Standard) };
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self::File(file, path.to_owned(), false))
    }

    pub(super) const fn is_file(&self) -> bool {
        matches!(self, Self::File(..))
    }

    /// Writes a report, or another part of it. When that fails it goes to standard error: the measurement cannot be repeated.
    pub(super) fn write(&mut self, text: &str) -> anyhow::Result<()> {
        let (written, name) = match self {
            Self::Standard => (write(&mut io::stdout(), text), "standard output".to_owned()),
            Self::File(file, path, begun) => {
                let written = if std::mem::replace(begun, true) { write(file, text) } else { replace(file, text) };
                (written, path.display().to_string())
            }
        };
        if written.is_err() {
            notice(format_args!("{}", text.trim_end()));
        }
        written.with_context(|| format!("cannot write to {name}, so the report is on standard error"))
    }
}

fn write(target: &mut impl io::Write, text: &str) -> io::Result<()> {
    target.write_all(text.as_bytes())?;
    target.flush()
}

fn replace(file: &mut File, text: &str) -> io::Result<()> {
    // Devices and pipes have no length.
    if file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    write(file, text)
}
