//! How a long verb tells whoever watches what it is doing.
//!
//! The engine reports facts; the command line turns them into bars on a terminal and into nothing
//! anywhere else. Reports come from many threads and must be cheap.

use crate::SiteId;

/// One thing that just happened in a long verb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgressEvent {
    /// How many sites the verb is going to work on.
    SitesPlanned {
        sites: u64,
    },
    SiteStarted {
        site: SiteId,
    },
    /// What a site's current phase is expected to move; may be corrected at any time.
    SiteSized {
        site: SiteId,
        bytes: u64,
        entries: u64,
    },
    PhaseChanged {
        site: SiteId,
        phase: ProgressPhase,
    },
    /// This many more bytes of content are done.
    BytesDone {
        site: SiteId,
        bytes: u64,
    },
    /// One more entry is done.
    EntryDone {
        site: SiteId,
    },
    SiteFinished {
        site: SiteId,
        ok: bool,
    },
}

/// What a site is going through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProgressPhase {
    /// Reading the source and uploading what is new.
    BackingUp,
    /// Reading facts for a plan.
    Planning,
    /// Keeping what will be replaced.
    KeepingUndo,
    /// Writing beside the live data.
    Staging,
    Verifying,
    /// Putting the verified data in place.
    Switching,
    /// Reading stored objects back.
    Checking,
}

/// Where reports of progress go.
pub trait ProgressSink: Send + Sync {
    fn report(&self, event: ProgressEvent);
}

/// Nobody watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl ProgressSink for NoProgress {
    fn report(&self, _event: ProgressEvent) {}
}
