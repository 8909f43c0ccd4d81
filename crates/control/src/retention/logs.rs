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
//! its last moments are out of the window. A point that is forgotten and can come back needs what it needed when it was
//! forgotten: one that was out of the window by then, nothing. A log shared by all is kept for the one that needs most of it.

use std::collections::BTreeMap;
use std::time::Duration;

use lifeboat_engine::LogNeeds;
use lifeboat_model::{Mark, PartStatus, SiteId, SiteState, SnapshotId, SnapshotRecord, SourceName, Timestamp};

/// Clocks of hosts differ by less, and a cut takes no longer.
const DOUBT: Duration = Duration::from_secs(2 * 3_600);
/// A site that is gone may have gone so long after its last base: those of a site that is there are no further apart, and
/// backups that fail are told of long before.
const GONE_AFTER: Duration = Duration::from_secs(7 * 86_400);

/// A mark is dated by the later of two clocks, which is believed so far past the newest run.
const MARKED_LATE_MAX: Duration = Duration::from_secs(86_400);

/// What one site tells of the logs it is in.
#[derive(Debug, Clone, Copy)]
pub struct LogDemand<'s> {
    pub state: &'s SiteState,
    /// Every moment of it is restorable.
    pub window: Duration,
    /// No source lists it, and that is meant.
    pub is_gone: bool,
}

/// What all sites need of every log.
#[derive(Debug, Clone)]
pub struct LogDemands {
    now: Timestamp,
    /// Of the site whose window is longest.
    window: Duration,
    logs: BTreeMap<SourceName, Log>,
}

#[derive(Debug, Clone, Default)]
struct Log {
    oldest: Option<(Timestamp, KeptFor)>,
    bases: Vec<(Timestamp, SiteId, SnapshotId)>,
    /// Forgotten, and can come back.
    forgotten: Vec<(Timestamp, SiteId)>,
    /// It is being restored.
    open: Option<SiteId>,
}

/// What a log is kept for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptFor {
    Window,
    Site {
        site: SiteId,
        is_held: bool,
    },
    /// Points of the site that can be brought back.
    Forgotten {
        site: SiteId,
    },
}

impl LogDemands {
    /// `window`: of sites that were never backed up.
    pub fn new(now: Timestamp, window: Duration) -> Self {
        Self { now, window, logs: BTreeMap::new() }
    }

    /// Takes what one site needs.
    pub fn add(&mut self, demand: &LogDemand<'_>) {
        let LogDemand { state, window, is_gone } = *demand;
        self.window = self.window.max(window);
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
        let doubt = Timestamp(begins.0.saturating_add(micros(DOUBT)));
        let can_come_back = |record: &&SnapshotRecord| record.forgotten.is_some_and(|mark| mark.till > self.now);
        let may_be = || bases().chain(state.forgotten.iter().filter(|record| is_base(record)).filter(can_come_back));
        // Else each night one more that calendar rules drop would go on keeping the log, and it never became shorter.
        let was_needed = |record: &&SnapshotRecord| {
            let Some(mark) = record.forgotten else { return false };
            let needed_from = needed_from.min(mark.at.saturating_sub(window + MARKED_LATE_MAX));
            let first = may_be().map(|record| record.cut_till).filter(|cut_till| *cut_till <= needed_from).max();
            record.cut_till > needed_from || Some(record.cut_till) == first
        };
        let forgotten = || may_be().filter(was_needed);
        for (record, source) in forgotten().flat_map(|record| sources(record).map(move |source| (record, source))) {
            self.logs.entry(source.clone()).or_default().forgotten.push((record.cut_from, state.site.clone()));
        }
        // Where nobody has an older one, the first of these is asked.
        let next = bases().filter(|record| record.cut_from > doubt).min_by_key(|record| record.cut_from);
        for record in bases().filter(|record| record.cut_from <= doubt).chain(next).chain(forgotten()) {
            for source in sources(record) {
                let base = (record.cut_from, state.site.clone(), record.id);
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

    /// What is needed of a source's log, and for whom. `unnamed`: how long a backup may take that no commit names yet;
    /// `bases_since`: what is older has lost its log already.
    pub fn needs(&self, source: &SourceName, unnamed: Duration, bases_since: Option<Timestamp>) -> (LogNeeds, KeptFor) {
        let window_begins = self.now.saturating_sub(self.window.max(unnamed));
        let log = self.logs.get(source);
        let can_come_back = log.into_iter().flat_map(|log| &log.forgotten);
        let can_come_back = can_come_back.filter(|(cut_from, _)| bases_since.is_none_or(|since| *cut_from >= since));
        let can_come_back = can_come_back.min_by_key(|(cut_from, _)| *cut_from);
        let can_come_back = can_come_back.map(|(at, site)| (*at, KeptFor::Forgotten { site: site.clone() }));
        let oldest = log.and_then(|log| log.oldest.clone()).into_iter().chain(can_come_back);
        let oldest = oldest.filter(|(oldest, _)| *oldest < window_begins).min_by_key(|(oldest, _)| *oldest);
        let (since, kept_for) = oldest.unwrap_or((window_begins, KeptFor::Window));
        let bases = || log.into_iter().flat_map(|log| &log.bases).filter(|(cut_from, ..)| *cut_from >= since);
        let first = bases().map(|(cut_from, ..)| *cut_from).min();
        let doubt = first.map(|first| Timestamp(first.0.saturating_add(micros(DOUBT))));
        let bases = bases().filter(|(cut_from, ..)| doubt.is_some_and(|doubt| *cut_from <= doubt));
        let bases = bases.map(|(_, site, snapshot)| (site.clone(), *snapshot)).collect();
        (LogNeeds { since, doubt: DOUBT, bases }, kept_for)
    }
}

/// Whether changes may go on top of it.
fn is_base(record: &SnapshotRecord) -> bool {
    !record.is_scan && matches!(record.mark, Mark::Good | Mark::Suspect)
}

fn sources(record: &SnapshotRecord) -> impl Iterator<Item = &SourceName> {
    let is_whole = |part: &&lifeboat_model::PartRecord| !matches!(part.status, PartStatus::Failed { .. });
    record.parts.iter().filter(is_whole).map(|part| &part.source)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
