//! The terminal: taken over, and given back as it was.

use std::{
    io::{self, Stdout},
    mem::ManuallyDrop,
    panic,
};

use anyhow::Context as _;
use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::{Hide, Show},
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
    layout::{Position, Rect},
};

use super::{state::State, view};

/// A terminal that was taken over. It is given back when this is dropped, and when anything panics.
pub(super) struct Screen {
    // Never dropped: ratatui would show the cursor, which `restore` does, and print to standard error when that fails. That
    // panics when the terminal has hung up and standard error with it.
    terminal: ManuallyDrop<Terminal<CrosstermBackend<Stdout>>>,
}

impl Screen {
    /// Takes the terminal over.
    pub(super) fn enter() -> anyhow::Result<Self> {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |why| {
            // First, so that the message can be read.
            restore();
            before(why);
        }));
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout())).context("cannot use the terminal")?;
        let mut screen = Self { terminal: ManuallyDrop::new(terminal) };
        screen.take()?;
        Ok(screen)
    }

    fn take(&mut self) -> anyhow::Result<()> {
        enable_raw_mode().context("cannot use the terminal")?;
        execute!(io::stdout(), EnterAlternateScreen, Hide).context("cannot use the terminal")?;
        self.redraw()
    }

    /// Columns and rows.
    pub(super) fn size(&self) -> anyhow::Result<(u16, u16)> {
        let size = self.terminal.size().context("cannot tell the size of the terminal")?;
        Ok((size.width, size.height))
    }

    /// The next drawing draws everything, whatever the terminal shows.
    pub(super) fn redraw(&mut self) -> anyhow::Result<()> {
        // Not `clear`: it asks the terminal where its cursor is, and a serial line or a slow one may never answer.
        let size = self.terminal.size().context("cannot tell the size of the terminal")?;
        self.terminal.resize(Rect::from((Position::ORIGIN, size))).context("cannot draw")
    }

    /// Draws what has changed.
    pub(super) fn draw(&mut self, state: &State) -> anyhow::Result<()> {
        self.terminal.draw(|frame| view::view(state, frame)).context("cannot draw")?;
        Ok(())
    }

    /// Takes the terminal over again, after somebody else had it.
    pub(super) fn again(&mut self) -> anyhow::Result<()> {
        restore_settings();
        self.take()
    }

    /// Gives the terminal back and stops the process, as Ctrl-Z does anywhere else; comes back when it goes on.
    pub(super) fn suspend(&mut self) -> anyhow::Result<()> {
        restore();
        // SAFETY: all zeros is a valid `sigaction`.
        let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: as above; it is the default action.
        let usual: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: both are whole, and none of our handlers is running in this thread.
        unsafe { libc::sigaction(libc::SIGTSTP, &raw const usual, &raw mut before) };
        // The whole job, as the terminal does it: a sudo before us stops as well.
        // SAFETY: this call takes numbers only.
        unsafe { libc::kill(0, libc::SIGTSTP) };
        // SAFETY: `before` is what was there before.
        unsafe { libc::sigaction(libc::SIGTSTP, &raw const before, std::ptr::null_mut()) };
        self.again()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal back. Whatever fails: there is nobody left to tell.
fn restore() {
    drop(execute!(io::stdout(), LeaveAlternateScreen, Show));
    restore_settings();
}

/// Gives its settings back.
fn restore_settings() {
    drop(disable_raw_mode());
}

/// Whether the terminal has hung up: its window was closed, or its connection lost.
pub(super) fn has_hung_up() -> bool {
    ready(0) & (libc::POLLHUP | libc::POLLERR) != 0
}

/// Which of these the terminal is ready for, and whether it has hung up.
fn ready(events: libc::c_short) -> libc::c_short {
    let mut ready = libc::pollfd { fd: libc::STDOUT_FILENO, events, revents: 0 };
    // SAFETY: `ready` is one `pollfd`.
    if unsafe { libc::poll(&raw mut ready, 1, 0) } == 1 { ready.revents } else { 0 }
}

/// Gives the terminal back from another thread than the one that draws, which may hold the lock of standard output for ever
/// because the terminal takes none.
pub(super) fn restore_by_force() {
    restore_settings();
    let mut signs = Vec::new();
    drop(execute!(signs, LeaveAlternateScreen, Show));
    if ready(libc::POLLOUT) & libc::POLLOUT != 0 {
        // SAFETY: `signs` has so many bytes.
        unsafe { libc::write(libc::STDOUT_FILENO, signs.as_ptr().cast(), signs.len()) };
    }
}
