//! Changes of rows, as a source's own history has them: what a change log is made of.
//!
//! Changes are ordered by [`ChangePlace`]: the position of their transaction's commit, and their place
//! in it. Nothing here depends on a clock; commit times are facts about transactions.

use std::fmt;

use crate::{PagesChange, Timestamp};

/// A position in a PostgreSQL's write-ahead log, in bytes. Shown as the server does: `1/6B374D48`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a log position such as 1/6B374D48: lsn=`{0}`")]
pub struct NotAnLsn(String);

impl Lsn {
    pub fn parse(text: &str) -> Result<Self, NotAnLsn> {
        let half = |digits: &str| {
            let is_hex = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            if is_hex { u64::from_str_radix(digits, 16).ok() } else { None }
        };
        let halves = text.split_once('/').and_then(|(high, low)| half(high).zip(half(low)));
        halves.map(|(high, low)| Self(high << 32 | low)).ok_or_else(|| NotAnLsn(text.to_owned()))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// A transaction's number with its wraparounds counted, as `pg_current_xact_id()` gives it: never used
/// twice in a cluster's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub u64);

impl TransactionId {
    /// The number of 32 bits that the log has, next to one that is known to be near.
    pub fn near(low: u32, known: Self) -> Self {
        let distance = low.wrapping_sub(known.0 as u32) as i32; // of two ways round the shorter
        Self(known.0.wrapping_add_signed(i64::from(distance)))
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which transactions a snapshot of a PostgreSQL sees: `xmin:xmax:xip,…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visibility {
    /// Everything below it is over.
    pub xmin: TransactionId,
    /// Nothing from it on is seen.
    pub xmax: TransactionId,
    /// Those in between that were still running, ascending.
    pub running: Vec<TransactionId>,
}

impl Visibility {
    /// From the text of `pg_current_snapshot()`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.splitn(3, ':');
        let mut number = || fields.next()?.parse().ok().map(TransactionId);
        let (xmin, xmax) = (number()?, number()?);
        let list = fields.next()?;
        let running: Option<Vec<_>> =
            list.split(',').filter(|id| !id.is_empty()).map(|id| id.parse().ok().map(TransactionId)).collect();
        let mut running = running?;
        running.sort_unstable();
        Some(Self { xmin, xmax, running })
    }

    /// Whether the snapshot sees a transaction that has committed.
    pub fn sees(&self, id: TransactionId) -> bool {
        id < self.xmin || (id < self.xmax && self.running.binary_search(&id).is_err())
    }
}

/// Where a change stands in its source's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangePlace {
    /// Of the transaction's commit.
    pub commit: Lsn,
    /// Of the change within its transaction, from 0.
    pub sequence: u64,
}

/// What is the same for all changes of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionHead {
    pub id: TransactionId,
    pub commit: Lsn,
    pub committed_at: Timestamp,
}

/// One column's value in a row of the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ChangedValue {
    Null,
    /// Stored apart by the server and not changed: it is what it was before.
    Unchanged,
    /// As the type's output function writes it, not escaped.
    Text(Vec<u8>),
}

/// A table as the changes of it are to be read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChangedTable {
    /// As SQL prints it, quoted where it must be: `public.issues`.
    pub name: String,
    /// In the order of each row's values; without generated ones.
    pub columns: Vec<ChangedColumn>,
    /// Places of the primary key's columns; empty: it has none, and a row is known by all of its values.
    pub key: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChangedColumn {
    /// As it is in the catalogue, not quoted.
    pub name: String,
    /// As `format_type` prints it.
    pub type_name: String,
}

/// What became of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowChange {
    /// The row is this now: it was inserted.
    Insert { row: Vec<ChangedValue> },
    /// The row is this now. `key_before`: the values of its key, if they were others; in a table without
    /// a primary key, the whole row before.
    Update { row: Vec<ChangedValue>, key_before: Option<Vec<ChangedValue>> },
    /// There is no such row any more. `key`: the values of its key; without one, the whole row.
    Delete { key: Vec<ChangedValue> },
    /// Of a database file: pages instead of rows.
    Pages(Box<PagesChange>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_position_is_read_as_the_server_prints_it() {
        for (text, want) in [("0/0", 0), ("1/6B374D48", 0x1_6B37_4D48), ("FFFFFFFF/FFFFFFFF", u64::MAX)] {
            assert_eq!(Lsn::parse(text), Ok(Lsn(want)), "{text}");
            assert_eq!(Lsn(want).to_string(), text);
        }
        for text in ["", "1", "/", "1/", "x/1", "1/123456789", "1/2/3", "+1/2"] {
            assert!(Lsn::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_short_transaction_number_is_the_nearest_long_one() {
        let check = |low: u32, known: u64, want: u64| {
            assert_eq!(TransactionId::near(low, TransactionId(known)), TransactionId(want), "{low} near {known}");
        };
        check(900, 1_000, 900);
        check(1_100, 1_000, 1_100);
        check(5, (1 << 32) - 3, (1 << 32) + 5);
        check(u32::MAX, (1 << 32) + 10, (1 << 32) - 1);
        check(7, 3 << 32, (3 << 32) + 7);
    }

    #[test]
    fn a_snapshot_sees_what_was_over_when_it_was_taken() {
        let snapshot = Visibility::parse("100:110:102,105").unwrap();
        for (id, want) in [(99, true), (100, true), (102, false), (103, true), (105, false), (109, true), (110, false)]
        {
            assert_eq!(snapshot.sees(TransactionId(id)), want, "{id}");
        }
        assert!(Visibility::parse("100:100:").unwrap().running.is_empty());
        for text in ["", "1", "1:2", "a:b:", "1:2:x"] {
            assert!(Visibility::parse(text).is_none(), "{text}");
        }
    }
}
