//! Is all as promised? Asked again and again while the daemon runs: people are told, and metrics are shown.
//!
//! ```text
//! every `alarms.every`: assess ─▶ cycle ─▶ notifiers, ping ─▶ metrics ─▶ whoever asks `metrics.listen`
//!                        └ no store: what the host knows alone
//! ```
//!
//! It has a thread of its own and no place among the jobs: a night of long jobs must not keep anybody from being told. In most
//! cycles the catalog is believed, which this process keeps; once an hour the bucket is asked for each site.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lifeboat_control::alarms::Facts;
use lifeboat_control::metrics::{Metrics, MetricsOptions};
use lifeboat_control::serve::{self, ServeOptions, Shown};
use lifeboat_control::watch::{self as cycles, Cycle};
use lifeboat_model::{Fault, Timestamp};
use tokio::sync::mpsc::Sender;
use tokio::sync::{oneshot, watch};

use super::daemon::Event;
use super::facts::Rules;
use super::telling;
use super::threads::begin;
use crate::config::{Config, MetricsConfig};
use crate::open::Open;
use crate::verbs::assess::{Ask, HostAlone, assess, without_store};
use crate::{CliError, Context, signals};

/// So often the bucket is asked for each site, whatever the catalog says.
const ASK_EACH: Duration = Duration::from_secs(3_600);
const STOP_POLL: Duration = Duration::from_millis(100);
/// A store that takes longer does not answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// `/readyz` holds for so many cycles without an answer of the store.
const CYCLES_READY: u32 = 3;

pub(super) struct Watching {
    is_on: bool,
    next_at: Instant,
    asked_each_at: Option<Instant>,
    shown: watch::Sender<Shown>,
    server: Option<Server>,
}

/// What listens, until this is dropped.
struct Server {
    config: MetricsConfig,
    ready_within: Duration,
    _stop: oneshot::Sender<()>,
}

impl Watching {
    /// Listens where the configuration says. An address that cannot be had ends it here.
    pub async fn start(config: &Config, context: &Context) -> Result<Self, CliError> {
        let (shown, _) = watch::channel(Shown::default());
        let mut watching = Self { is_on: false, next_at: Instant::now(), asked_each_at: None, shown, server: None };
        watching.listen(config, context).await?;
        Ok(watching)
    }

    /// Listens as this configuration says, and no longer as the one before.
    pub async fn listen(&mut self, config: &Config, context: &Context) -> Result<(), CliError> {
        let ready_within = config.alarms.every * CYCLES_READY;
        let is_same = self
            .server
            .as_ref()
            .is_some_and(|server| server.config == config.metrics && server.ready_within == ready_within);
        if is_same {
            return Ok(());
        }
        self.server = None;
        let Some(address) = config.metrics.listen else { return Ok(()) };
        let token = config.metrics.token.as_ref().map(|key| signals::secret(key, context)).transpose()?;
        // The listener of before lets go of the address when its task is next at work.
        tokio::task::yield_now().await;
        let listener = serve::listen(address, token.as_deref()).await?;
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async move {
            // Dropped is told as well.
            let _ = stopped.await;
        };
        tokio::spawn(serve::serve(listener, ServeOptions { token, ready_within }, self.shown.subscribe(), stopped));
        tracing::info!(%address, "metrics can be asked for");
        self.server = Some(Server { config: config.metrics.clone(), ready_within, _stop: stop });
        Ok(())
    }

    /// Begins a cycle, if it is time to.
    pub fn go_on(&mut self, rules: &Arc<Rules>, open: Option<&Arc<Open>>, context: &Context, events: &Sender<Event>) {
        if self.is_on || Instant::now() < self.next_at {
            return;
        }
        self.is_on = true;
        self.next_at = Instant::now() + rules.config.alarms.every;
        let is_due = self.asked_each_at.is_none_or(|at| at.elapsed() >= ASK_EACH);
        let ask = if is_due { Ask::Each } else { Ask::Catalog };
        let (rules, open, context) =
            (Arc::clone(rules), open.map(Arc::clone), context.beside(context.cancel.clone(), None));
        let shown = self.shown.clone();
        let work = async move || {
            let cycle = cycle(&rules.config, open, (ask, &shown), &context);
            tokio::select! {
                came = cycle => Ok((ask, came?)),
                () = told_to_stop(&context) => Err(CliError::cancelled()),
            }
        };
        begin("alarms", events, work, Event::Watched);
    }

    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// At once: something has changed.
    pub fn hurry(&mut self) {
        self.next_at = Instant::now();
    }

