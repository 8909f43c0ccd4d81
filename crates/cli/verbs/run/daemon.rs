//! The one task that owns the daemon's state: it decides, and hears how everything ended.
//!
//! ```text
//! every 200 ms: a wish to stop? the watchdog; is it time to look?
//! look ends ─▶ decide ─▶ begin batches and jobs ─▶ … ─▶ each ends ─▶ look at once
//! look or job fails ─▶ told ─▶ a pause, longer each time, 5 minutes at most ─▶ tried again
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lifeboat_control::schedule::{Decision, Room, due};
use lifeboat_control::serve::Shown;
use lifeboat_model::{SiteId, Timestamp};
use lifeboat_store::Allowance;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::backups::{Came, back_up};
use super::facts::{Known, Rules, Tries};
use super::follow::{Follow, pause};
use super::jobs::{self, PERIODIC, Periodic, Task};
use super::notify::Notify;
use super::reload::{Reloaded, reload, try_out};
use super::telling;
use super::threads::begin;
use super::watching::Watching;
use crate::config::Config;
use crate::open::Open;
use crate::output::{Failed, Outcome};
use crate::verbs::assess::Ask;
use crate::{CliError, Context};

/// How soon a wish to stop is noticed.
const POLL: Duration = Duration::from_millis(200);
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);
/// Ends that nobody has heard of yet.
const EVENTS_MAX: usize = 64;

/// What happens.
pub(super) enum Event {
    /// With how much had ended when the look began.
    Looked(u64, Result<(Known, Arc<Open>), CliError>),
    BackedUp(Key, Result<Came, CliError>),
    JobEnded(Key, Result<Outcome, CliError>),
    CaptureEnded(Result<Outcome, CliError>),
    Watched(Result<(Ask, Shown), CliError>),
    Reloaded(Result<Reloaded, CliError>),
}

/// What there is one of at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    /// Backups of one policy.
    Policy(usize),
    /// Backups that failed before, and again.
    Again,
    Job(&'static str),
    Look,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(_) => f.write_str("backup"),
            Self::Again => f.write_str("backup again"),
            Self::Job(name) => f.write_str(name),
            Self::Look => f.write_str("look"),
        }
    }
}

pub(super) struct Daemon<'c> {
    context: &'c Context,
    rules: Arc<Rules>,
    events: Sender<Event>,
    inbox: Receiver<Event>,
    hangups: Signal,
    notify: Notify,
    follow: Follow,
    watching: Watching,
    allowance: Option<Arc<Allowance>>,
    /// What looks are made with; made anew after one that failed.
    open: Option<Arc<Open>>,
    known: Option<Known>,
    tries: Tries,
    /// What is under way, and of which sites.
    running: BTreeMap<Key, Vec<SiteId>>,
    /// What failed as a whole: how often, and when it may begin again.
    pauses: HashMap<Key, (u32, Instant)>,
    /// Troubles that were told and are not over.
    told: BTreeSet<String>,
    look_at: Instant,
    is_looking: bool,
    is_reloading: bool,
    /// Runs and jobs that came to their end.
    ended: u64,
    /// The same, and those that failed.
    ends: u64,
}

impl<'c> Daemon<'c> {
    /// Everything is tried once: only a mistake of the configuration ends it here, not a store that is away.
    pub async fn start(config: Config, context: &'c Context) -> Result<Self, CliError> {
        let failed = |io| CliError::operator(format!("cannot listen for signals: reason=`{io}`"));
        let hangups = signal(SignalKind::hangup()).map_err(failed)?;
        let (rules, open) = try_out(config, context).await?;
        if let Some(open) = &open {
            super::super::key::warn_unproven(&open.engine.repository, &context.output).await;
        }
        let (events, inbox) = channel(EVENTS_MAX);
        let allowance = allowance(&rules);
        let watching = Watching::start(&rules.config, context).await?;
        Ok(Self {
            context,
            rules,
            events,
            inbox,
            hangups,
            notify: Notify::of(context),
            follow: Follow::new(),
            watching,
            allowance,
            open,
            known: None,
            tries: Tries::default(),
            running: BTreeMap::new(),
            pauses: HashMap::new(),
            told: BTreeSet::new(),
            look_at: Instant::now(),
            is_looking: false,
            is_reloading: false,
            ended: 0,
            ends: 0,
        })
    }

