//! Signals, from a thread that waits for them.

use std::{
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
use tokio::signal::unix::{SignalKind, signal};

use super::{event::Event, message::Message, screen};

/// How long a signal waits for the view to end by itself. It cannot while the terminal takes no output (Ctrl-S).
const PATIENCE: Duration = Duration::from_secs(3);

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
            };
            drop(to.send(Message::Event(Event::Quit)));
            tokio::time::sleep(PATIENCE).await;
            if !heard.load(Ordering::SeqCst) {
                screen::restore_by_force();
                process::exit(128 + end);
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(wait)).context("cannot start a thread")?;
    Ok(ending)
}
