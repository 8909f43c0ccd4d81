//! One cycle: facts become alarms, alarms become what is told to whom, and all of it is remembered.
//!
//! ```text
//! facts ──judge──▶ alarms ──since when? (catalog)──▶ notes ──transitions, for each notifier──▶ rounds ─▶ told, side by side
//!                                                      │                                                    │
//!                                                    metrics         catalog ◀── what was told, how it went ┘─▶ ping
//! ```
//!
//! Whoever runs for ever calls [`cycle`] every minute or so, with facts as they are then, and hands `Metrics` of it to
//! [`crate::serve`]; `lifeboat status --notify` calls it once. Two at a time, of two processes, tell twice at worst.
//!
//! A catalog that cannot be read or written stops no cycle: then alarms are told again, which is the better mistake.
//!
//! What is not here: gathering facts, and when to do it again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use lifeboat_model::Timestamp;

use crate::alarms::{
    self, Alarm, AlarmKind, AlarmLimits, AlarmNote, Assessed, Facts, Message, NotifierHealth, Round, RoundRules,
    Sender, Told, judge, transitions,
};
use crate::notify::{Notifier, Ping, Way};
use crate::{Catalog, Error, SignalNote};

/// The name under which the ping's health is remembered; no notifier may have it.
pub const PING: &str = "ping";

/// Whom to tell, and how often.
#[derive(Clone)]
pub struct Ways {
    pub notifiers: Vec<Notifier>,
    pub ping: Option<Ping>,
    /// What goes on is told again after so long.
    pub repeat: Duration,
}

impl Ways {
    /// Everybody whose health is worth remembering.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let ping = self.ping.as_ref().map(|_| PING);
        self.notifiers.iter().map(|notifier| notifier.name.as_str()).chain(ping)
    }
}

/// What one notifier was told, or was to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub notifier: String,
    pub round: Round,
    pub outcome: Result<(), String>,
}

/// What came of a cycle.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cycle {
    /// All that fires, worst first.
    pub alarms: Vec<AlarmNote>,
    /// Of notifiers that had something to be told.
    pub deliveries: Vec<Delivery>,
    /// `None`: none was to be sent.
    pub ping: Option<Result<(), String>>,
    pub notifiers: Vec<NotifierHealth>,
}

impl Cycle {
    pub fn is_healthy(&self) -> bool {
        !self.alarms.iter().any(|alarm| alarm.severity.is_breach())
    }
}

/// What fires, with since when: nobody is told, and nothing is remembered.
pub fn look(facts: &Facts, limits: &AlarmLimits, memory: &Mutex<Catalog>) -> Vec<AlarmNote> {
    let since = recalled(lock(memory).firing());
    judge(facts, limits).iter().map(|alarm| note(alarm, &since, facts.at)).collect()
}

/// Looks, tells, and remembers.
pub async fn cycle(
    facts: &Facts,
    limits: &AlarmLimits,
    (ways, sender): (&Ways, &Sender),
    memory: &Mutex<Catalog>,
) -> Cycle {
    let (now, mut alarms) = (facts.at, judge(facts, limits));
    let (since, told) = recall(memory, ways);
    let notes: Vec<AlarmNote> = alarms.iter().map(|alarm| note(alarm, &since, now)).collect();
    let deliveries = tell(&notes, &told, facts, (ways, sender)).await;

    let mut notifiers: Vec<NotifierHealth> = ways.names().map(|name| known_health(name, facts)).collect();
    for Delivery { notifier, outcome, .. } in &deliveries {
        note_outcome(&mut notifiers, notifier, outcome, now);
    }
    note_unusable(&mut notifiers, ways, now);
    let is_healthy = |alarms: &[Alarm]| !alarms.iter().any(|alarm| alarm.severity.is_breach());
    replace_failing(&mut alarms, &notifiers);
    let ping = match &ways.ping {
        Some(ping) => ping.send(is_healthy(&alarms)).await,
        None => None,
    };
    if let Some(outcome) = &ping {
        note_outcome(&mut notifiers, PING, outcome, now);
        replace_failing(&mut alarms, &notifiers);
    }
    remember(&alarms, &since, (facts, &deliveries, &notifiers), memory);
    Cycle { alarms: alarms.iter().map(|alarm| note(alarm, &since, now)).collect(), deliveries, ping, notifiers }
}

type Since = BTreeMap<String, Timestamp>;

fn note(alarm: &Alarm, since: &Since, now: Timestamp) -> AlarmNote {
    alarm.note(*since.get(&alarm.id()).unwrap_or(&now))
}

