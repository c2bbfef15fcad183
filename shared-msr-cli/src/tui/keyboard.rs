//! Keys and sizes, from a thread that waits for them.

use std::{sync::mpsc::Sender, thread};

use anyhow::Context as _;
use ratatui::crossterm::event::{self, Event as TerminalEvent};

use super::{event::Event, message::Message};

/// Starts the thread. It ends with the process.
pub(super) fn listen(to: Sender<Message>) -> anyhow::Result<()> {
    let work = move || {
        loop {
            let event = match event::read() {
                Ok(TerminalEvent::Key(key)) => Event::Key(key),
                Ok(TerminalEvent::Resize(columns, rows)) => Event::Resize(columns, rows),
                Ok(_) => continue,
                Err(error) => {
                    let why = format!("the terminal cannot be read ({error}); use `shared-msr report` without one");
                    drop(to.send(Message::Event(Event::Failed(why))));
                    return;
                }
            };
            if to.send(Message::Event(event)).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("keyboard".to_owned()).spawn(work).context("cannot start a thread")?;
    Ok(())
}
