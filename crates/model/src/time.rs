//! Points on the clock, as microseconds since 1970-01-01T00:00:00Z.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds since the Unix epoch, UTC. Shown and read as RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimeError {
    /// `whole`: what was asked, with its time of day, so that a zone can be put behind it.
    #[error("a time needs a zone: time=`{asked}`")]
    NoZone { asked: String, whole: String },
    #[error("not a time in RFC 3339: time=`{0}`")]
    NotATime(String),
}

impl Timestamp {
    pub fn now() -> Self {
        Self::from(SystemTime::now())
    }

    /// Reads RFC 3339 with a zone (`Z` or an offset); a time without one is refused, because at
    /// 3 a.m. nobody knows which zone the writer had in mind.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
            return Ok(Self(timestamp.as_microsecond()));
        }
        match text.parse::<jiff::civil::DateTime>() {
            Ok(local) => Err(TimeError::NoZone { asked: text.to_owned(), whole: local.to_string() }),
            Err(_) => Err(TimeError::NotATime(text.to_owned())),
        }
    }

    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(micros(duration)))
    }

    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Self(match time.duration_since(UNIX_EPOCH) {
            Ok(after) => micros(after),
            Err(before) => -micros(before.duration()),
        })
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds dropped when zero, e.g. `2022-04-05T07:38:00Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(timestamp) => timestamp.fmt(f),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_without_a_zone_is_refused() {
        assert_eq!(Timestamp::parse("2022-04-05T07:38:00Z").map(|t| t.to_string()), Ok("2022-04-05T07:38:00Z".into()));
        assert_eq!(Timestamp::parse("2022-04-05T09:38:00+02:00"), Timestamp::parse("2022-04-05T07:38:00Z"));
        let check = |asked: &str, want: &str| {
            let want = TimeError::NoZone { asked: asked.into(), whole: want.into() };
            assert_eq!(Timestamp::parse(asked), Err(want));
        };
        check("2022-04-05T07:38:00", "2022-04-05T07:38:00");
        check("2022-04-05 07:38", "2022-04-05T07:38:00");
        check("2022-04-05", "2022-04-05T00:00:00");
        assert!(matches!(Timestamp::parse("yesterday"), Err(TimeError::NotATime(_))));
    }
}
