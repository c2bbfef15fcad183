//! Where a report or a trace goes. It is written by a thread of its own, so that a reader that does not read, or a disk that
//! hangs, never keeps a measurement from ending.

use std::{
    io::{self, Write as _},
    path::Path,
    thread,
};

use anyhow::{Context as _, anyhow};
use tokio::sync::{
    mpsc::{self, Permit},
    watch,
};

use crate::{notice::notice, output_file::OutputFile};

/// So many pieces wait while another one is being written. Whoever makes pieces waits for room, so more would only be older.
const WAITING: usize = 1;

/// Standard output, or a file.
pub(super) enum Destination {
    /// Standard output.
    Standard,
    /// A file, and its name.
    File(OutputFile, String),
}

impl Destination {
    /// Opens the file, if one is given: before a measurement, so that none is lost for a slip of the pen.
    pub(super) fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self::Standard) };
        let file = OutputFile::open(path).map_err(|why| anyhow!(why))?;
        Ok(Self::File(file, path.display().to_string()))
    }

    pub(super) const fn is_file(&self) -> bool {
        matches!(self, Self::File(..))
    }

    fn name(&self) -> &str {
        match self {
            Self::Standard => "standard output",
            Self::File(_, name) => name,
        }
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        match self {
            Self::Standard => {
                let mut output = io::stdout().lock();
                output.write_all(text.as_bytes())?;
                output.flush()
            }
            Self::File(file, _) => file.write(text),
        }
    }
}

/// What becomes of text that cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Otherwise {
    /// It goes to standard error: a measurement cannot be repeated.
    StandardError,
    /// It is left out: there is much of it, and more where it came from.
    Nowhere,
}

/// The way to the thread that writes.
pub(super) struct Output {
    pieces: mpsc::Sender<String>,
    /// Why something could not be written. Closed when all is done.
    failure: watch::Receiver<Option<String>>,
}

impl Output {
    /// Starts the thread.
    pub(super) fn start(to: Destination, otherwise: Otherwise) -> anyhow::Result<Self> {
        let (pieces, waiting) = mpsc::channel(WAITING);
        let (failed, failure) = watch::channel(None);
        let work = move || write_all(to, otherwise, waiting, &failed);
        thread::Builder::new().name("output".to_owned()).spawn(work).context("cannot start a thread")?;
        Ok(Self { pieces, failure })
    }

    /// Waits until there is room for a piece.
    pub(super) async fn room(&self) -> anyhow::Result<Room<'_>> {
        Ok(Room(self.pieces.reserve().await.context("the thread that writes has ended; please report this")?))
    }

    /// Waits until something could not be written, and says why; for ever where all can.
    pub(super) async fn failed(&self) -> anyhow::Error {
        let mut failure = self.failure.clone();
        // The lock on the value is not kept while waiting.
        let why = failure.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        match why {
            Some(why) => anyhow!(why),
            None => std::future::pending().await,
        }
    }

    /// Whether something could not be written.
    pub(super) fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    /// Waits until all is written, or could not be.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        let Self { pieces, mut failure } = self;
        drop(pieces);
        while failure.changed().await.is_ok() {}
        match failure.borrow().as_ref() {
            None => Ok(()),
            Some(why) => Err(anyhow!(why.clone())),
        }
    }
}

/// Room for a piece.
pub(super) struct Room<'a>(Permit<'a, String>);

impl Room<'_> {
    /// Hands a piece on; never waits.
    pub(super) fn write(self, text: String) {
        self.0.send(text);
    }
}

/// The thread's work: writes pieces as they come, until nobody makes any.
fn write_all(
    mut to: Destination,
    otherwise: Otherwise,
    mut pieces: mpsc::Receiver<String>,
    failed: &watch::Sender<Option<String>>,
) {
    while let Some(text) = pieces.blocking_recv() {
        // After a failure nothing more is tried: a report with a gap would look whole.
        let refused = if failed.borrow().is_some() { None } else { to.write(&text).err() };
        let has_failed = refused.is_some() || failed.borrow().is_some();
        if has_failed && otherwise == Otherwise::StandardError {
            notice(format_args!("{}", text.trim_end()));
        }
        if let Some(error) = refused {
            let name = to.name();
            let consequence = match otherwise {
                Otherwise::StandardError => "so the report is on standard error",
                Otherwise::Nowhere => "so the trace has ended",
            };
            failed.send_replace(Some(match error.kind() {
                io::ErrorKind::BrokenPipe => format!("nobody reads {name} any more, {consequence}"),
                _ => format!("cannot write to {name}, {consequence}: {error}"),
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read as _, os::unix::ffi::OsStrExt as _, path::PathBuf, time::Duration};

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(200);

    /// A FIFO with a reader that has not read anything yet.
    fn fifo(folder: &Path) -> (PathBuf, File) {
        let path = folder.join("fifo");
        let name = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: the name is a string that ends.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        // Both ends, so that opening it waits for nobody.
        let reader = File::options().read(true).write(true).open(&path).unwrap();
        (path, reader)
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_takes_the_room_and_gives_it_back() {
        let folder = tempfile::tempdir().unwrap();
        let (path, mut reader) = fifo(folder.path());
        let output = Output::start(Destination::open(Some(&path)).unwrap(), Otherwise::Nowhere).unwrap();
        // More than the kernel keeps for a pipe.
        let piece = "x".repeat(1 << 20);
        let mut pieces = 0;
        while let Ok(room) = timeout(SOON, output.room()).await {
            room.unwrap().write(piece.clone());
            pieces += 1;
        }
        assert_eq!(pieces, 1 + WAITING, "one is being written, and one waits");
        assert!(timeout(SOON, output.failed()).await.is_err());
        let read = thread::spawn(move || {
            let mut bytes = vec![0; pieces << 20];
            reader.read_exact(&mut bytes).unwrap();
            bytes
        });
        timeout(Duration::from_secs(20), output.end()).await.unwrap().unwrap();
        assert!(read.join().unwrap().iter().all(|byte| *byte == b'x'));
    }

    #[tokio::test]
    async fn a_reader_that_has_left_is_told_at_the_next_piece_and_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let (path, reader) = fifo(folder.path());
        let output = Output::start(Destination::open(Some(&path)).unwrap(), Otherwise::Nowhere).unwrap();
        drop(reader);
        output.room().await.unwrap().write("text".to_owned());
        let why = timeout(Duration::from_secs(20), output.failed()).await.unwrap().to_string();
        assert!(why.starts_with("nobody reads ") && why.ends_with("so the trace has ended"), "{why}");
        assert!(output.has_failed());
        output.room().await.unwrap().write("more".to_owned());
        assert_eq!(output.end().await.unwrap_err().to_string(), why);
    }

    #[tokio::test]
    async fn a_full_disk_is_told() {
        let to = Destination::open(Some(Path::new("/dev/full"))).unwrap();
        let output = Output::start(to, Otherwise::StandardError).unwrap();
        output.room().await.unwrap().write("the report of the test of a full disk\n".to_owned());
        let why = output.end().await.unwrap_err().to_string();
        assert!(why.starts_with("cannot write to /dev/full, so the report is on standard error: "), "{why}");
    }
}
