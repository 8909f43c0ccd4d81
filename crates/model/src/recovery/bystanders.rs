//! Bystanders: sites beside a recovery that nobody may have touched, looked at before its first case and after its last.
//!
//!   look ─▶ cases ─▶ look ─▶ equal? changed by its own users, as the change log says? not proven? touched!
//!
//! What is not here: how they are looked at and compared (`lifeboat-engine`), and when (`lifeboat-control`).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::{Lsn, SiteId, SourceName, Timestamp, TransactionId, Visibility};

/// Sites that a sample without a number has.
const SAMPLE: u32 = 20;

/// Which bystanders are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BystanderChoice {
    None,
    /// So many, chosen by the recovery's id.
    Sample(u32),
    All,
}

/// What a recovery's journal says of bystanders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bystanders {
    /// As they were before what follows; kept until it is proven.
    Looked(Arc<BystanderLook>),
    Proven(Arc<BystanderProof>),
}

/// Bystanders at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BystanderLook {
    pub looked_at: Timestamp,
    /// Sites that are not in the recovery, as far as anybody knows.
    pub others: u64,
    pub moments: Vec<SourceMoment>,
    /// Ascending by site and source.
    pub parts: Vec<BystanderPart>,
}

/// One part of one bystander.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BystanderPart {
    pub site: SiteId,
    pub source: SourceName,
    /// Of all that its change would change; `None`: it could not be read, or not in time.
    pub digest: Option<[u8; 32]>,
}

/// Where a database stood at a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceMoment {
    pub source: SourceName,
    pub lsn: Lsn,
    /// As `pg_current_snapshot()` prints it.
    pub sees: String,
}

impl SourceMoment {
    /// `None`: it is not a snapshot that we know how to read.
    pub fn visibility(&self) -> Option<Visibility> {
        Visibility::parse(&self.sees)
    }
}

/// What two looks, and the change logs between them, have shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BystanderProof {
    pub proven_at: Timestamp,
    /// Sites that are not in the recovery, those of them that were asked for, and what became of these.
    pub others: u64,
    pub looked: u64,
    pub equal: u64,
    /// Changed, and the log says by which other transactions.
    pub own_users: u64,
    /// Changed, and nobody can say by whom.
    pub not_proven: u64,
    /// Could not be read both times, or were not reached in time.
    pub not_comparable: u64,
    /// Transactions in which the recovery wrote, or may have, to databases that are captured, and those of them that the
    /// logs have: whose every change was looked at.
    pub transactions: u64,
    pub transactions_logged: u64,
    /// A change that is not proven fails the proof.
    pub must_be_quiet: bool,
    /// What is to be known of single sites, the first of each kind.
    pub notes: Vec<BystanderNote>,
    /// What the recovery's transactions wrote to sites that are not theirs, the first of it. Nothing should be here.
    pub touched: Vec<Touched>,
}

/// One part whose being untouched is not proven, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BystanderNote {
    pub site: SiteId,
    pub source: SourceName,
    pub detail: String,
}

/// A restore's transaction has written to another site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    pub site: SiteId,
    pub source: SourceName,
    pub table: String,
    pub transaction: TransactionId,
    /// The site that the transaction restored.
    pub by: SiteId,
}

impl BystanderProof {
    /// Whether somebody was touched, or must be taken to have been.
    pub fn has_failed(&self) -> bool {
        !self.touched.is_empty() || (self.must_be_quiet && !self.is_whole())
    }

    /// Sites of which both looks are known.
    pub fn compared(&self) -> u64 {
        self.looked.saturating_sub(self.not_comparable)
    }

    /// Whether nothing is open: of nobody who was asked for, and of no restore that a log should have. Where there are
    /// others and none of them was looked at, nothing is shown.
    fn is_whole(&self) -> bool {
        let has_looked = self.compared() > 0 || self.others == 0;
        let has_read = self.transactions_logged >= self.transactions;
        has_looked && has_read && self.not_proven + self.not_comparable == 0
    }
}

impl Default for BystanderChoice {
    fn default() -> Self {
        Self::Sample(SAMPLE)
    }
}

/// Not one of `none`, `sample:N` and `all`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a choice of bystanders: bystanders=`{text}`; it is none, all, or sample:N")]
pub struct BadBystanderChoice {
    text: String,
}

impl FromStr for BystanderChoice {
    type Err = BadBystanderChoice;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = || text.strip_prefix("sample:")?.parse().ok().filter(|number| *number > 0).map(Self::Sample);
        match text {
            "none" => Ok(Self::None),
            "all" => Ok(Self::All),
            "sample" => Ok(Self::Sample(SAMPLE)),
            _ => number().ok_or_else(|| BadBystanderChoice { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for BystanderChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Sample(number) => write!(f, "sample:{number}"),
            Self::All => f.write_str("all"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_read_as_it_is_printed_and_nothing_else_is_one() {
        for (text, want) in
            [("none", BystanderChoice::None), ("all", BystanderChoice::All), ("sample:7", BystanderChoice::Sample(7))]
        {
            assert_eq!(text.parse(), Ok(want));
            assert_eq!(want.to_string(), text);
        }
        assert_eq!("sample".parse(), Ok(BystanderChoice::default()));
        for wrong in ["", "sample:", "sample:0", "sample:-1", "20", "All", "sample:20%"] {
            assert!(wrong.parse::<BystanderChoice>().is_err(), "{wrong}");
        }
    }
}
