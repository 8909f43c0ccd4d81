//! What a person asks a restore for.

use std::path::PathBuf;

use lifeboat_model::{EntryPath, PointInTime, RestoreId, SiteId, SourceName};

/// One site, one moment, one place.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    pub site: SiteId,
    pub point: RestorePoint,
    pub only: Option<Only>,
    pub target: RestoreTarget,
    /// The id of the restore, where it is no matter of chance; one that goes on with another has that one's.
    pub restore: Option<RestoreId>,
    /// Replace the restore that is open on this site; its next switch fails.
    pub take_over: bool,
    /// Leave out what is damaged in the repository, by name, and restore the rest.
    pub skip_damaged: bool,
    /// Read everything staged back before the switch.
    pub verify_read: bool,
    /// Compare content before planning, so that the plan's counts are exact and not upper limits.
    pub exact: bool,
    /// In place: only what is missing now comes back; what is there stays as it is.
    pub keep_later: bool,
}

impl RestoreRequest {
    /// What the plan's hash says of the point: an undo and a restore of the same snapshot differ.
    pub(super) fn point_name(&self) -> Option<RestoreId> {
        match self.point {
            RestorePoint::At(_) => None,
            RestorePoint::Undo(restore) => Some(restore),
        }
    }
}

/// What is put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestorePoint {
    /// The whole site at a moment.
    At(PointInTime),
    /// What this restore replaced and removed.
    Undo(RestoreId),
}

/// One part, or one entry of it with all that is beneath.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Only {
    pub part: SourceName,
    pub entry: Option<EntryPath>,
    /// The same read as a table of rows and keys of it, `TABLE[KEYS]`. Without an entry beside it
    /// nothing else can be meant.
    pub keys: Option<(EntryPath, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreTarget {
    InPlace,
    /// As if it were a site of this name.
    Beside(SiteId),
    /// A directory that holds one directory a part.
    Export(PathBuf),
}

/// A directory of the operator's choice that cannot be made.
pub(super) fn cannot_make(directory: &std::path::Path, io: std::io::Error) -> crate::Error {
    crate::Error::Conflict {
        detail: format!("cannot make the directory: path=`{}`: {io}", directory.display()),
        hint: "name a directory below one that exists and that you may write".into(),
    }
}
