//! When a policy fires: cron in a time zone, and each site at its own moment after it.
//!
//! ```text
//! 0 2 * * *, spread 2h    02:00 ┬ acme (turn 0)     the window ends where the next firing begins
//!                         02:05 ├ globex (turn 1)
//!                         03:55 └ initech (turn 23)
//! ```
//!
//! Where clocks are put forward, a time of day that does not exist fires once, when the gap is over; where they are put
//! back, one that exists twice fires once, the first time. What fires in intervals (an hour or minute of `*` or `*/n`) keeps
//! its pace through both. A site's turn is a hash of its id: the same on every host and in every version.
//!
//! Invariant (turns-stay): a site keeps its place in a window for ever, so that two runs are as far apart as two firings.

use std::time::Duration;

use croner::parser::{CronParser, Seconds, Year};
use croner::{Cron, Direction};
use jiff::Zoned;
use jiff::tz::TimeZone;
use lifeboat_model::{SiteId, Timestamp};

/// A window is divided into so many moments at most: whatever begins together is one run, with one look at the sources.
const TURNS: u64 = 24;

/// When a policy fires.
#[derive(Debug, Clone)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
    spread: Duration,
}

/// Why a schedule is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    #[error("not a cron schedule of five fields, {reason}: schedule=`{text}`")]
    NotCron { text: String, reason: String },
    #[error("the schedule never fires: schedule=`{text}`")]
    Never { text: String },
    #[error("no such time zone: timezone=`{name}`")]
    NoZone { name: String },
}

/// Every zone there is, for whoever looks for the nearest name.
pub fn zone_names() -> Vec<String> {
    jiff::tz::db().available().map(|name| name.to_string()).collect()
}

impl Schedule {
    /// Five fields of cron, a zone of the IANA database, and the window over which its sites are spread.
    pub fn new(text: &str, zone: &str, spread: Duration) -> Result<Self, ScheduleError> {
        let found = jiff::tz::db().get(zone).map_err(|_| ScheduleError::NoZone { name: zone.to_owned() })?;
        let not_cron = |reason: String| ScheduleError::NotCron { text: text.to_owned(), reason };
        if text.split_whitespace().count() != 5 {
            return Err(not_cron("minute, hour, day, month and weekday are wanted".into()));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(text).map_err(|error| not_cron(plain(&error.to_string())))?;
        // No month has a 31st of February; the 29th comes within eight years, whenever one begins.
        let anywhen = Zoned::new(jiff::Timestamp::UNIX_EPOCH, TimeZone::UTC);
        let fires = cron.iter_from(anywhen.clone(), Direction::Forward).next();
        let soon = fires.is_some_and(|first| first.year() - anywhen.year() <= 30);
        if !soon {
            return Err(ScheduleError::Never { text: text.to_owned() });
        }
        Ok(Self { cron, zone: found, spread })
    }

    /// The firings around a moment.
    pub fn firings(&self, now: Timestamp) -> Firings {
        let Some(now) = self.zoned(now) else { return Firings { spread: self.spread, ..Firings::default() } };
        let back = |from: &Zoned, inclusive| self.cron.find_previous_occurrence(from, inclusive).ok();
        let last = back(&now, true);
        let before = last.as_ref().and_then(|last| back(last, false));
        let next = self.cron.find_next_occurrence(&now, false).ok();
        Firings {
            before: before.as_ref().map(timestamp),
            last: last.as_ref().map(timestamp),
            next: next.as_ref().map(timestamp),
            spread: self.spread,
        }
    }

    /// In whole seconds, as cron counts.
    fn zoned(&self, at: Timestamp) -> Option<Zoned> {
        let whole = jiff::Timestamp::from_second(at.0.div_euclid(1_000_000)).ok()?;
        Some(whole.to_zoned(self.zone.clone()))
    }
}

fn timestamp(at: &Zoned) -> Timestamp {
    Timestamp(at.timestamp().as_microsecond())
}

/// The library's sentences as a part of ours.
fn plain(reason: &str) -> String {
    let reason = reason.rsplit(": ").next().unwrap_or(reason).trim_end_matches('.');
    let mut letters = reason.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// The firings of a policy around a moment: the last two at or before it, and the next one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Firings {
    pub before: Option<Timestamp>,
    pub last: Option<Timestamp>,
    pub next: Option<Timestamp>,
    pub spread: Duration,
}

/// A site's place in every window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn(u64);

impl Turn {
    pub fn of(site: &SiteId) -> Self {
        Self(hash(site) % TURNS)
    }
}

impl Firings {
    /// When a site was to begin last, at or before `now`.
    pub fn last_of(&self, turn: Turn, now: Timestamp) -> Option<Timestamp> {
        let last = self.last.map(|last| self.moment(turn, last, self.next)).filter(|moment| *moment <= now);
        last.or_else(|| self.before.map(|before| self.moment(turn, before, self.last)))
    }

    /// When it is to begin next, after `now`.
    pub fn next_of(&self, turn: Turn, now: Timestamp) -> Option<Timestamp> {
        let last = self.last.map(|last| self.moment(turn, last, self.next)).filter(|moment| *moment > now);
        // The window of the next firing ends where nobody knows yet: its first moment is early enough to look again.
        last.or(self.next)
    }

    /// A site's own moment of a firing: within the spread, and before the firing after it.
    fn moment(&self, turn: Turn, firing: Timestamp, following: Option<Timestamp>) -> Timestamp {
        let window = following.map_or(self.spread, |following| self.spread.min(following.since(firing)));
        let micros = u64::try_from(window.as_micros()).unwrap_or(u64::MAX) / TURNS * turn.0;
        Timestamp(firing.0.saturating_add(i64::try_from(micros).unwrap_or(i64::MAX)))
    }
}

/// FNV-1a, with its high bits mixed in: a hash that no version changes.
pub(super) fn hash(site: &SiteId) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = site.as_str().as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step);
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16
}
