//! The repository inside a store: one ledger a site, and the chunks it names.
//!
//!   ingest ──▶ packs ──▶ index ──▶ manifest ──▶ commit      each arrow: "is durable before"
//!   draft  ──▶ segment                                 a source's change log: many sites in one object
//!   commit ──▶ manifest ──▶ ranged reads ──▶ verified chunks   a restore loads no index
//!
//! Invariant (commit-last): no commit names an object that is not durable and read back.
//! What is not here: where bytes come from and go to (`lifeboat-source`), what to do and in which
//! order (`lifeboat-engine`), the bytes of the format (`lifeboat-format`).

mod audit;
mod change_log;
mod check;
mod chunker;
mod clock;
mod erase;
mod error;
mod fetch;
mod index;
mod ingest;
mod keyring;
mod local_pack;
mod manifest;
mod prune;
mod recovery;
mod repository;
mod run;
mod set_aside;
mod site;
mod spill;
mod upload;

pub use audit::{Appended, AuditFinding, AuditHead, AuditReader, AuditReport, SeenAudit};
pub use change_log::{
    Appender, ChangeLog, Compacted, EpochPrune, EpochPruned, FooterMemory, Going, KnownLog, ListedSegment,
    LogCheckReport, LogFinding, LogReadStats, LogWanted, NewestEpoch, NoFooterMemory, ReadOnce, SegmentBlock,
    SegmentDraft, SegmentFacts, Unrouted,
};
pub use check::{CheckDepth, CheckReport, Finding};
pub use chunker::Chunker;
pub use clock::TrustedNow;
pub use erase::{ErasePlan, Erased};
pub use error::Error;
pub use fetch::{ChunkDamage, Delivery, FetchControl, FetchLimits, FetchStats, Wanted};
#[doc(hidden)] // for benches: which reads a restore makes
pub use fetch::{Fetch, plan_fetches};
pub use ingest::{ChunkNumber, FreshExtent, Ingest, IngestOptions, NewPart, NewSnapshot, Prepared, StoredContent};
pub use keyring::{Credential, NewKeys};
pub use lifeboat_format::{ManifestHead, ManifestPart, SigningKey, SiteKeys, audit_sites, recovery_plan_hash};
pub use local_pack::{LocalPack, LocalPackWriter};
pub use manifest::Manifest;
pub use prune::{FoundObject, PruneBlock, PruneFacts, PruneRules, Pruned, SitePrune, plan_prune};
pub use recovery::{is_signed, sign_receipt};
pub use repository::{KnownHead, Repository};
pub use set_aside::SetAside;
pub use site::{CommitOutcome, ReadingBack, Site};
pub use spill::{Spill, SpillReader, SpillSeen, SpillWriter};

/// Random bytes for a new id, from the operating system.
pub(crate) fn random_id<const LEN: usize>() -> Result<[u8; LEN], Error> {
    let mut bytes = [0u8; LEN];
    #[cfg(test)]
    if tests::fill_from_seed(&mut bytes) {
        return Ok(bytes);
    }
    getrandom::fill(&mut bytes).map_err(|error| Error::Bug(format!("no random bytes: {error}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
