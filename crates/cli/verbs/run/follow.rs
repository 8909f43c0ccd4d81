//! The capture within the daemon: one of all sources that are to be followed, started again whenever it ends.
//!
//! ```text
//! off ─ asked for ─▶ on ─ ended by itself ─▶ waits, longer each time ─▶ on …
//!                     └ told to stop (a new configuration) ─▶ on, with that one
//! ```
//!
//! It waits by itself for what passes; it ends where a person must act, which is told each time it is tried.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Sender;

use super::daemon::Event;
use super::facts::Rules;
use super::telling;
use super::threads::begin;
use crate::output::Outcome;
use crate::signal::CancelFlag;
use crate::verbs::capture;
use crate::{CliError, Context};

const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);
/// Whoever has followed for so long had begun well.
const BEGUN_WELL: Duration = Duration::from_secs(10 * 60);

pub(super) struct Follow {
    cancel: CancelFlag,
    state: State,
    ends: u32,
}

enum State {
    Off,
    On { since: Instant },
    Waits { till: Instant },
}

impl Follow {
    pub fn new() -> Self {
        Self { cancel: CancelFlag::default(), state: State::Off, ends: 0 }
    }

    pub fn is_on(&self) -> bool {
        matches!(self.state, State::On { .. })
    }

    /// Begins, if it is time to and the configuration asks for it.
    pub fn go_on(&mut self, rules: &Arc<Rules>, context: &Context, events: &Sender<Event>) {
        let is_time = match self.state {
            State::Off => true,
            State::On { .. } => false,
            State::Waits { till } => Instant::now() >= till,
        };
        let sources = capture::wanted(&rules.config);
        if !is_time || sources.is_empty() {
            return;
        }
        self.cancel = CancelFlag::default();
        self.state = State::On { since: Instant::now() };
        // What is captured cannot wait: it takes no part of what jobs may read and write.
        let (rules, context) = (Arc::clone(rules), context.beside(self.cancel.clone(), None));
        let work = async move || {
            let key = context.master_key(&rules.config)?;
            let open = context.open_with(rules.config.clone(), &key).await?;
            Ok(capture::follow(&sources, open, &context).await)
        };
        begin("capture", events, work, Event::CaptureEnded);
    }

    pub fn stop(&self) {
        self.cancel.cancel();
    }

    pub fn ended(&mut self, came: Result<Outcome, CliError>) {
        let since = match self.state {
            State::On { since } => since.elapsed(),
            _ => Duration::ZERO,
        };
        if self.cancel.is_cancelled() {
            (self.state, self.ends) = (State::Off, 0);
            return;
        }
        match &came {
            Ok(outcome) => telling::outcome("capture", outcome),
            Err(error) => telling::error("capture", error),
        }
        self.ends = if since >= BEGUN_WELL { 1 } else { self.ends.saturating_add(1) };
        let pause = pause(self.ends, FIRST_PAUSE, LONGEST_PAUSE);
        tracing::warn!(job = "capture", seconds = pause.as_secs(), "nothing is followed; it is tried again");
        self.state = State::Waits { till: Instant::now() + pause };
    }
}

/// Doubled with each failure, up to the longest.
pub(super) fn pause(failures: u32, first: Duration, longest: Duration) -> Duration {
    let times = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX).max(1);
    first.checked_mul(times).map_or(longest, |pause| pause.min(longest))
}