    /// Until it is told to stop.
    pub async fn go_on(mut self) -> Result<Outcome, CliError> {
        let config = &self.rules.config;
        tracing::info!(config = %config.path.display(), repository = config.repository.url, "the daemon runs");
        self.context.output.event("running", json!({ "pid": std::process::id() }));
        self.notify.ready("looking");
        while !self.context.cancel.is_cancelled() {
            self.notify.alive();
            self.follow.go_on(&self.rules, self.context, &self.events);
            self.watching.go_on(&self.rules, self.open.as_ref(), self.context, &self.events);
            if Instant::now() >= self.look_at && !self.is_looking {
                self.look();
            }
            tokio::select! {
                Some(event) = self.inbox.recv() => self.hear(event).await,
                Some(()) = self.hangups.recv() => self.reload(),
                () = tokio::time::sleep(POLL) => {}
            }
        }
        Ok(self.stop().await)
    }

    /// Lets what is under way come to a safe place, as long as the grace lasts.
    async fn stop(mut self) -> Outcome {
        let till = Instant::now() + self.rules.config.daemon.grace;
        tracing::info!(jobs = self.running.len(), "stopping");
        self.notify.stopping();
        self.follow.stop();
        while self.is_at_work() && Instant::now() < till {
            self.notify.alive();
            if let Ok(Some(event)) = tokio::time::timeout(POLL, self.inbox.recv()).await {
                self.hear(event).await;
            }
        }
        let left: Vec<String> = self.running.keys().map(ToString::to_string).collect();
        if !left.is_empty() {
            tracing::warn!(left = left.join(", "), "the grace is over; what is not published yet is done again");
        }
        tracing::info!(ended = self.ended, "stopped");
        Outcome::ok().with("ended", self.ended).with("left", left)
    }

    fn is_at_work(&self) -> bool {
        self.follow.is_on() || self.watching.is_on() || !self.running.is_empty()
    }

    fn look(&mut self) {
        self.is_looking = true;
        let discover = self.rules.config.daemon.discover;
        let lists = self.known.as_ref().is_none_or(|known| known.listed_at.elapsed() >= discover);
        let (open, known) = (self.open.clone(), self.known.clone());
        let (rules, context) = (Arc::clone(&self.rules), self.context.beside(self.context.cancel.clone(), None));
        let work = async move || {
            let open = match open {
                Some(open) => open,
                None => {
                    let key = context.master_key(&rules.config)?;
                    Arc::new(context.open_with(rules.config.clone(), &key).await?)
                }
            };
            Ok((Known::look(&open, known, lists).await?, open))
        };
        let as_of = self.ends;
        begin("look", &self.events, work, move |came| Event::Looked(as_of, came));
    }

    async fn hear(&mut self, event: Event) {
        match event {
            Event::Looked(as_of, came) => self.looked(as_of, came),
            Event::BackedUp(key, came) => self.backed_up(key, came),
            Event::JobEnded(key, came) => {
                self.running.remove(&key);
                if let Some(outcome) = self.heard(key, came) {
                    telling::outcome(&key.to_string(), &outcome);
                    self.context.output.event("job", json!({ "job": key.to_string(), "exit_code": outcome.exit_code }));
                }
            }
            Event::CaptureEnded(came) => self.follow.ended(came),
            Event::Watched(came) => self.watching.heard(came),
            Event::Reloaded(came) => self.reloaded(came).await,
        }
    }

    /// Tells what failed as a whole, and keeps it from beginning again at once.
    fn heard<T>(&mut self, key: Key, came: Result<T, CliError>) -> Option<T> {
        self.ends += u64::from(key != Key::Look);
        match came {
            Ok(came) => {
                self.pauses.remove(&key);
                self.ended += u64::from(key != Key::Look);
                self.look_at = Instant::now();
                Some(came)
            }
            // It was told to stop, and there is nothing to tell.
            Err(_) if self.context.cancel.is_cancelled() => None,
            Err(error) => {
                telling::error(&key.to_string(), &error);
                let failures = self.pauses.get(&key).map_or(1, |(failures, _)| failures.saturating_add(1));
                let pause = pause(failures, FIRST_PAUSE, LONGEST_PAUSE);
                tracing::info!(job = %key, seconds = pause.as_secs(), "it is tried again");
                self.pauses.insert(key, (failures, Instant::now() + pause));
                self.look_at = Instant::now() + pause;
                None
            }
        }
    }

