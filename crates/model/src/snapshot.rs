//! A whole site at one moment, as the commit sequence remembers it.

use crate::{Forgotten, Generation, ManifestRef, Mark, PointState, RestoreId, SnapshotId, SourceName, Timestamp};

/// One snapshot of one site: what `points` lists and a restore starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRecord {
    pub id: SnapshotId,
    /// The commit that published it.
    pub generation: Generation,
    pub manifest: ManifestRef,
    pub mark: Mark,
    /// Why it is not good, for a person.
    pub mark_reason: Option<String>,
    pub state: PointState,
    /// The cut: the first part was read from `cut_from`, the last one till `cut_till`.
    pub cut_from: Timestamp,
    pub cut_till: Timestamp,
    /// The snapshot whose manifest served for change detection.
    pub parent: Option<SnapshotId>,
    /// Entries, all parts together.
    pub entries: u64,
    /// Plain bytes of content, all parts together.
    pub logical_bytes: u64,
    /// Bytes this snapshot added to the store.
    pub added_bytes: u64,
    pub parts: Vec<PartRecord>,
    /// For [`Mark::Undo`]: the restore that it undoes.
    pub restore: Option<RestoreId>,
    /// For [`Mark::Undo`], where that restore put back a moment that no snapshot is: the moment, as
    /// `PointInTime` prints it.
    pub moment: Option<String>,
    /// Of files alone, as they were between two snapshots: its other parts were not looked at. Never good.
    pub is_scan: bool,
    /// Of a snapshot in [`SiteState::forgotten`](crate::SiteState::forgotten), and of no other.
    pub forgotten: Option<Forgotten>,
}

impl SnapshotRecord {
    /// Whether it only says that nothing was there yet: the site was first seen in the change log.
    pub fn is_birth(&self) -> bool {
        let is_of_nothing = self.parts.iter().all(|part| part.status == PartStatus::Absent);
        self.mark == Mark::Suspect && self.parent.is_none() && is_of_nothing
    }
}

/// One part of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartRecord {
    pub source: SourceName,
    pub kind: SourceKind,
    pub status: PartStatus,
    pub entries: u64,
    pub logical_bytes: u64,
    /// When its source was read.
    pub cut_from: Timestamp,
    pub cut_till: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartStatus {
    Complete,
    /// The site has no such part now, and the source is well: recorded so that a restore removes it.
    Absent,
    /// Entries are missing or uncertain; their problems are in the manifest.
    Incomplete {
        problems: u64,
    },
    /// The part could not be read at all.
    Failed {
        reason: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SourceKind {
    Files,
    Sqlite,
    Postgres,
}

/// A point in one source's history, for a person and for comparison by the source that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position(pub String);

/// Where a part was read: a restore onto another identity is a conflict to be confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartIdentity {
    /// The machine, as its operating system names itself (`/etc/machine-id`), hashed.
    pub machine: String,
    /// The file system that holds the part, as `statfs` numbers it.
    pub filesystem: String,
    /// The path of the part, escaped where it is not text.
    pub path: String,
}

/// One thing that could not be read as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartProblem {
    /// The entry, escaped where it is not text; empty for the part as a whole.
    pub entry: String,
    pub reason: String,
}
