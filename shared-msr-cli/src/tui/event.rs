//! What can happen to the live view, and what it wants done.

use std::{sync::Arc, time::Duration};

use ratatui::crossterm::event::KeyEvent;

use super::source::Sample;
use crate::ledger::Ledger;

/// Something happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A key was pressed.
    Key(KeyEvent),
    /// The terminal has this size now.
    Resize(u16, u16),
    /// There is a new sample.
    Sample(Arc<Sample>),
    /// An export is done, to this file; or failed.
    Exported(Result<String, String>),
    /// There will be no more samples, because of this.
    Failed(String),
    /// A signal ends the program.
    Quit,
}

/// Something is to be done. The state machine itself touches nothing.
#[derive(Clone, Debug)]
pub enum Effect {
    /// End the program.
    Quit,
    /// End the program with this error.
    Fail(String),
    /// Write this ledger to a file; its counters were read so long after counting began.
    Export(Arc<Ledger>, Duration),
    /// Take samples this far apart.
    SetInterval(Duration),
    /// Draw everything again, whatever the terminal shows.
    Redraw,
    /// Give the terminal back and stop, until the shell continues us.
    Suspend,
}
