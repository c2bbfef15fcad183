//! How often a file was looked at.

use std::{
    ffi::CString,
    fs::File,
    io::{ErrorKind, Read as _},
    os::fd::FromRawFd as _,
};

/// Tells each time that somebody closes a file, also one in /proc or /sys, after reading it.
pub(crate) struct Looks {
    file: String,
    events: File,
}

impl Looks {
    /// Tells it from now on.
    pub(crate) fn at(file: &str) -> Self {
        // SAFETY: takes a number only and touches no memory.
        let descriptor = unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) };
        assert!(descriptor >= 0, "no inotify");
        // SAFETY: the descriptor was opened just now and is nobody else's.
        let events = unsafe { File::from_raw_fd(descriptor) };
        let path = CString::new(file).unwrap();
        // SAFETY: the path is a string that ends in NUL and outlives the call.
        let watch = unsafe { libc::inotify_add_watch(descriptor, path.as_ptr(), libc::IN_CLOSE_NOWRITE) };
        assert!(watch >= 0, "cannot watch {file}");
        Self { file: file.to_owned(), events }
    }

    /// Whether there was one since the last call.
    pub(crate) fn any(&mut self) -> bool {
        let mut any = false;
        loop {
            match self.events.read(&mut [0; 4096]) {
                Ok(length) => any |= length > 0,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return any,
                Err(error) => panic!("cannot watch {}: {error}", self.file),
            }
        }
    }
}
