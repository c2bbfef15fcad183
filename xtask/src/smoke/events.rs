//! What a test program tells while it runs: libtest's JSON, an object on each line.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use serde::Deserialize;

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) test: String,
    pub(super) passed: bool,
    /// What it printed.
    pub(super) output: String,
    /// On this machine's clock: that of an emulated host means nothing.
    pub(super) took: Duration,
}

#[derive(Deserialize)]
struct Event {
    r#type: String,
    event: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    stdout: String,
}

/// Takes what the program prints, and hands on each outcome as soon as it is known.
pub(super) struct Events<F: FnMut(Outcome)> {
    line: Vec<u8>,
    /// When the test that runs has begun.
    began: Instant,
    /// Lines that are no events: the program's own words.
    pub(super) words: String,
    tell: F,
}

impl<F: FnMut(Outcome)> Events<F> {
    pub(super) fn new(tell: F) -> Self {
        Self { line: Vec::new(), began: Instant::now(), words: String::new(), tell }
    }

    fn take(&mut self, line: &str) {
        let Ok(Event { r#type, event, name, stdout }) = serde_json::from_str(line) else {
            self.words += line;
            self.words.push('\n');
            return;
        };
        match (r#type.as_str(), event.as_str()) {
            ("test", "started") => self.began = Instant::now(),
            ("test", event) => {
                (self.tell)(Outcome { test: name, passed: event == "ok", output: stdout, took: self.began.elapsed() });
            }
            _ => {}
        }
    }
}

impl<F: FnMut(Outcome)> Write for Events<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
                self.take(line.trim_end());
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_told_whole_however_the_bytes_arrive() {
        let text = br#"{ "type": "suite", "event": "started", "test_count": 2 }
{ "type": "test", "event": "started", "name": "a::b" }
{ "type": "test", "name": "a::b", "event": "ok", "stdout": "12 exits\n" }
oh
{ "type": "test", "event": "started", "name": "a::c" }
{ "type": "test", "name": "a::c", "event": "failed", "stdout": "panicked" }
{ "type": "suite", "event": "failed", "passed": 1, "failed": 1 }
"#;
        for step in [1, 7, text.len()] {
            let mut told = Vec::new();
            let mut events = Events::new(|outcome| told.push(outcome));
            for part in text.chunks(step) {
                events.write_all(part).unwrap();
            }
            assert_eq!(events.words, "oh\n");
            let told: Vec<_> = told.iter().map(|one| (one.test.as_str(), one.passed, one.output.as_str())).collect();
            assert_eq!(told, [("a::b", true, "12 exits\n"), ("a::c", false, "panicked")]);
        }
    }
}
