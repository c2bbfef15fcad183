//! Takes samples apart from drawing: a slow terminal delays no sample, and a long sample no key.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::{
    event::Event,
    message::Message,
    source::{Facts, Sample, Source},
};
use crate::{obstacle::Obstacle, sample::measurement::TIDY_EVERY};

/// The thread that takes samples.
pub struct Sampler {
    period: Option<Sender<Duration>>,
    newest: Arc<Mutex<Option<Arc<Sample>>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Sampler {
    /// Starts the thread, which makes its source itself, and waits until it is measuring or has failed.
    pub fn start<S: Source>(
        make: impl FnOnce() -> Result<S, Obstacle> + Send + 'static,
        period: Duration,
        to: Sender<Message>,
    ) -> anyhow::Result<(Self, Facts)> {
        let newest = Arc::new(Mutex::new(None));
        let place = Arc::clone(&newest);
        let (facts_to, facts) = mpsc::channel();
        let (period_to, periods) = mpsc::channel();
        let work = move || {
            // Also when it panics, so that nobody waits for samples that will never come.
            let end = End(to.clone());
            match make() {
                Ok(mut source) => {
                    if facts_to.send(Ok(source.facts().clone())).is_ok() {
                        run(&mut source, period, &periods, (&place, &to));
                    }
                }
                Err(why) => drop(facts_to.send(Err(why))),
            }
            drop(end);
        };
        let thread = thread::Builder::new().name("sampler".to_owned()).spawn(work).context("cannot start a thread")?;
        let facts = facts.recv().context("the measurement ended before it began")??;
        Ok((Self { period: Some(period_to), newest, thread: Some(thread) }, facts))
    }

    /// From now on samples are so far apart.
    pub fn set_period(&self, period: Duration) {
        if let Some(to) = &self.period {
            // Fails only when the thread has ended, which it says itself.
            let _ = to.send(period);
        }
    }

    /// The newest sample, if it was not taken yet.
    pub fn take(&self) -> Option<Arc<Sample>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Sampler {
    /// Waits for the end of the sample that is being taken, so that nothing stays attached.
    fn drop(&mut self) {
        self.period = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Says that no more samples come.
struct End(Sender<Message>);

impl Drop for End {
    fn drop(&mut self) {
        drop(self.0.send(Message::Event(Event::Failed("the measurement has ended; start `shared-msr top` again".to_owned()))));
    }
}

/// Takes samples until nobody wants them.
fn run(
    source: &mut impl Source,
    mut period: Duration,
    periods: &Receiver<Duration>,
    (newest, to): (&Mutex<Option<Arc<Sample>>>, &Sender<Message>),
) {
    let mut last = Instant::now();
    loop {
        let due = last + period;
        let wait = due.saturating_duration_since(Instant::now());
        match periods.recv_timeout(wait.min(TIDY_EVERY)) {
            Ok(other) => period = other,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let done = if Instant::now() < due {
                    source.tidy()
                } else {
                    // From when it was due, so that the rhythm is kept; but what was missed is not caught up with.
                    last = if due.elapsed() < period { due } else { Instant::now() };
                    source.sample().map(|sample| publish(sample, newest, to))
                };
                if let Err(why) = done {
                    drop(to.send(Message::Event(Event::Failed(why.to_string()))));
                    return;
                }
            }
        }
    }
}

/// Puts a sample where it is fetched. One that was not fetched yet is replaced: the newer one says all that it said.
fn publish(sample: Sample, newest: &Mutex<Option<Arc<Sample>>>, to: &Sender<Message>) {
    let old = newest.lock().unwrap_or_else(PoisonError::into_inner).replace(Arc::new(sample));
    if old.is_none() {
        drop(to.send(Message::Sampled));
    }
}
