//! What a capture tells while it goes on.

use lifeboat_model::{EpochId, EpochReason, HoldReason, Lsn, SiteId, Timestamp};

use super::CaptureReport;

/// Takes news; it must not block for long.
pub type TellNews = dyn Fn(CaptureNews) + Send + Sync;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaptureNews {
    /// A new epoch: each site of the source needs a base that joins it.
    Begun {
        epoch: EpochId,
        why: EpochReason,
        note: String,
        /// Till when the epoch before was complete: what changed since, and until now, is in no log.
        gap_from: Option<Timestamp>,
        /// Tables whose changes are not, or not all, in the log, and why.
        snapshots_only: Vec<(String, String)>,
        /// Whether the source notes each change of a table's structure.
        structure_is_noted: bool,
    },
    /// An epoch is followed on.
    Following { epoch: EpochId, complete_till: Lsn },
    /// A segment is durable.
    Sealed { epoch: EpochId, complete_till: Lsn, sealed_at: Timestamp },
    /// A site lost itself, or more than its limit: its points are held.
    Lost { site: SiteId, reason: HoldReason, note: String },
    /// Sites that need a base: something befell their own tables that is in no change of a row.
    NeedBase(Vec<SiteId>),
    /// Tables whose rows are in no log, because nobody says whose they are; none: all is well again.
    Unclassed(Vec<String>),
    /// The store does not answer: changes until then are on this host, and nowhere else. `is_first`: of this stretch.
    OnlyHere { till: Lsn, at: Timestamp, bytes: u64, is_first: bool },
    /// What was only on this host is in the log.
    OnlyHereNoMore { bytes: u64 },
    /// Tables could not be looked at; what is followed is followed on.
    LookFailed(String),
}

impl CaptureNews {
    pub(super) fn of(report: &CaptureReport) -> Self {
        let CaptureReport { epoch, complete_till, .. } = *report;
        match &report.begun {
            Some((why, note)) => Self::Begun {
                epoch,
                why: *why,
                note: note.clone(),
                gap_from: report.gap_from,
                snapshots_only: report.snapshots_only.clone(),
                structure_is_noted: report.structure_is_noted,
            },
            None => Self::Following { epoch, complete_till },
        }
    }
}
