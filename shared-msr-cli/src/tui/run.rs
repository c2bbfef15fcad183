//! The live view on a real terminal.

use std::{
    path::PathBuf,
    sync::{
        atomic::Ordering,
        mpsc::{self, Receiver},
    },
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, anyhow};

use super::{
    event::{Effect, Event},
    export, keyboard,
    message::Message,
    name_filter::NameFilter,
    sampler::Sampler,
    screen::{self, Screen},
    signals,
    source::Source,
    state::State,
    theme::Theme,
    update::update,
};
use crate::obstacle::Obstacle;

/// What the command line says.
pub struct Settings {
    /// How far samples are apart.
    pub interval: Duration,
    /// Which VMs are wanted at first.
    pub filter: Option<NameFilter>,
    /// How things look.
    pub theme: Theme,
    /// Where exports go.
    pub export_dir: PathBuf,
}

/// Shows a source until the user has seen enough.
pub fn run<S: Source>(make: impl FnOnce() -> Result<S, Obstacle> + Send + 'static, settings: Settings) -> anyhow::Result<()> {
    let (to, messages) = mpsc::channel();
    let ending = signals::listen(to.clone())?;
    let (sampler, facts) = Sampler::start(make, settings.interval, to.clone())?;
    let screen = Screen::enter()?;
    keyboard::listen(to)?;
    let mut state = State::new(facts, settings.theme, screen.size()?, settings.interval);
    state.filter = settings.filter;
    let mut view = Loop { screen, messages, sampler, export_dir: settings.export_dir };
    let ended = view.run(state);
    ending.store(true, Ordering::SeqCst);
    // Whatever noticed it first: a signal, a drawing, or nobody but us.
    if screen::has_hung_up() { Err(anyhow!("the terminal has hung up, so the view has ended")) } else { ended }
}

/// What effects work on.
struct Loop {
    // First, so that the terminal is given back before the end of the sampler is waited for.
    screen: Screen,
    messages: Receiver<Message>,
    sampler: Sampler,
    export_dir: PathBuf,
}

impl Loop {
    fn run(&mut self, mut state: State) -> anyhow::Result<()> {
        let mut drawn = None;
        loop {
            if drawn != Some(state.revision) {
                self.screen.draw(&state)?;
                drawn = Some(state.revision);
            }
            let mut message = Some(self.messages.recv().context("the view ended by itself")?);
            // All that has come meanwhile, before the next drawing: a slow terminal does not get behind.
            while let Some(event) = message {
                let ended;
                (state, ended) = self.take(state, event)?;
                if ended {
                    return Ok(());
                }
                message = self.messages.try_recv().ok();
            }
        }
    }

    /// Takes a message; says whether it was the last one.
    fn take(&mut self, state: State, message: Message) -> anyhow::Result<(State, bool)> {
        let event = match message {
            Message::Event(event) => event,
            Message::Sampled => match self.sampler.take() {
                Some(sample) => Event::Sample(sample),
                None => return Ok((state, false)),
            },
            Message::Suspend => {
                self.screen.suspend()?;
                return self.resized(state);
            }
            Message::Continue => {
                self.screen.again()?;
                return self.resized(state);
            }
        };
        let (mut state, effects) = update(state, event);
        for effect in effects {
            let ended;
            (state, ended) = self.execute(state, effect)?;
            if ended {
                return Ok((state, true));
            }
        }
        Ok((state, false))
    }

    /// The terminal may have changed while somebody else had it.
    fn resized(&self, state: State) -> anyhow::Result<(State, bool)> {
        let (columns, rows) = self.screen.size()?;
        Ok((update(state, Event::Resize(columns, rows)).0, false))
    }

    fn execute(&mut self, state: State, effect: Effect) -> anyhow::Result<(State, bool)> {
        match effect {
            Effect::Quit => return Ok((state, true)),
            Effect::Fail(why) => return Err(anyhow!(why)),
            Effect::Export(ledger, at) => {
                let written = export::write(&state.facts, &ledger, at, &self.export_dir, SystemTime::now());
                return Ok((update(state, Event::Exported(written)).0, false));
            }
            Effect::SetInterval(interval) => self.sampler.set_period(interval),
            Effect::Redraw => self.screen.redraw()?,
            Effect::Suspend => {
                self.screen.suspend()?;
                return self.resized(state);
            }
        }
        Ok((state, false))
    }
}
