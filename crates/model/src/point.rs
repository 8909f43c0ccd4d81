//! Which moment a person asks for, and what a point is worth.

use std::fmt;
use std::time::Duration;

use crate::{Lsn, SnapshotId, Timestamp, TransactionId};

/// The moment a person asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PointInTime {
    /// The newest good point.
    Latest,
    /// The state at this time; of what is not captured, the newest good point at or before it.
    Time(Timestamp),
    /// Exactly this snapshot, whatever its mark.
    Snapshot(SnapshotId),
    /// Every transaction of a captured database whose commit is not after this position.
    Position(Lsn),
    /// Just before this transaction's commit.
    Before(TransactionId),
    /// Just before the newest note of this text that an application wrote into the log.
    BeforeNote(String),
    /// All that is captured, or all up to a position, without this one transaction.
    Without { transaction: TransactionId, till: Option<Lsn> },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PointParseError {
    /// `whole`: what was asked, with its time of day, so that a zone can be put behind it.
    #[error("a time needs a zone: at=`{asked}`")]
    NoZone { asked: String, whole: String },
    #[error("the asked time lies in the future: at=`{asked}`, now=`{now}`")]
    Future { asked: String, now: Timestamp },
    #[error("not a snapshot id (16 hex digits): at=`{0}`")]
    NotASnapshot(String),
    #[error("not a position in a database's log, such as lsn:1/6B374D48: at=`{0}`")]
    NotAPosition(String),
    #[error("not a number of a transaction: at=`{0}`")]
    NotATransaction(String),
    #[error("not a point in time: at=`{0}`")]
    NotAPoint(String),
}

impl PointInTime {
    /// Reads `--at`: RFC 3339 with a zone, `latest`, `snapshot:<id>`, or a duration ago (`90s`,
    /// `15m`, `2h`, `3d`, `1w`), `lsn:<x>`, `before-xid:<n>`, `before:<note>`, `without-xid:<n>`.
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, PointParseError> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        if let Some(id) = text.strip_prefix("snapshot:") {
            return SnapshotId::parse(id)
                .map(Self::Snapshot)
                .map_err(|_| PointParseError::NotASnapshot(text.to_owned()));
        }
        if let Some(captured) = Self::parse_captured(text) {
            return captured;
        }
        if let Some(ago) = parse_duration(text) {
            return Ok(Self::Time(now.saturating_sub(ago)));
        }
        match Timestamp::parse(text) {
            Ok(asked) if asked > now => Err(PointParseError::Future { asked: text.to_owned(), now }),
            Ok(asked) => Ok(Self::Time(asked)),
            Err(crate::TimeError::NoZone { asked, whole }) => Err(PointParseError::NoZone { asked, whole }),
            Err(crate::TimeError::NotATime(_)) => Err(PointParseError::NotAPoint(text.to_owned())),
        }
    }
}

impl PointInTime {
    /// What only the log of a captured source knows; `None`: the text is nothing of the kind.
    fn parse_captured(text: &str) -> Option<Result<Self, PointParseError>> {
        let position = |lsn: &str| Lsn::parse(lsn).map_err(|_| PointParseError::NotAPosition(text.to_owned()));
        let transaction = |id: &str| {
            let is_number = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
            let number = id.parse().ok().filter(|_| is_number);
            number.map(TransactionId).ok_or_else(|| PointParseError::NotATransaction(text.to_owned()))
        };
        if let Some(lsn) = text.strip_prefix("lsn:") {
            return Some(position(lsn).map(Self::Position));
        }
        if let Some(id) = text.strip_prefix("before-xid:") {
            return Some(transaction(id).map(Self::Before));
        }
        if let Some(id) = text.strip_prefix("without-xid:") {
            let (id, till) = match id.split_once('@') {
                Some((id, till)) => (id, Some(position(till))),
                None => (id, None),
            };
            let till = till.transpose();
            return Some(till.and_then(|till| Ok(Self::Without { transaction: transaction(id)?, till })));
        }
        let note = text.strip_prefix("before:")?;
        Some(match note {
            "" => Err(PointParseError::NotAPoint(text.to_owned())),
            note => Ok(Self::BeforeNote(note.to_owned())),
        })
    }
}

/// As `--at` takes it.
impl fmt::Display for PointInTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Time(time) => time.fmt(f),
            Self::Snapshot(id) => write!(f, "snapshot:{id}"),
            Self::Position(lsn) => write!(f, "lsn:{lsn}"),
            Self::Before(id) => write!(f, "before-xid:{id}"),
            Self::BeforeNote(note) => write!(f, "before:{note}"),
            Self::Without { transaction, till: None } => write!(f, "without-xid:{transaction}"),
            Self::Without { transaction, till: Some(till) } => write!(f, "without-xid:{transaction}@{till}"),
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
                Ok(point) => {
                    assert_eq!(PointInTime::parse(&point.to_string(), now).as_ref(), Ok(&point), "{text}");
                    assert_eq!(got, Ok(point), "{text}");
                }
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
        check("lsn:1/6B374D48", Ok(PointInTime::Position(Lsn(0x1_6B37_4D48))));
        check("before-xid:731", Ok(PointInTime::Before(TransactionId(731))));
        check("before:deploy 42", Ok(PointInTime::BeforeNote("deploy 42".into())));
        let without = |till| PointInTime::Without { transaction: TransactionId(731), till };
        check("without-xid:731", Ok(without(None)));
        check("without-xid:731@0/10", Ok(without(Some(Lsn(16)))));
        check("lsn:16", Err("not a position"));
        check("before-xid:+7", Err("not a number of a transaction"));
        check("without-xid:7@", Err("not a position"));
        check("before:", Err("not a point in time"));
        check("soon", Err("not a point in time"));
        check("", Err("not a point in time"));
        check("99999999999999999999w", Err("not a point in time"));
    }
}
