//! The entries of a site's commit sequence, and of the repository's run sequence.

use crate::{
    CommitEvent, Generation, ObjectId, PartIdentity, RunNumber, SiteId, SiteState, SnapshotId, SourceName, Timestamp,
    WriterIdentity,
};

/// One create-if-absent entry of a site's sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    pub generation: Generation,
    /// SHA-256 of the whole commit object before it; zeros for the first.
    pub previous: [u8; 32],
    /// Random: tells our own commit from another's after an unclear failure.
    pub nonce: ObjectId,
    pub written_at: Timestamp,
    pub writer: WriterIdentity,
    pub event: CommitEvent,
    /// The state after the event.
    pub state: SiteState,
}

/// One recorded execution of a backup: every site it looked at. It makes an unchanged night a
/// real point without an object of the site's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub number: RunNumber,
    pub nonce: ObjectId,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub writer: WriterIdentity,
    pub sources: Vec<RunSource>,
    pub sites: Vec<RunSite>,
}

/// How a run found one source as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSource {
    pub source: SourceName,
    /// Sites it listed.
    pub sites: u64,
    /// Where its root was; another file system beneath it next time means that it has failed.
    pub root: Option<PartIdentity>,
    /// Why nothing was published from it.
    pub failure: Option<String>,
}

/// What a run did with one site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSite {
    pub site: SiteId,
    /// The newest commit the run saw or wrote.
    pub generation: Generation,
    /// The snapshot that holds the site as the run saw it.
    pub snapshot: Option<SnapshotId>,
    /// When the site was looked at: the time of the point.
    pub seen_at: Timestamp,
    pub outcome: RunOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunOutcome {
    /// A new snapshot was published.
    Published,
    /// Nothing had changed since `snapshot`.
    Unchanged,
    Failed {
        reason: String,
    },
    /// The sources are well and list it no more; its points are held.
    Vanished,
}
