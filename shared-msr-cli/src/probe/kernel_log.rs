//! Messages of the kernel-side programs.

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};
use tokio::io::{Interest, unix::AsyncFd};

use crate::{notice::notice, obstacle::Obstacle, probe::object};

/// Writes each message to standard error.
pub struct StandardError;

impl Log for StandardError {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        notice(format_args!("kernel side: {}: {}", record.level().as_str().to_lowercase(), record.args()));
    }

    fn flush(&self) {}
}

/// The reader of the messages.
pub struct KernelLog(AsyncFd<EbpfLogger<StandardError>>);

impl KernelLog {
    /// Takes the messages of a loaded object. Needs a running tokio reactor.
    pub fn open(bpf: &mut Ebpf) -> Result<Self, Obstacle> {
        let logger = EbpfLogger::init_with_logger(bpf, StandardError)
            .map_err(|error| object::refused("the log of the programs", &error))?;
        // SAFETY: the logger owns the descriptor of its ring buffer, and keeps it open and the same until it is dropped.
        let logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
        let logger = logger.map_err(|error| {
            let (_logger, error) = error.into_parts();
            object::refused("to wait for messages", &error)
        })?;
        Ok(Self(logger))
    }

    /// Shows messages as they come; ends only when they cannot be waited for any more.
    pub async fn pump(&mut self) {
        while let Ok(mut guard) = self.0.readable_mut().await {
            guard.get_inner_mut().flush();
            guard.clear_ready();
        }
    }

    /// Shows what is left.
    pub fn flush(&mut self) {
        self.0.get_mut().flush();
    }
}