    fn looked(&mut self, as_of: u64, came: Result<(Known, Arc<Open>), CliError>) {
        self.is_looking = false;
        // Whoever made the connection that failed may have a better one.
        self.open = None;
        let Some((known, open)) = self.heard(Key::Look, came) else { return };
        if open.config != self.rules.config {
            // Of an older configuration: what it saw may be of other sources.
            return;
        }
        self.look_at = Instant::now() + self.rules.config.daemon.poll;
        (self.open, self.known) = (Some(open), Some(known.clone()));
        if as_of != self.ends {
            // What ended meanwhile is not in what was seen: it would be done once more.
            self.look_at = Instant::now();
        } else if !self.context.cancel.is_cancelled() {
            self.decide(&known);
        }
    }

    fn decide(&mut self, known: &Known) {
        let now = Timestamp::now();
        let running: HashSet<SiteId> = self.running.values().flatten().cloned().collect();
        let sites = known.due_sites(&self.rules, &self.tries, &running);
        let decision = due(now, &sites, &self.rules.policies, &self.room());
        self.say_standing(sites.len(), &decision);
        let waits = decision.look_again_at;
        for batch in decision.batches {
            let key = if batch.is_again { Key::Again } else { Key::Policy(batch.policy) };
            self.begin_batch(key, batch.sites);
        }
        let next = PERIODIC.iter().filter_map(|job| self.consider(job, known, now)).chain(waits).min();
        if let Some(next) = next {
            // At the very moment a site is not due yet for a clock that counts in parts of a second.
            let wait = next.since(now) + Duration::from_millis(10);
            self.look_at = self.look_at.min(Instant::now() + wait.max(Duration::from_secs(1)));
        }
        let resting = self.pauses.values().map(|(_, till)| *till).filter(|till| *till > Instant::now()).min();
        self.look_at = resting.map_or(self.look_at, |till| self.look_at.min(till));
    }

    fn is_resting(&self, key: &Key) -> bool {
        self.pauses.get(key).is_some_and(|(_, till)| Instant::now() < *till)
    }

    fn room(&self) -> Room {
        let is_taken = |key: &Key| self.running.contains_key(key) || self.is_resting(key);
        let policies = 0..self.rules.policies.len();
        let daemon = self.rules.config.daemon;
        Room {
            batches: daemon.parallel.saturating_sub(self.running.len()),
            sites_max: daemon.batch,
            running: policies.filter(|policy| is_taken(&Key::Policy(*policy))).collect(),
            is_trying_again: is_taken(&Key::Again),
        }
    }

    fn begin_batch(&mut self, key: Key, sites: Vec<SiteId>) {
        let whose = match key {
            Key::Policy(policy) => self.rules.name_of(policy),
            _ => "any".to_owned(),
        };
        tracing::info!(job = %key, policy = whose, sites = sites.len(), "begins");
        self.running.insert(key, sites.clone());
        let (rules, context) = (Arc::clone(&self.rules), self.beside());
        let work = async move || back_up(&key.to_string(), sites, rules, context).await;
        begin("backup", &self.events, work, move |came| Event::BackedUp(key, came));
    }

    /// Begins a job if it is due and there is room; gives when it is due, if that is to come.
    fn consider(&mut self, job: &'static Periodic, known: &Known, now: Timestamp) -> Option<Timestamp> {
        let key = Key::Job(job.name);
        let due_at = (job.due_at)(&self.rules, known, now)?;
        if due_at > now {
            return Some(due_at);
        }
        // One place is the backups', unless there is but one.
        let places = self.rules.config.daemon.parallel.saturating_sub(1).max(1);
        let jobs = self.running.keys().filter(|key| matches!(key, Key::Job(_))).count();
        let is_room = self.running.len() < self.rules.config.daemon.parallel && jobs < places;
        if is_room && !self.running.contains_key(&key) && !self.is_resting(&key) {
            tracing::info!(job = job.name, "begins");
            self.running.insert(key, Vec::new());
            let task = Task { context: self.beside(), rules: Arc::clone(&self.rules), known: known.clone() };
            let work = async move || jobs::run(job, task).await;
            begin(job.name, &self.events, work, move |came| Event::JobEnded(key, came));
        }
        None
    }

