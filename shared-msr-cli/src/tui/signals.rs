//! Signals, from a thread that waits for them.

use std::{
    future::pending,
    io,
    os::fd::{AsFd as _, OwnedFd},
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Sender,
    },
    thread,
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{SignalKind, signal},
};

use super::{event::Event, message::Message, screen};

/// How long a signal waits for the view to end by itself. It cannot while the terminal takes no output (Ctrl-S).
const PATIENCE: Duration = Duration::from_millis(900);

/// Starts the thread. From now on these signals do not end the process at once. Once the flag is set the view is ending by
/// itself, however long that takes: the kernel may take seconds to let go of the programs.
pub(super) fn listen(to: Sender<Message>) -> anyhow::Result<Arc<AtomicBool>> {
    let ending = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&ending);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let listen = |kind| {
        let _inside = runtime.enter();
        signal(kind).context("cannot listen to signals")
    };
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    let mut quit = listen(SignalKind::quit())?;
    let mut stop = listen(SignalKind::from_raw(libc::SIGTSTP))?;
    let mut proceed = listen(SignalKind::from_raw(libc::SIGCONT))?;
    let wait = async move {
        let terminal = watched();
        loop {
            let end = tokio::select! {
                _ = interrupt.recv() => libc::SIGINT,
                _ = terminate.recv() => libc::SIGTERM,
                _ = hang_up.recv() => libc::SIGHUP,
                _ = quit.recv() => libc::SIGQUIT,
                _ = stop.recv() => {
                    drop(to.send(Message::Suspend));
                    continue;
                }
                _ = proceed.recv() => {
                    drop(to.send(Message::Continue));
                    continue;
                }
                // As a signal of it would do, which not everybody gets whose terminal hangs up.
                () = hangs_up(terminal.as_ref()) => libc::SIGHUP,
            };
            drop(to.send(Message::Event(Event::Quit)));
            // A second one that a person or a service manager sends; a hang-up is often told twice.
            let again = tokio::select! {
                _ = interrupt.recv() => true,
                _ = terminate.recv() => true,
                _ = quit.recv() => true,
                () = tokio::time::sleep(PATIENCE) => false,
            };
            if again || !heard.load(Ordering::SeqCst) {
                screen::restore_by_force();
                process::exit(128 + end);
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(wait)).context("cannot start a thread")?;
    Ok(ending)
}

/// Standard output, to be waited for; none where it is nothing that can be waited for.
fn watched() -> Option<AsyncFd<OwnedFd>> {
    let terminal = io::stdout().as_fd().try_clone_to_owned().ok()?;
    // SAFETY: an owned descriptor stays open and the same until it is dropped.
    unsafe { AsyncFd::register_with_interest(terminal, Interest::READABLE) }.ok()
}

/// Waits until the terminal hangs up. crossterm does not notice: it reads nothing for ever, as fast as it can.
async fn hangs_up(terminal: Option<&AsyncFd<OwnedFd>>) {
    while let Some(terminal) = terminal
        && let Ok(mut ready) = terminal.readable().await
        && !screen::has_hung_up()
    {
        // A key, which another thread reads: we are woken once for each.
        ready.clear_ready();
    }
    if terminal.is_none() || !screen::has_hung_up() {
        pending::<()>().await;
    }
}
