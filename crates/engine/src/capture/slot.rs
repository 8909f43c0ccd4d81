//! The slot of a capture, seen from outside: how much of the server's disk it holds, and whether that is too much.
//!
//! A slot keeps the server's log until it is confirmed. While the store is down nothing is, and the disk that
//! fills is the operator's: rather than that, the slot is given up, which is a gap and a new epoch.

use lifeboat_model::{Lsn, SourceName};
use lifeboat_source::postgres::capture::SlotSeen;

use super::postgres_source;
use crate::{Engine, Error};

/// A slot as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotWatch {
    /// The server's word: `reserved`, `extended`, `unreserved`, `lost`.
    pub wal_status: String,
    /// Log that the server keeps for it.
    pub kept_bytes: u64,
    /// Log that may still be written before the server throws away what it keeps; `None`: without limit.
    pub safe_bytes: Option<u64>,
    /// `max_slot_wal_keep_size`, as it is set; `-1`: without limit.
    pub keep_size: String,
    pub confirmed: Option<Lsn>,
    pub is_followed: bool,
    /// Why it can be followed no further.
    pub lost: Option<String>,
}

/// How near the end is, from well to worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SlotDanger {
    None,
    /// Half of what the server keeps at most, or of what may be kept, is used.
    Half,
    /// More is kept than may be.
    Beyond,
    Lost,
}

impl SlotWatch {
    /// How near the end is, when `limit_bytes` of log may be kept at most.
    pub fn danger(&self, limit_bytes: u64) -> SlotDanger {
        if self.lost.is_some() {
            return SlotDanger::Lost;
        }
        if self.kept_bytes >= limit_bytes {
            return SlotDanger::Beyond;
        }
        // What is kept and what may still come make the server's limit together.
        let is_half_of_server = self.safe_bytes.is_some_and(|safe| safe < self.kept_bytes);
        let is_half = is_half_of_server || self.kept_bytes >= limit_bytes / 2;
        if is_half { SlotDanger::Half } else { SlotDanger::None }
    }

    fn of(seen: SlotSeen) -> Self {
        let SlotSeen { facts, is_followed, lost } = seen;
        let bytes = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
        Self {
            wal_status: facts.wal_status,
            kept_bytes: facts.kept_bytes.map_or(0, bytes),
            safe_bytes: facts.safe_wal_bytes.map(bytes),
            keep_size: facts.keep_size,
            confirmed: facts.confirmed,
            is_followed,
            lost,
        }
    }
}

/// The slot of a source's capture; `None`: there is none. Blocks.
pub fn look_at_slot(engine: &Engine, source: &SourceName) -> Result<Option<SlotWatch>, Error> {
    Ok(postgres_source(engine, source)?.capture_slot()?.map(SlotWatch::of))
}

/// Drops the slot of a source's capture, which nobody may follow now. Blocks.
pub fn give_up_slot(engine: &Engine, source: &SourceName) -> Result<(), Error> {
    Ok(postgres_source(engine, source)?.drop_capture_slot()?)
}

/// What has become different about a source's tables: a line each. Blocks, and changes nothing.
pub fn look_for_drift(engine: &Engine, source: &SourceName) -> Result<Vec<String>, Error> {
    let drift = postgres_source(engine, source)?.drift()?;
    let unclassed = drift.unclassed.iter().map(|table| format!("whose rows are those of it? table=`{table}`"));
    Ok(unclassed.chain(drift.differences.iter().map(ToString::to_string)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_in_danger_from_half_of_either_limit_on() {
        let check = |kept: u64, safe: Option<u64>, want: SlotDanger| {
            let slot = SlotWatch {
                wal_status: "reserved".into(),
                kept_bytes: kept,
                safe_bytes: safe,
                keep_size: "-1".into(),
                confirmed: None,
                is_followed: true,
                lost: None,
            };
            assert_eq!(slot.danger(100), want, "{kept} {safe:?}");
            let lost = SlotWatch { lost: Some("wal_removed".into()), ..slot };
            assert_eq!(lost.danger(100), SlotDanger::Lost);
        };
        check(0, None, SlotDanger::None);
        check(49, None, SlotDanger::None);
        check(50, None, SlotDanger::Half);
        check(99, Some(1_000), SlotDanger::Half);
        check(100, None, SlotDanger::Beyond);
        check(10, Some(10), SlotDanger::None);
        check(11, Some(9), SlotDanger::Half);
    }
}
