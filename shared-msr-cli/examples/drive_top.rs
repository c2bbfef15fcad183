//! Runs a full-screen program on a terminal of its own, presses keys, and prints what the screen shows: how `shared-msr top` is
//! tested in the lab, where there is neither tmux nor a person.
//!
//!     drive_top COLUMNSxROWS STEP... -- COMMAND...
//!
//! Steps: `wait:SECONDS`, `until:FILE` (until it is there), `key:LETTERS`,
//! `key:enter|escape|tab|left|right|up|down|ctrl-c|ctrl-z`, `size:COLUMNSxROWS`, `shot:TITLE`, `signal:NUMBER`, `hangup` (as when a
//! terminal's window is closed), `end` (wait until the program has ended). After the last step the terminal's settings are compared
//! with those before, unless it has hung up.

use std::{
    env,
    ffi::CStr,
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    mem::zeroed,
    num::NonZero,
    os::fd::{AsRawFd as _, FromRawFd as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let Some(split) = arguments.iter().position(|argument| argument == "--") else {
        bail!("usage: drive_top COLUMNSxROWS STEP... -- COMMAND...")
    };
    let (before, command) = (&arguments[..split], &arguments[split + 1..]);
    let ([size, steps @ ..], [program, rest @ ..]) = (before, command) else { bail!("a size and a command are missing") };
    let mut terminal = Terminal::open(parse_size(size)?)?;
    let settings = terminal.settings()?;
    let mut child = terminal.run(Command::new(program).args(rest))?;
    for step in steps {
        let (verb, object) = step.split_once(':').unwrap_or((step, ""));
        match verb {
            "wait" => thread::sleep(Duration::from_secs_f64(object.parse()?)),
            "until" => until(Path::new(object))?,
            "key" => terminal.master.write_all(key(object))?,
            "size" => terminal.resize(parse_size(object)?)?,
            "shot" => terminal.shot(object),
            "signal" => {
                let (process, number) = (i32::try_from(child.id())?, object.parse()?);
                // SAFETY: this call takes numbers only.
                unsafe { libc::kill(process, number) };
            }
            "hangup" => terminal.hang_up()?,
            "end" => end(&mut child)?,
            _ => bail!("no step {step}"),
        }
    }
    if terminal.hung_up {
        return Ok(());
    }
    let after = terminal.settings()?;
    let same = |one: &libc::termios, other: &libc::termios| {
        (one.c_iflag, one.c_oflag, one.c_cflag, one.c_lflag, one.c_cc)
            == (other.c_iflag, other.c_oflag, other.c_cflag, other.c_lflag, other.c_cc)
    };
    thread::sleep(Duration::from_millis(200));
    let screen = terminal.screen.lock().unwrap_or_else(PoisonError::into_inner);
    println!(
        "=== settings {}, alternate screen {}, cursor {}, bytes written {}",
        if same(&settings, &after) { "as before" } else { "CHANGED" },
        if screen.0.screen().alternate_screen() { "STILL ON" } else { "left" },
        if screen.0.screen().hide_cursor() { "HIDDEN" } else { "shown" },
        screen.1,
    );
    Ok(())
}

/// Waits until a file is there.
fn until(file: &Path) -> anyhow::Result<()> {
    let limit = Instant::now() + Duration::from_secs(120);
    while !file.exists() {
        if Instant::now() > limit {
            bail!("{} has not come", file.display());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Waits until the program has ended, and says how.
fn end(child: &mut Child) -> anyhow::Result<()> {
    let limit = Instant::now() + Duration::from_secs(20);
    while Instant::now() < limit {
        if let Some(status) = child.try_wait()? {
            println!("=== ended: {status}");
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    child.kill()?;
    bail!("it did not end")
}

fn parse_size(text: &str) -> anyhow::Result<(NonZero<u16>, NonZero<u16>)> {
    let (columns, rows) = text.split_once('x').context("a size is COLUMNSxROWS")?;
    Ok((columns.parse()?, rows.parse()?))
}

fn key(name: &str) -> &[u8] {
    match name {
        "enter" => b"\r",
        "escape" => b"\x1b",
        "tab" => b"\t",
        "left" => b"\x1b[D",
        "right" => b"\x1b[C",
        "up" => b"\x1b[A",
        "down" => b"\x1b[B",
        "ctrl-c" => b"\x03",
        "ctrl-z" => b"\x1a",
        letters => letters.as_bytes(),
    }
}

/// A pseudo-terminal, and what it shows.
struct Terminal {
    master: File,
    slave: File,
    /// The screen, and how many bytes were written to it.
    screen: Arc<Mutex<(vt100::Parser, usize)>>,
    hung_up: bool,
}

impl Terminal {
    fn open((columns, rows): (NonZero<u16>, NonZero<u16>)) -> anyhow::Result<Self> {
        // SAFETY: this call takes a number only.
        let master = unsafe { libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) };
        if master < 0 {
            return Err(io::Error::last_os_error()).context("cannot open a terminal");
        }
        // SAFETY: it was just opened, so it is nobody else's.
        let master = unsafe { File::from_raw_fd(master) };
        // SAFETY: it is open.
        unsafe { libc::unlockpt(master.as_raw_fd()) };
        let mut name = [0; 64];
        // SAFETY: `name` has so many bytes.
        if unsafe { libc::ptsname_r(master.as_raw_fd(), name.as_mut_ptr(), name.len()) } != 0 {
            bail!("the terminal has no name; is /dev/pts mounted?");
        }
        // SAFETY: the call above has put a string there.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_str()?.to_owned();
        let slave = OpenOptions::new().read(true).write(true).open(&name).with_context(|| format!("cannot open {name}"))?;
        let screen = Arc::new(Mutex::new((vt100::Parser::new(rows, columns, 0), 0)));
        let (mut from, shown) = (master.try_clone()?, Arc::clone(&screen));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut bytes) {
                let mut screen = shown.lock().unwrap_or_else(PoisonError::into_inner);
                screen.0.process(&bytes[..length]);
                screen.1 += length;
            }
        });
        let mut terminal = Self { master, slave, screen, hung_up: false };
        terminal.resize((columns, rows))?;
        Ok(terminal)
    }

    fn resize(&mut self, (columns, rows): (NonZero<u16>, NonZero<u16>)) -> anyhow::Result<()> {
        let size = libc::winsize { ws_row: rows.get(), ws_col: columns.get(), ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: `size` is what this request reads.
        if unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) } != 0 {
            return Err(io::Error::last_os_error()).context("cannot set the size");
        }
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).0.screen_mut().set_size(rows, columns);
        Ok(())
    }

    fn hang_up(&mut self) -> anyhow::Result<()> {
        // SAFETY: this request takes no argument.
        if unsafe { libc::ioctl(self.slave.as_raw_fd(), libc::TIOCVHANGUP) } != 0 {
            return Err(io::Error::last_os_error()).context("cannot hang up");
        }
        self.hung_up = true;
        Ok(())
    }

    fn settings(&self) -> anyhow::Result<libc::termios> {
        // SAFETY: all zeros is a valid `termios`.
        let mut settings: libc::termios = unsafe { zeroed() };
        // SAFETY: `settings` is a place for one.
        if unsafe { libc::tcgetattr(self.slave.as_raw_fd(), &raw mut settings) } != 0 {
            return Err(io::Error::last_os_error()).context("cannot read the settings");
        }
        Ok(settings)
    }

    fn run(&self, command: &mut Command) -> anyhow::Result<Child> {
        let side = || self.slave.try_clone().map(Stdio::from);
        command.stdin(side()?).stdout(side()?).stderr(side()?).env("TERM", "xterm-256color");
        let enter = || {
            // SAFETY: between fork and exec only system calls are made.
            unsafe { libc::setsid() };
            // SAFETY: standard input is the terminal.
            unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) };
            Ok(())
        };
        // SAFETY: `enter` makes system calls only.
        unsafe { command.pre_exec(enter) };
        command.spawn().context("cannot start the command")
    }

    fn shot(&self, title: &str) {
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        println!("=== {title}\n{}", screen.0.screen().contents());
    }
}