    fn backed_up(&mut self, key: Key, came: Result<Came, CliError>) {
        let asked = self.running.remove(&key).unwrap_or_default();
        let before = self.pauses.get(&key).map_or(0, |(failures, _)| *failures);
        let Some(came) = self.heard(key, came) else { return };
        let now = Timestamp::now();
        let was_nothing = came.done.is_empty() && came.failed.is_empty() && !asked.is_empty();
        came.done.iter().for_each(|site| self.tries.done(site));
        for (site, passes) in came.failed {
            self.tries.failed(site, now, passes);
        }
        if let Some(known) = &mut self.known {
            known.found(came.listed);
        }
        self.tell_news(&came.troubles);
        if came.has_failed_source && was_nothing {
            // Its sites are due still, and it is asked again soon; those of other sources do not wait for it.
            let failures = before.saturating_add(1);
            self.pauses.insert(key, (failures, Instant::now() + pause(failures, FIRST_PAUSE, LONGEST_PAUSE)));
        }
    }

    /// Of several runs in one night each finds the same: it is told once, and once more when it is over.
    fn tell_news(&mut self, troubles: &[Failed]) {
        let now: BTreeSet<String> = troubles.iter().map(|trouble| trouble.message.clone()).collect();
        for trouble in troubles.iter().filter(|trouble| !self.told.contains(&trouble.message)) {
            telling::failed("backup", trouble);
        }
        for over in self.told.difference(&now) {
            tracing::info!(job = "backup", "it is over: {over}");
        }
        self.told = now;
    }

    fn say_standing(&self, sites: usize, decision: &Decision) {
        let next = decision.look_again_at.map(|at| at.to_string());
        tracing::debug!(sites, due = decision.due, running = self.running.len(), next, "looked");
        let next = next.map(|next| format!(", the next one at {next}")).unwrap_or_default();
        self.notify.status(&format!("{sites} sites, {} due, {} jobs run{next}", decision.due, self.running.len()));
    }

    fn reload(&mut self) {
        if self.is_reloading {
            return;
        }
        self.is_reloading = true;
        tracing::info!("reading the configuration again");
        self.notify.reloading();
        let (old, context) = (Arc::clone(&self.rules), self.context.beside(self.context.cancel.clone(), None));
        begin("reload", &self.events, async move || reload(old, context).await, Event::Reloaded);
    }

    async fn reloaded(&mut self, came: Result<Reloaded, CliError>) {
        self.is_reloading = false;
        let is_taken = came.is_ok();
        match came {
            Ok((rules, open)) => {
                tracing::info!(config = %rules.config.path.display(), "the new configuration is in force");
                (self.rules, self.open, self.known) = (rules, open, None);
                self.allowance = allowance(&self.rules);
                self.pauses.clear();
                self.follow.stop();
                self.look_at = Instant::now();
                if let Err(error) = self.watching.listen(&self.rules.config, self.context).await {
                    telling::error("metrics", &error);
                }
                self.watching.hurry();
            }
            Err(error) => {
                telling::error("reload", &error);
                tracing::error!("THE NEW CONFIGURATION IS REFUSED, the old one stays in force");
            }
        }
        self.context.output.event("reloaded", json!({ "taken": is_taken }));
        self.notify.ready(if is_taken {
            "looking"
        } else {
            "the new configuration was refused; the old one is in force"
        });
    }

    /// For a job: it stops when the daemon does.
    fn beside(&self) -> Context {
        self.context.beside(self.context.cancel.clone(), self.allowance.clone())
    }
}

fn allowance(rules: &Rules) -> Option<Arc<Allowance>> {
    rules.config.daemon.bytes_per_second.map(|bytes| Arc::new(Allowance::new(bytes)))
}
