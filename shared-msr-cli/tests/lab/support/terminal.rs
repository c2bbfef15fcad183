//! A terminal of its own for a full-screen program: what a person would see and press.

use std::{
    ffi::CStr,
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    mem::zeroed,
    num::NonZero,
    os::fd::{AsRawFd as _, FromRawFd as _},
    os::unix::{fs::OpenOptionsExt as _, process::CommandExt as _},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use super::{host::comes_true, wait_until};

const COLUMNS: NonZero<u16> = NonZero::new(120).unwrap();
const ROWS: NonZero<u16> = NonZero::new(40).unwrap();

/// A pseudo-terminal, and what it shows.
pub(crate) struct Terminal {
    master: File,
    slave: File,
    screen: Arc<Mutex<vt100::Parser>>,
}

/// A program on a terminal. It is killed when the value is dropped.
pub(crate) struct OnTerminal {
    child: Child,
}

impl Terminal {
    pub(crate) fn open() -> Self {
        // SAFETY: this call takes a number only.
        let master = unsafe { libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) };
        assert!(master >= 0, "cannot open a terminal");
        // SAFETY: it was just opened, so it is nobody else's.
        let master = unsafe { File::from_raw_fd(master) };
        // SAFETY: it is open.
        assert_eq!(unsafe { libc::unlockpt(master.as_raw_fd()) }, 0);
        let mut name = [0; 64];
        // SAFETY: `name` has so many bytes.
        assert_eq!(unsafe { libc::ptsname_r(master.as_raw_fd(), name.as_mut_ptr(), name.len()) }, 0, "is /dev/pts mounted?");
        // SAFETY: the call above has put a string there.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_str().unwrap().to_owned();
        // Else it would become this process's own.
        let slave = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(&name).unwrap();
        let size = libc::winsize { ws_row: ROWS.get(), ws_col: COLUMNS.get(), ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: `size` is what this request reads.
        assert_eq!(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }, 0);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(ROWS, COLUMNS, 0)));
        let (mut from, shown) = (master.try_clone().unwrap(), Arc::clone(&screen));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut bytes) {
                shown.lock().unwrap().process(&bytes[..length]);
            }
        });
        Self { master, slave, screen }
    }

    /// Starts a program that has this terminal and no other.
    pub(crate) fn run(&self, command: &mut Command) -> OnTerminal {
        let side = || Stdio::from(self.slave.try_clone().unwrap());
        command.stdin(side()).stdout(side()).stderr(side()).env("TERM", "xterm-256color");
        let enter = || {
            // SAFETY: between fork and exec only system calls are made.
            unsafe { libc::setsid() };
            // SAFETY: standard input is the terminal.
            unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) };
            Ok(())
        };
        // SAFETY: `enter` makes system calls only.
        unsafe { command.pre_exec(enter) };
        OnTerminal { child: command.spawn().unwrap() }
    }

    /// Presses keys, as the bytes that a terminal sends for them.
    pub(crate) fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// What it shows.
    pub(crate) fn shown(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// Waits until it shows something, and gives the whole picture.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, is_there: impl Fn(&str) -> bool) -> String {
        let mut shown = String::new();
        let came = comes_true(|| {
            shown = self.shown();
            is_there(&shown)
        });
        assert!(came, "{what} is not there:\n{shown}");
        shown
    }

    /// Hangs up, as when its window is closed.
    pub(crate) fn hang_up(&self) {
        // SAFETY: this request takes no argument.
        assert_eq!(unsafe { libc::ioctl(self.slave.as_raw_fd(), libc::TIOCVHANGUP) }, 0);
    }

    /// Its settings: the flags and the control characters.
    pub(crate) fn settings(&self) -> (u32, u32, u32, u32, [u8; libc::NCCS]) {
        // SAFETY: all zeros is a valid `termios`.
        let mut settings: libc::termios = unsafe { zeroed() };
        // SAFETY: `settings` is a place for one.
        assert_eq!(unsafe { libc::tcgetattr(self.slave.as_raw_fd(), &raw mut settings) }, 0);
        (settings.c_iflag, settings.c_oflag, settings.c_cflag, settings.c_lflag, settings.c_cc)
    }

    /// The picture of a full-screen program is left, and the cursor is there again.
    pub(crate) fn is_left(&self) -> bool {
        let screen = self.screen.lock().unwrap();
        !screen.screen().alternate_screen() && !screen.screen().hide_cursor()
    }
}

impl OnTerminal {
    /// Waits for its end, and gives its exit status.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let mut status = None;
        wait_until("the program on the terminal ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code())
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
