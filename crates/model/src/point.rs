//! Which moment a person asks for, and what a point is worth.

use std::time::Duration;

use crate::{SnapshotId, Timestamp};

/// The moment a person asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointInTime {
    /// The newest good point.
    Latest,
    /// The state at this time: the newest good point at or before it.
    Time(Timestamp),
    /// Exactly this snapshot, whatever its mark.
    Snapshot(SnapshotId),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PointParseError {
    #[error("a time needs a zone: at=`{0}`")]
    NoZone(String),
    #[error("the asked time lies in the future: at=`{asked}`, now=`{now}`")]
    Future { asked: String, now: Timestamp },
    #[error("not a snapshot id (16 hex digits): at=`{0}`")]
    NotASnapshot(String),
    #[error("not in this version: at=`{0}`")]
    NotInThisVersion(String),
    #[error("not a point in time: at=`{0}`")]
    NotAPoint(String),
}

impl PointInTime {
    /// Reads `--at`: RFC 3339 with a zone, `latest`, `snapshot:<id>`, or a duration ago (`90s`,
    /// `15m`, `2h`, `3d`, `1w`).
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, PointParseError> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        if let Some(id) = text.strip_prefix("snapshot:") {
            return SnapshotId::parse(id)
                .map(Self::Snapshot)
                .map_err(|_| PointParseError::NotASnapshot(text.to_owned()));
        }
        if ["lsn:", "before-xid:", "before:"].iter().any(|prefix| text.starts_with(prefix)) {
            return Err(PointParseError::NotInThisVersion(text.to_owned()));
        }
        if let Some(ago) = parse_duration(text) {
            return Ok(Self::Time(now.saturating_sub(ago)));
        }
        match Timestamp::parse(text) {
            Ok(asked) if asked > now => Err(PointParseError::Future { asked: text.to_owned(), now }),
            Ok(asked) => Ok(Self::Time(asked)),
            Err(crate::TimeError::NoZone(_)) => Err(PointParseError::NoZone(text.to_owned())),
            Err(crate::TimeError::NotATime(_)) => Err(PointParseError::NotAPoint(text.to_owned())),
        }
    }
}

/// A whole number and one unit: `s`, `m`, `h`, `d` or `w`.
fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return None,
    };
    count.checked_mul(seconds).map(Duration::from_secs)
}

/// What a snapshot is worth; only `Good` ones are ever `latest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mark {
    /// Whole, and of a plausible size.
    Good,
    /// A part or an entry is missing, or a restore ran at the same time.
    Incomplete,
    /// The site shrank beyond its limit since the point before.
    Suspect,
    /// What a restore replaced or removed: only the difference, the input of `undo`.
    Undo,
}

/// How far a point has been proven, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PointState {
    /// Its objects were accepted by the store.
    Written,
    /// Each of its objects was read back from the store and was equal.
    ReadBack,
    /// It was restored, and the restore was verified.
    Proven,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_at_is_read_or_refused_by_name() {
        let now = Timestamp(1_700_000_000_000_000);
        let check = |text: &str, want: Result<PointInTime, &str>| {
            let got = PointInTime::parse(text, now).map_err(|error| error.to_string());
            match want {
                Ok(point) => assert_eq!(got, Ok(point), "{text}"),
                Err(part) => assert!(got.as_ref().is_err_and(|e| e.contains(part)), "{text}: {got:?}"),
            }
        };
        check("latest", Ok(PointInTime::Latest));
        check("snapshot:00000000000000ff", Ok(PointInTime::Snapshot(SnapshotId([0, 0, 0, 0, 0, 0, 0, 255]))));
        check("2h", Ok(PointInTime::Time(Timestamp(now.0 - 7_200_000_000))));
        check("2023-11-14T22:13:20Z", Ok(PointInTime::Time(now)));
        check("2023-11-14T22:13:21Z", Err("future"));
        check("2023-11-14T22:13:20", Err("zone"));
        check("snapshot:xyz", Err("16 hex digits"));
        check("lsn:0/1", Err("not in this version"));
        check("soon", Err("not a point in time"));
        check("", Err("not a point in time"));
        check("99999999999999999999w", Err("not a point in time"));
    }
}
