//! Which points of a site are kept, and why: a pure decision.
//!
//!   points, rules, now ─▶ [`decide`] ─▶ of each point why it is kept; no reason: it may be forgotten
//!
//! Rules only keep. Calendar rules fill slots from the newest good point backwards: of each hour, day, week, month and year in
//! the policy's zone the newest one counts, until so many of them are filled. The window is another matter: within it every
//! moment is to be restorable, so all of it is kept, and of each log the newest base before it.
//!
//! Invariant (retention-only-drops-the-unneeded): the newest good point, all points of the window, what the window stands on,
//! all points of a site that is held, and what an open restore needs are kept, whatever the rules say.
//!
//! What is not here: forgetting, which is a commit (`engine`), and whether the clock can be trusted (`repo`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

mod facts;
mod logs;

pub use facts::{Epochs, facts};
pub use logs::{KeptFor, LogDemand, LogDemands};

use jiff::tz::TimeZone;
use lifeboat_model::{Mark, RestoreId, SnapshotId, Timestamp};

/// What is asked of the calendar, beside the window.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeepRules {
    /// The newest so many.
    pub last: u32,
    /// All as young as this.
    pub within: Option<Duration>,
    pub hourly: u32,
    pub daily: u32,
    pub weekly: u32,
    pub monthly: u32,
    pub yearly: u32,
    /// Every moment of it is restorable.
    pub window: Duration,
    /// How long a restore can be undone.
    pub undo: Duration,
}

/// What a decision needs to know of a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointFacts {
    pub id: SnapshotId,
    /// When its cut was complete.
    pub at: Timestamp,
    pub mark: Mark,
    /// Of files alone, between two snapshots.
    pub is_scan: bool,
    /// Of an undo, the restore that it undoes.
    pub restore: Option<RestoreId>,
    /// What moments are made from it with: logs, by source and epoch, and later looks at files.
    pub bases: BTreeSet<String>,
}

/// What holds for the whole site.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SiteFacts {
    pub is_held: bool,
    /// The restore that is open on it.
    pub open: Option<RestoreId>,
    /// The snapshot that is being restored.
    pub restoring: Option<SnapshotId>,
}

/// Why a point is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    Held,
    OpenRestore,
    Newest,
    /// Nothing good is there.
    NothingBetter,
    /// By this clock it is yet to come.
    InTheFuture,
    Window,
    /// The window's first moments stand on it.
    BaseOfWindow,
    Undo,
    Last,
    Within,
    Hourly,
    Daily,
    Weekly,
    Monthly,
    Yearly,
}

/// A point and why it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub id: SnapshotId,
    pub at: Timestamp,
    /// Ascending; none: it may be forgotten.
    pub reasons: Vec<Reason>,
}

impl Decision {
    pub fn is_kept(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// Decides about every point; in their order.
pub fn decide(
    points: &[PointFacts],
    site: SiteFacts,
    (rules, zone): (&KeepRules, &TimeZone),
    now: Timestamp,
) -> Vec<Decision> {
    let mut kept: BTreeMap<SnapshotId, BTreeSet<Reason>> = BTreeMap::new();
    let mut keep = |point: &PointFacts, reason: Reason| {
        kept.entry(point.id).or_default().insert(reason);
    };
    let window_begins = now.saturating_sub(rules.window);
    for point in points {
        let is_young = |age: Duration| point.at >= now.saturating_sub(age);
        let checks = [
            (site.is_held, Reason::Held),
            (site.restoring == Some(point.id), Reason::OpenRestore),
            (site.open.is_some() && point.restore == site.open, Reason::OpenRestore),
            (point.at > now, Reason::InTheFuture),
            (point.mark != Mark::Undo && is_young(rules.window), Reason::Window),
            (point.mark == Mark::Undo && is_young(rules.undo), Reason::Undo),
        ];
        checks.into_iter().filter(|(holds, _)| *holds).for_each(|(_, reason)| keep(point, reason));
    }
    let mut good: Vec<&PointFacts> = points.iter().filter(|point| is_good(point)).collect();
    good.sort_by_key(|point| std::cmp::Reverse((point.at, point.id)));
    match good.first() {
        Some(newest) => keep(newest, Reason::Newest),
        None => {
            let best =
                points.iter().filter(|point| point.mark != Mark::Undo && !point.is_scan).max_by_key(|point| point.at);
            best.into_iter().for_each(|best| keep(best, Reason::NothingBetter));
        }
    }
    // Of no log, and of each: the newest that the window's first moment can be made from.
    let first = good.iter().copied().find(|point| point.at <= window_begins);
    first.into_iter().for_each(|base| keep(base, Reason::BaseOfWindow));
    let mut before: Vec<&PointFacts> =
        points.iter().filter(|point| point.mark != Mark::Undo && point.at <= window_begins).collect();
    before.sort_by_key(|point| std::cmp::Reverse((point.at, point.id)));
    let mut based: BTreeSet<&str> = BTreeSet::new();
    for point in before {
        for log in &point.bases {
            if based.insert(log) {
                keep(point, Reason::BaseOfWindow);
            }
        }
    }
    good.iter().take(rules.last as usize).for_each(|point| keep(point, Reason::Last));
    if let Some(within) = rules.within {
        let since = now.saturating_sub(within);
        good.iter().filter(|point| point.at >= since).for_each(|point| keep(point, Reason::Within));
    }
    for (count, reason) in [
        (rules.hourly, Reason::Hourly),
        (rules.daily, Reason::Daily),
        (rules.weekly, Reason::Weekly),
        (rules.monthly, Reason::Monthly),
        (rules.yearly, Reason::Yearly),
    ] {
        fill(&good, count as usize, |at| slot(at, reason, zone)).for_each(|point| keep(point, reason));
    }
    let decision = |point: &PointFacts| Decision {
        id: point.id,
        at: point.at,
        reasons: kept.remove(&point.id).into_iter().flatten().collect(),
    };
    points.iter().map(decision).collect()
}

fn is_good(point: &PointFacts) -> bool {
    point.mark == Mark::Good && !point.is_scan
}

/// The newest of each slot, until so many slots are filled.
fn fill<'p>(
    newest_first: &'p [&'p PointFacts],
    count: usize,
    slot: impl Fn(Timestamp) -> [i64; 3],
) -> impl Iterator<Item = &'p PointFacts> {
    let mut filled = BTreeSet::new();
    let fills = newest_first.iter().copied().filter(move |point| filled.insert(slot(point.at)));
    fills.take(count)
}

/// The hour, day, week, month or year of a moment. An hour that a change of the clock repeats is another one.
fn slot(at: Timestamp, kind: Reason, zone: &TimeZone) -> [i64; 3] {
    let Ok(moment) = jiff::Timestamp::from_microsecond(at.0) else { return [at.0, 0, 0] };
    let local = moment.to_zoned(zone.clone());
    let day = [i64::from(local.year()), i64::from(local.month()), i64::from(local.day())];
    let offset = i64::from(local.offset().seconds());
    match kind {
        Reason::Hourly => [(at.0.div_euclid(1_000_000) + offset).div_euclid(3_600), offset, 0],
        Reason::Daily => day,
        Reason::Weekly => {
            let week = local.date().iso_week_date();
            [i64::from(week.year()), i64::from(week.week()), 0]
        }
        Reason::Monthly => [day[0], day[1], 0],
        _ => [day[0], 0, 0],
    }
}

#[cfg(test)]
mod tests;
