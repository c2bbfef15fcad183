//! Lines for people on standard error.

use std::{
    fmt,
    io::{self, Write as _},
};

/// Writes a line. Nobody reading it, or a full disk behind it, is no reason to end a measurement (`eprintln!` would panic).
pub fn notice(line: fmt::Arguments<'_>) {
    drop(writeln!(io::stderr(), "{line}"));
}
