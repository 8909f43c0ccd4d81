//! The nouns of Lifeboat as types: what every other crate talks about.
//!
//! No I/O, no async, no bytes-on-disk, no SQL and no buckets live here; `docs/glossary.md` defines
//! each word. Everything is a typed id or plain data, because the incident Lifeboat exists for
//! began when one kind of id was taken for another.

mod audit;
mod change;
mod change_log;
mod commit;
mod entry;
mod fault;
mod id;
mod lifecycle;
mod log_state;
mod pages;
mod path;
mod point;
mod progress;
mod receipt;
mod recovery;
mod site_state;
mod snapshot;
mod spill;
mod time;

pub use audit::{AuditAccount, AuditAction, AuditEntry, AuditRecord, AuditSites, AuditTarget};
pub use change::{
    ChangePlace, ChangedColumn, ChangedTable, ChangedValue, Lsn, NotAnLsn, RowChange, TransactionHead, TransactionId,
    Visibility,
};
pub use change_log::{
    BlockRef, ChangeCounts, ChangeKind, Epoch, EpochFacts, EpochReason, LogNote, ObjectPlace, SegmentFooter,
    SegmentSpan, SharedFacts, SharedKinds, SiteChange, SiteCount, SpanBounds, StructureChange, TransactionFacts,
    Truncation, UnroutedChange, UnroutedChanges, UnroutedRef,
};
pub use commit::{Commit, Run, RunOutcome, RunSite, RunSource};
pub use entry::{ChunkRef, Entry, EntryKind, EntryMetadata, Extent, FileTime, RowsDigest, RowsDigests, Xattr};
pub use fault::{Fault, Faulty, worst_exit_code};
pub use id::{
    AuditNumber, ChunkId, EpochId, Generation, HoldId, IdError, KeyNumber, LogCommitNumber, ObjectId, RecoveryId,
    RestoreId, RowKeyHash, RunNumber, SegmentNumber, SiteHandle, SiteId, SnapshotId, SourceName,
};
pub use lifecycle::{Condemnation, Condemned, Forgotten, Shred, Shredded, SiteObjects};
pub use log_state::{
    CondemnedSegments, LogBegin, LogCommit, LogCondemnation, LogEvent, LogMark, LogState, LongSegment,
};
pub use pages::{ChangedPage, FileState, FileStep, PageHash, PageSum, PagesChange};
pub use path::{EntryPath, PathError};
pub use point::{Mark, PointInTime, PointParseError, PointState};
pub use progress::{NoProgress, ProgressEvent, ProgressPhase, ProgressSink};
pub use receipt::{Check, PartReceipt, Receipt};
pub use recovery::{
    BadBystanderChoice, BadRecovery, BystanderChoice, BystanderLook, BystanderNote, BystanderPart, BystanderProof,
    Bystanders, CaseAim, CaseFailure, CasePlan, CaseStage, CaseState, CaseWork, HandOver, RecoveryCounts,
    RecoveryEntry, RecoveryEvent, RecoveryPlan, RecoveryRules, RecoveryRun, RecoveryState, SignedReceipt, SourceMoment,
    Touched, case_turn,
};
pub use site_state::{
    CommitEvent, DrillEnd, DrillFailed, Hold, HoldReason, IndexRef, ManifestRef, Proven, RestoreIntent, RestoreOutcome,
    SiteState, StateError, WriterIdentity,
};
pub use snapshot::{PartIdentity, PartProblem, PartRecord, PartStatus, Position, SnapshotRecord, SourceKind};
pub use spill::{SpillFacts, SpillItem, SpillMark};
pub use time::{TimeError, Timestamp};