fn recall(memory: &Mutex<Catalog>, ways: &Ways) -> (Since, Vec<BTreeMap<String, Told>>) {
    let catalog = lock(memory);
    let told = ways.notifiers.iter().map(|notifier| recalled(catalog.told(&notifier.name)));
    (recalled(catalog.firing()), told.collect())
}

/// Side by side: one that does not answer keeps nobody else waiting.
async fn tell(
    notes: &[AlarmNote],
    told: &[BTreeMap<String, Told>],
    facts: &Facts,
    (ways, sender): (&Ways, &Sender),
) -> Vec<Delivery> {
    let deliveries = ways.notifiers.iter().zip(told).map(async |(notifier, told)| {
        let rules = RoundRules { min_severity: notifier.min_severity, repeat: ways.repeat, assessed: facts.assessed };
        let round = transitions(notes, told, rules, facts.at);
        if round.is_empty() {
            return None;
        }
        let firing = notes.iter().filter(|alarm| alarm.severity >= notifier.min_severity).count();
        let outcome = notifier.tell(&Message::of(&round, firing, sender, facts.at), Timestamp::now()).await;
        if let Err(reason) = &outcome {
            tracing::warn!(notifier = notifier.name, reason, "nobody could be told of alarms");
        }
        Some(Delivery { notifier: notifier.name.clone(), round, outcome })
    });
    join_all(deliveries).await.into_iter().flatten().collect()
}

fn known_health(name: &str, facts: &Facts) -> NotifierHealth {
    let known = facts.notifiers.iter().find(|health| health.name == name).cloned();
    known.unwrap_or_else(|| NotifierHealth { name: name.to_owned(), ..NotifierHealth::default() })
}

fn note_outcome(notifiers: &mut [NotifierHealth], name: &str, outcome: &Result<(), String>, now: Timestamp) {
    let Some(health) = notifiers.iter_mut().find(|health| health.name == name) else { return };
    match outcome {
        Ok(()) => (health.sent, health.failing) = (health.sent + 1, None),
        Err(reason) => {
            let since = health.failing.as_ref().map_or(now, |(since, _)| *since);
            (health.failed, health.failing) = (health.failed + 1, Some((since, reason.clone())));
        }
    }
}

/// Who cannot be told is an alarm before there is anything to be told.
fn note_unusable(notifiers: &mut [NotifierHealth], ways: &Ways, now: Timestamp) {
    for notifier in &ways.notifiers {
        let Way::Unusable(reason) = &notifier.way else { continue };
        if let Some(health) = notifiers.iter_mut().find(|health| health.name == notifier.name) {
            let since = health.failing.as_ref().map_or(now, |(since, _)| *since);
            health.failing = Some((since, reason.clone()));
        }
    }
}

/// Whoever could not be told just now is an alarm of this cycle already.
fn replace_failing(alarms: &mut Vec<Alarm>, notifiers: &[NotifierHealth]) {
    alarms.retain(|alarm| alarm.kind != AlarmKind::NotificationsFailing);
    alarms.extend(notifiers.iter().filter_map(alarms::of_notifier));
    alarms::sort(alarms);
}

fn remember(
    alarms: &[Alarm],
    since: &Since,
    (facts, deliveries, notifiers): (&Facts, &[Delivery], &[NotifierHealth]),
    memory: &Mutex<Catalog>,
) {
    let mut firing: Since = match facts.assessed {
        Assessed::All => Since::new(),
        // Nobody could look at them: they go on.
        Assessed::HostOnly => {
            since.iter().filter(|(id, _)| !is_of_host(id)).map(|(id, at)| (id.clone(), *at)).collect()
        }
    };
    firing.extend(alarms.iter().map(|alarm| {
        let id = alarm.id();
        let at = alarm.since.or_else(|| since.get(&id).copied()).unwrap_or(facts.at);
        (id, at)
    }));
    let told = deliveries.iter().filter(|delivery| delivery.outcome.is_ok());
    let told = told.map(|delivery| (delivery.notifier.clone(), delivery.round.clone(), facts.at)).collect();
    let note = SignalNote { firing, told, notifiers: notifiers.to_vec() };
    if let Err(error) = lock(memory).note_signals(&note) {
        tracing::warn!(%error, "alarms are not remembered: they will be told again");
    }
}

fn is_of_host(id: &str) -> bool {
    AlarmKind::ALL.iter().any(|kind| kind.is_of_host() && id.split('/').next() == Some(kind.as_str()))
}

fn lock(memory: &Mutex<Catalog>) -> MutexGuard<'_, Catalog> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is remembered; nothing where that cannot be read.
fn recalled<T: Default>(read: Result<T, Error>) -> T {
    read.unwrap_or_else(|error| {
        tracing::warn!(%error, "it is not known what was told before");
        T::default()
    })
}

#[cfg(test)]
mod tests;
