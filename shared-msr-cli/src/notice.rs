//! Lines for people on standard error.

use std::{
    fmt,
    io::{self, Write as _},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

use tokio::sync::oneshot;

/// So many lines wait to be written.
const MOST_WAITING: usize = 256;

/// Where lines go while [`Apart`] lives.
static LINES: Mutex<Option<SyncSender<String>>> = Mutex::new(None);
/// How many lines found no room there.
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// Writes a line. Nobody reading it, or a full disk behind it, is no reason to end a measurement (`eprintln!` would panic).
pub fn notice(line: fmt::Arguments<'_>) {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    match lines.as_ref() {
        Some(lines) => {
            if lines.try_send(line.to_string()).is_err() {
                LEFT_OUT.fetch_add(1, Ordering::Relaxed);
            }
        }
        None => {
            drop(lines);
            write(line);
        }
    }
}

fn write(line: fmt::Arguments<'_>) {
    drop(writeln!(io::stderr(), "{line}"));
}

/// While this lives, lines are written by a thread of their own, so that a standard error that takes none holds nobody up.
pub struct Apart {
    written: oneshot::Receiver<()>,
}

impl Apart {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// When there can be no more threads.
    pub fn begin() -> io::Result<Self> {
        let (to, lines) = sync_channel::<String>(MOST_WAITING);
        let (ended, written) = oneshot::channel();
        let work = move || {
            lines.iter().for_each(|line| write(format_args!("{line}")));
            match LEFT_OUT.swap(0, Ordering::Relaxed) {
                0 => {}
                lines => write(format_args!("shared-msr: {lines} lines are missing here: standard error took none")),
            }
            // Nobody may be waiting any more.
            let _ = ended.send(());
        };
        thread::Builder::new().name("notices".to_owned()).spawn(work)?;
        *LINES.lock().unwrap_or_else(PoisonError::into_inner) = Some(to);
        Ok(Self { written })
    }

    /// Waits until all lines are written.
    pub async fn end(mut self) {
        LINES.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Fails when the thread has ended in another way.
        let _ = (&mut self.written).await;
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        LINES.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
