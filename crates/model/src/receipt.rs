//! The proof a restore leaves: what was written, and which checks passed.

use std::time::Duration;

use crate::{RestoreId, SiteId, SnapshotId, SourceName, Timestamp, TransactionId};

/// What one restore did, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub restore: RestoreId,
    pub site: SiteId,
    /// The moment the site was put back to: the end of the snapshot's cut.
    pub at: Timestamp,
    pub snapshot: SnapshotId,
    pub parts: Vec<PartReceipt>,
    /// Bytes read from the store.
    pub bytes_read: u64,
    /// Requests to the store.
    pub requests: u64,
    pub duration: Duration,
    pub checks: Vec<Check>,
    /// The snapshot that `undo` restores; `None` when nothing was replaced or removed in place.
    pub undo: Option<SnapshotId>,
}

impl Receipt {
    pub fn all_passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed) && self.parts.iter().all(|part| part.digest_ok)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartReceipt {
    pub source: SourceName,
    /// Entries the part now has.
    pub entries: u64,
    pub rows: u64,
    /// Files written or replaced.
    pub files: u64,
    /// Entries, or rows, that were there and are not any more.
    pub removed: u64,
    /// Entries, or rows, that differ from the point and stay: where later work is kept.
    pub kept: u64,
    /// Bytes of content written.
    pub bytes: u64,
    /// Whether everything written was equal to what the snapshot names.
    pub digest_ok: bool,
    /// In which rows were written, as their server numbers it; `None`: none were, or there was no single one.
    pub transaction: Option<TransactionId>,
}

/// One thing that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub name: String,
    pub passed: bool,
    pub detail: String,
}
