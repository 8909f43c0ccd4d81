//! Who is to be told what: the difference between what is firing now and what was told before.
//!
//! ```text
//! not told          ─ firing ───────────────▶ told: began
//! told              ─ firing, worse ────────▶ told again: began
//! told              ─ firing, repeat is over ▶ told again: repeated
//! told              ─ not firing any more ──▶ told: resolved, and forgotten
//! ```
//!
//! Each notifier has a memory of its own: one that could not be reached is told later, and the others are not told twice.
//!
//! Invariant (told-once): an alarm that goes on is told once, and then only when the repeat interval is over.
//!
//! What is not here: remembering (`catalog`), sending (`notify`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lifeboat_model::Timestamp;

use super::{AlarmNote, Assessed, Severity};

/// What a notifier was told of an alarm last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub at: Timestamp,
    pub alarm: AlarmNote,
}

/// What holds for one notifier in one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundRules {
    pub min_severity: Severity,
    /// What goes on is told again after so long.
    pub repeat: Duration,
    pub assessed: Assessed,
}

/// What one notifier is to be told; nothing where all are empty. Each worst first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Round {
    pub began: Vec<AlarmNote>,
    pub repeated: Vec<AlarmNote>,
    pub resolved: Vec<AlarmNote>,
}

impl Round {
    pub fn is_empty(&self) -> bool {
        self.began.is_empty() && self.repeated.is_empty() && self.resolved.is_empty()
    }

    /// All that it remembers of, once it was told.
    pub fn firing(&self) -> impl Iterator<Item = &AlarmNote> {
        self.began.iter().chain(&self.repeated)
    }
}

/// `told`: by the alarm's id.
pub fn transitions(firing: &[AlarmNote], told: &BTreeMap<String, Told>, rules: RoundRules, now: Timestamp) -> Round {
    let mut round = Round::default();
    let wanted = || firing.iter().filter(|alarm| alarm.severity >= rules.min_severity);
    for alarm in wanted() {
        match told.get(&alarm.id) {
            None => round.began.push(alarm.clone()),
            Some(told) if told.alarm.severity < alarm.severity => round.began.push(alarm.clone()),
            Some(told) if now.since(told.at) >= rules.repeat => round.repeated.push(alarm.clone()),
            Some(_) => {}
        }
    }
    let ids: BTreeSet<&str> = wanted().map(|alarm| alarm.id.as_str()).collect();
    for (id, told) in told {
        // Of what nobody could look at, nobody may say that it is over.
        let is_assessed = rules.assessed == Assessed::All || told.alarm.kind.is_of_host();
        let is_over = is_assessed && !ids.contains(id.as_str());
        round.resolved.extend(is_over.then(|| told.alarm.clone()));
    }
    round.resolved.sort_by(|a, b| (b.severity, a.kind, &a.id).cmp(&(a.severity, b.kind, &b.id)));
    round
}