    pub fn heard(&mut self, came: Result<(Ask, Shown), CliError>) {
        self.is_on = false;
        match came {
            Ok((ask, shown)) => {
                if ask == Ask::Each && shown.store_answered_at.is_some() {
                    self.asked_each_at = Some(Instant::now());
                }
                let answered = shown.store_answered_at.or(self.shown.borrow().store_answered_at);
                self.shown.send_replace(Shown { store_answered_at: answered, ..shown });
            }
            Err(error) if error.fault == Fault::Cancelled => {}
            Err(error) => telling::error("alarms", &error),
        }
    }
}

/// One cycle. A store that does not answer is an alarm, and no error.
async fn cycle(
    config: &Config,
    open: Option<Arc<Open>>,
    (ask, shown): (Ask, &watch::Sender<Shown>),
    context: &Context,
) -> Result<Shown, CliError> {
    let began = Instant::now();
    let ways = signals::ways(config, context);
    let found = async {
        let open = soon(config, answering(open, config, context)).await?;
        let found = assess(&open, ask, context).await?;
        Ok::<_, CliError>((open, found.facts))
    };
    let options = MetricsOptions { site_series_max: config.metrics.site_series_max };
    let (facts, cycle) = match found.await {
        Ok((open, facts)) => {
            // Somebody who is slow to be told keeps nobody from seeing it.
            let alarms = cycles::look(&facts, &config.alarms.limits, open.memory.shared());
            let metrics = Metrics::of(&facts, &alarms, &facts.notifiers, (options, began.elapsed()));
            shown.send_replace(Shown { metrics, store_answered_at: Some(facts.at) });
            let repository = open.engine.repository.config().repository.to_string();
            let sender = signals::sender(Some(repository));
            let cycle = cycles::cycle(&facts, &config.alarms.limits, (&ways, &sender), open.memory.shared()).await;
            (facts, cycle)
        }
        Err(error) => without(config, &error, &ways).await?,
    };
    tell(&cycle);
    let metrics = Metrics::of(&facts, &cycle.alarms, &cycle.notifiers, (options, began.elapsed()));
    let store_answered_at = facts.repository.failure.is_none().then_some(facts.at);
    Ok(Shown { metrics, store_answered_at })
}

/// Ends when the daemon is to end: a notifier that is slow does not keep it.
async fn told_to_stop(context: &Context) {
    while !context.cancel.is_cancelled() {
        tokio::time::sleep(STOP_POLL).await;
    }
}

/// The repository, when its store has answered.
async fn answering(open: Option<Arc<Open>>, config: &Config, context: &Context) -> Result<Arc<Open>, CliError> {
    let open = match open {
        Some(open) => open,
        None => Arc::new(context.open_with(config.clone(), &context.master_key(config)?).await?),
    };
    open.engine.repository.newest_run().await?;
    Ok(open)
}

/// The same soon, or not at all: whoever asks again and again need not be as patient as a backup.
async fn soon<T>(config: &Config, asked: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    tokio::time::timeout(ANSWER_MAX, asked).await.unwrap_or_else(|_| {
        let (store, seconds) = (&config.repository.url, ANSWER_MAX.as_secs());
        Err(CliError::new(Fault::Retry, format!("the store does not answer: store=`{store}`, seconds=`{seconds}`"))
            .with_hint("is it there, and can this host reach it? Backups wait for it by themselves"))
    })
}

/// What is known of the host alone, and told all the same.
async fn without(config: &Config, error: &CliError, ways: &cycles::Ways) -> Result<(Facts, Cycle), CliError> {
    let HostAlone { facts, repository, memory } = without_store(config, error)?;
    let cycle = cycles::cycle(&facts, &config.alarms.limits, (ways, &signals::sender(repository)), &memory).await;
    Ok((facts, cycle))
}

/// What began and what is over, in the log, too.
fn tell(cycle: &Cycle) {
    for delivery in &cycle.deliveries {
        if let Err(reason) = &delivery.outcome {
            tracing::error!(job = "alarms", notifier = delivery.notifier, reason, "nobody was told");
        }
    }
    if let Some(Err(reason)) = &cycle.ping {
        tracing::error!(job = "alarms", reason, "the ping was not sent");
    }
    let breaches = cycle.alarms.iter().filter(|alarm| alarm.severity.is_breach()).count();
    tracing::debug!(job = "alarms", alarms = cycle.alarms.len(), breaches, at = %Timestamp::now(), "looked");
}
