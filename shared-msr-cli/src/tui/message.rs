//! What the threads around the view tell it.

use super::event::Event;

/// One message.
#[derive(Debug)]
pub enum Message {
    /// Something for the state machine.
    Event(Event),
    /// There is a new sample to fetch.
    Sampled,
    /// The terminal is to be given back for a while: Ctrl-Z of another terminal.
    Suspend,
    /// The program goes on after it was stopped.
    Continue,
}
