//! A pseudo-terminal between an emulator and a file.
//!
//! Bochs writes a serial port to a file through a buffer of 4096 bytes, which goes nowhere before it is full. To a terminal the C
//! library writes every line when it is complete. Bochs waits when the terminal is full, so nothing is lost.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A terminal whose output is copied to a file.
#[derive(Debug)]
pub(super) struct Terminal {
    /// Our side.
    master: File,
    /// The other side, open for as long as its settings must stay.
    _slave: File,
    path: PathBuf,
    to: File,
}

impl Terminal {
    /// A terminal that changes no byte.
    pub(super) fn new(to: &Path) -> io::Result<Self> {
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC | libc::O_NONBLOCK;
        // SAFETY: this call takes a number only.
        let descriptor = checked(unsafe { libc::posix_openpt(flags) })?;
        // SAFETY: the call above has just opened it, so it is nobody else's.
        let master = File::from(unsafe { OwnedFd::from_raw_fd(descriptor) });
        // SAFETY: the descriptor is open.
        checked(unsafe { libc::unlockpt(master.as_raw_fd()) })?;
        let path = name(&master)?;
        let slave = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(&path)?;
        make_raw(&slave)?;
        Ok(Self { master, _slave: slave, path, to: OpenOptions::new().append(true).open(to)? })
    }

    /// What to open in order to write to it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Copies to the file what has been written to the terminal by now.
    pub(super) fn copy(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match self.master.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => self.to.write_all(&buffer[..length])?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The path of the other side.
fn name(master: &File) -> io::Result<PathBuf> {
    let mut name = [0_u8; 64];
    // SAFETY: the call writes no more than the length given, which is that of the array.
    let result = unsafe { libc::ptsname_r(master.as_raw_fd(), name.as_mut_ptr().cast(), name.len()) };
    if result != 0 {
        return Err(io::Error::from_raw_os_error(result));
    }
    let name = CStr::from_bytes_until_nul(&name).map_err(io::Error::other)?;
    name.to_str().map(PathBuf::from).map_err(io::Error::other)
}

/// No byte is changed, answered or acted upon.
fn make_raw(terminal: &File) -> io::Result<()> {
    let mut settings = MaybeUninit::<libc::termios>::uninit();
    // SAFETY: the descriptor is open and the pointer is that of our own variable.
    checked(unsafe { libc::tcgetattr(terminal.as_raw_fd(), settings.as_mut_ptr()) })?;
    // SAFETY: the call above has filled it.
    let mut settings = unsafe { settings.assume_init() };
    // SAFETY: the pointer is that of our own variable.
    unsafe { libc::cfmakeraw(&raw mut settings) };
    // SAFETY: the descriptor is open and the pointer is that of our own variable.
    checked(unsafe { libc::tcsetattr(terminal.as_raw_fd(), libc::TCSANOW, &raw const settings) })?;
    Ok(())
}

/// The result of a system call, or its error.
fn checked(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::thread;

    #[test]
    fn every_byte_arrives_as_it_was_written_however_many() {
        let target = tempfile::NamedTempFile::new().unwrap();
        let mut terminal = Terminal::new(target.path()).unwrap();
        let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let (path, sent) = (terminal.path().to_owned(), bytes.clone());
        let writer = thread::spawn(move || fs::write(path, sent).unwrap());
        while !writer.is_finished() {
            terminal.copy().unwrap();
        }
        terminal.copy().unwrap();
        assert_eq!(fs::read(target.path()).unwrap(), bytes);
    }
}
