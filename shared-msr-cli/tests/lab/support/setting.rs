//! A setting of the host that a test changes.

use std::fs;

/// A file in /proc/sys, /sys or the like. It gets its content back when the value is dropped.
pub(crate) struct Setting {
    file: String,
    before: String,
}

impl Setting {
    /// Writes to it.
    pub(crate) fn new(file: &str, value: &str) -> Self {
        let before = fs::read_to_string(file).unwrap_or_else(|error| panic!("cannot read {file}: {error}"));
        let setting = Self { file: file.to_owned(), before };
        setting.set(value);
        setting
    }

    /// Writes to it once more.
    pub(crate) fn set(&self, value: &str) {
        fs::write(&self.file, value).unwrap_or_else(|error| panic!("cannot write {value} to {}: {error}", self.file));
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.file, &self.before) {
            eprintln!("cannot put {} back: {error}", self.file);
        }
    }
}
