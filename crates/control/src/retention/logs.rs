//! How far back the change logs of captured sources are needed: a pure decision over all sites.
//!
//! ```text
//! window     ·····├───────────────────────▶ now
//! site a   ─base───────base────────base──▶            every moment of the window is made from one of these
//! site b        ────────────base─────────▶            new: nothing of it is restorable before
//! log       ╶╶╶╶├─────────────────────────▶           kept from the oldest that is needed, and never shorter than the window
//! ```
//!
//! A site that is held keeps what it needed when it was held. One that is gone, and whose loss was meant, needs nothing once
//! its last moments are out of the window. A log shared by all is kept for the one that needs most of it. What is forgotten needs
//! nothing: what a log needs no more stays for the undelete time, as points do.

use std::collections::BTreeMap;
use std::time::Duration;

use lifeboat_engine::{LogNeeds, NeededBase};
use lifeboat_model::{Mark, PartRecord, PartStatus, SiteId, SiteState, SnapshotRecord, SourceName, Timestamp};

/// Clocks of hosts differ by less, and a cut takes no longer.
const DOUBT: Duration = Duration::from_secs(2 * 3_600);
/// A site that is gone may have gone so long after its last base: those of a site that is there are no further apart, and
/// backups that fail are told of long before.
const GONE_AFTER: Duration = Duration::from_secs(7 * 86_400);

/// What one site tells of the logs it is in.
#[derive(Debug, Clone, Copy)]
pub struct LogDemand<'s> {
    pub state: &'s SiteState,
    /// Every moment of it is restorable.
    pub window: Duration,
    /// How long what is let go of can still be had.
    pub undelete: Duration,
    /// No source lists it, and that is meant.
    pub is_gone: bool,
}

/// What all sites need of every log.
#[derive(Debug, Clone)]
pub struct LogDemands {
    now: Timestamp,
    /// Of the site whose window is longest.
    window: Duration,
    /// Of the site that has most time to think better of it.
    undelete: Duration,
    logs: BTreeMap<SourceName, Log>,
}

#[derive(Debug, Clone, Default)]
struct Log {
    oldest: Option<(Timestamp, KeptFor)>,
    bases: Vec<NeededBase>,
    /// It is being restored.
    open: Option<SiteId>,
}

/// What a log is kept for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptFor {
    Window,
    Site { site: SiteId, is_held: bool },
}

impl LogDemands {
    /// `window`, `undelete`: of sites that were never backed up.
    pub fn new(now: Timestamp, (window, undelete): (Duration, Duration)) -> Self {
        Self { now, window, undelete, logs: BTreeMap::new() }
    }

    /// Takes what one site needs.
    pub fn add(&mut self, demand: &LogDemand<'_>) {
        let LogDemand { state, window, undelete, is_gone } = *demand;
        (self.window, self.undelete) = (self.window.max(window), self.undelete.max(undelete));
        let begins = self.now.saturating_sub(window);
        let held_at = state.holds.iter().map(|hold| hold.placed_at).min();
        let needed_from = held_at.map_or(begins, |held_at| held_at.saturating_sub(window).min(begins));
        let bases = || state.snapshots.iter().filter(|record| is_base(record));
        let first = bases().filter(|record| record.cut_till <= needed_from).max_by_key(|record| record.cut_till);
        let newest = bases().map(|record| record.cut_till).max();
        // Its last moments are past.
        let is_over = is_gone
            && held_at.is_none()
            && newest.is_some_and(|newest| newest < begins.saturating_sub(window.max(GONE_AFTER)));
        let needed = bases().filter(|record| record.cut_till > needed_from).chain(first).filter(|_| !is_over);
        for record in needed {
            for source in sources(record) {
                let log = self.logs.entry(source.clone()).or_default();
                if log.oldest.as_ref().is_none_or(|(oldest, _)| record.cut_from < *oldest) {
                    let kept_for = KeptFor::Site { site: state.site.clone(), is_held: held_at.is_some() };
                    log.oldest = Some((record.cut_from, kept_for));
                }
            }
        }
        for record in bases() {
            for source in sources(record) {
                let base = NeededBase { cut_from: record.cut_from, site: state.site.clone(), snapshot: record.id };
                self.logs.entry(source.clone()).or_default().bases.push(base);
            }
        }
        if state.intent.is_some() {
            for source in state.snapshots.iter().flat_map(sources) {
                self.logs.entry(source.clone()).or_default().open = Some(state.site.clone());
            }
        }
    }

    /// A site that a restore is open on, which may be made from this log: it is left alone.
    pub fn open_restore(&self, source: &SourceName) -> Option<&SiteId> {
        self.logs.get(source).and_then(|log| log.open.as_ref())
    }

    /// What is needed of a source's log, and for whom. `unnamed`: how long a backup may take that no commit names yet.
    pub fn needs(&self, source: &SourceName, unnamed: Duration) -> (LogNeeds, KeptFor) {
        let window_begins = self.now.saturating_sub(self.window.max(unnamed));
        let log = self.logs.get(source);
        let oldest = log.and_then(|log| log.oldest.clone()).filter(|(oldest, _)| *oldest < window_begins);
        let (since, kept_for) = oldest.unwrap_or((window_begins, KeptFor::Window));
        let bases = log.into_iter().flat_map(|log| &log.bases).filter(|base| base.cut_from >= since);
        let mut bases: Vec<NeededBase> = bases.cloned().collect();
        bases.sort_unstable();
        (LogNeeds { since, doubt: DOUBT, bases, undelete: self.undelete }, kept_for)
    }
}

/// Whether changes may go on top of it.
fn is_base(record: &SnapshotRecord) -> bool {
    !record.is_scan && matches!(record.mark, Mark::Good | Mark::Suspect)
}

/// Where its parts are bases. Of one that had nothing in a source no base is made; of one that was first seen in the log there
/// is nothing else.
fn sources(record: &SnapshotRecord) -> impl Iterator<Item = &SourceName> {
    let is_birth = record.is_birth();
    let is_absent = |part: &PartRecord| matches!(part.status, PartStatus::Absent);
    let is_failed = |part: &PartRecord| matches!(part.status, PartStatus::Failed { .. });
    let is_there = move |part: &&PartRecord| !is_failed(part) && (is_birth || !is_absent(part));
    record.parts.iter().filter(is_there).map(|part| &part.source)
}

#[cfg(test)]
mod tests;
