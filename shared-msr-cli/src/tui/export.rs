//! Writes what is shown to a file.

use std::{
    io::ErrorKind,
    path::Path,
    time::{Duration, SystemTime},
};

use super::source::Facts;
use crate::{
    ledger::Ledger,
    output_file,
    report::{Report, by::Choice, filter::Filter, json},
};

/// So many files may have the name of one second.
const MOST: u32 = 100;

/// Writes a ledger as JSON to a new file in `folder`, named by the time in UTC; says where, or why not.
pub(super) fn write(facts: &Facts, ledger: &Ledger, at: Duration, folder: &Path, now: SystemTime) -> Result<String, String> {
    let report = Report {
        host: &facts.host,
        vendor: facts.vendor,
        hooks: &facts.hooks,
        refused: &facts.refused,
        list_known: facts.list_known,
        ledger,
        at,
        filter: &Filter::default(),
        choice: &Choice::default(),
    };
    let text = json::render(&report).map_err(|error| format!("cannot write JSON: {error}"))?;
    let time: String = humantime::format_rfc3339_seconds(now).to_string().replace([':', '-'], "").replace('T', "-");
    let time = time.trim_end_matches('Z');
    let names = (1..MOST).map(|number| match number {
        1 => format!("shared-msr-{time}.json"),
        _ => format!("shared-msr-{time}-{number}.json"),
    });
    for name in names {
        let path = folder.join(name);
        // Nothing that is there already is overwritten.
        match output_file::write_new(&path, &text) {
            Ok(()) => return Ok(path.display().to_string()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(format!("cannot write {}: {error}; see --export-dir", path.display())),
        }
    }
    Err(format!("{} has too many exports of this second; wait for the next one", folder.display()))
}
