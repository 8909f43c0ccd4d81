//! The change log of a source: epochs, their segments, and what a segment says of itself.
//!
//! A segment holds the changes of a span of its source's history: a block for each site that has
//! some, and beside them what belongs to no site alone. Its footer says where each block is. Plain
//! data: bytes are `lifeboat-format`'s, objects `lifeboat-repo`'s.

use std::sync::Arc;

use crate::{
    ChangePlace, ChangedTable, EpochId, FileStep, Lsn, ObjectId, RowChange, RowKeyHash, SegmentNumber, SiteId,
    SourceKind, SourceName, Timestamp, TransactionHead, TransactionId, WriterIdentity,
};

/// A stretch of a source's history without a gap, as its first object says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    pub id: EpochId,
    /// Random: tells our own epoch from another's after an unclear failure; its first segment names it.
    pub nonce: ObjectId,
    pub writer: WriterIdentity,
    pub facts: EpochFacts,
}

/// What an epoch follows, where it begins, and why it had to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochFacts {
    pub source: SourceName,
    pub kind: SourceKind,
    /// Of the server, as `pg_control_system()` prints it: never the same for two clusters.
    pub system_identifier: String,
    pub timeline: u32,
    pub slot: String,
    pub database: String,
    /// Every change with a later commit is in the epoch.
    pub begins: Lsn,
    /// What the snapshot sees that the slot was made with: `xmin:xmax:xip,…`.
    pub snapshot: String,
    pub begun_at: Timestamp,
    pub why: EpochReason,
    /// More about why, for a person.
    pub note: String,
    /// Where it was found late: what the epoch before says of any time after this one may lack changes.
    pub sound_till: Option<Timestamp>,
    /// Tables whose changes are not, or not all, in the epoch.
    pub partly: Vec<String>,
}

/// Why an epoch was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EpochReason {
    /// There was none before.
    First,
    /// The slot is gone, or the server has thrown away what it had not yet sent.
    SlotLost,
    /// Another server, or the same one on another timeline.
    Failover,
    /// A table came to its rows, or lost them, otherwise than by changes that the source sends: written anew,
    /// dropped, named otherwise, or taken out of what is followed.
    TableRewritten,
    /// A person asked for it.
    Asked,
}

/// Which part of the source's history a segment covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentSpan {
    /// Till here everything was complete before this segment.
    pub from: Lsn,
    /// Every transaction whose commit is not after this is wholly in segments up to this one.
    pub complete_till: Lsn,
    /// `None`: the segment holds no transaction, and only says that there was none.
    pub bounds: Option<SpanBounds>,
    /// The highest number of a transaction in the epoch up to here; 0: there is none. `None`: it was written before this was
    /// told.
    pub highest: Option<TransactionId>,
}

/// Between which bounds the transactions of a segment lie, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanBounds {
    pub first_commit: Lsn,
    pub last_commit: Lsn,
    /// By the source's clock, which need not ascend with the commits.
    pub earliest: Timestamp,
    pub latest: Timestamp,
    pub lowest: TransactionId,
    pub highest: TransactionId,
}

impl SpanBounds {
    /// The bounds of one transaction.
    pub fn of(head: &TransactionHead) -> Self {
        let TransactionHead { id, commit, committed_at } = *head;
        Self {
            first_commit: commit,
            last_commit: commit,
            earliest: committed_at,
            latest: committed_at,
            lowest: id,
            highest: id,
        }
    }

    /// These bounds, wide enough for one more transaction.
    pub fn with(self, head: &TransactionHead) -> Self {
        let one = Self::of(head);
        Self {
            first_commit: self.first_commit.min(one.first_commit),
            last_commit: self.last_commit.max(one.last_commit),
            earliest: self.earliest.min(one.earliest),
            latest: self.latest.max(one.latest),
            lowest: self.lowest.min(one.lowest),
            highest: self.highest.max(one.highest),
        }
    }
}

/// Where a sealed object lies within a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectPlace {
    pub id: ObjectId,
    pub offset: u64,
    /// Bytes of the whole object.
    pub len: u64,
}

/// How many rows were inserted, updated and deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChangeCounts {
    pub inserts: u64,
    pub updates: u64,
    pub deletes: u64,
}

impl ChangeCounts {
    pub fn changes(&self) -> u64 {
        self.inserts.saturating_add(self.updates).saturating_add(self.deletes)
    }

    pub fn count(&mut self, kind: ChangeKind) {
        match kind {
            ChangeKind::Insert => self.inserts += 1,
            ChangeKind::Update => self.updates += 1,
            ChangeKind::Delete => self.deletes += 1,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    Insert,
    Update,
    Delete,
}

impl RowChange {
    pub fn kind(&self) -> ChangeKind {
        match self {
            Self::Insert { .. } => ChangeKind::Insert,
            Self::Update { .. } => ChangeKind::Update,
            Self::Delete { .. } => ChangeKind::Delete,
            Self::Pages(pages) => match pages.step {
                Some(FileStep { before: None, .. }) => ChangeKind::Insert,
                Some(FileStep { after: None, .. }) => ChangeKind::Delete,
                _ => ChangeKind::Update,
            },
        }
    }
}

/// One site's changes in a segment: where they are, and what one can know without reading them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockRef {
    pub site: SiteId,
    pub place: ObjectPlace,
    pub counts: ChangeCounts,
    pub first: ChangePlace,
    pub last: ChangePlace,
}

/// What a segment says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFooter {
    pub source: SourceName,
    pub epoch: EpochId,
    pub number: SegmentNumber,
    /// Of this footer; the next segment names it.
    pub id: ObjectId,
    /// Id of the footer before; of the first segment, the epoch's nonce.
    pub previous: ObjectId,
    pub span: SegmentSpan,
    /// Till when the log is known to lack nothing, by the source's clock: about when it was written, and earlier
    /// while a capture catches up. Of the last segment of an epoch, when the next one was begun.
    pub sealed_at: Timestamp,
    /// Ascending by site, each once.
    pub blocks: Vec<BlockRef>,
    pub shared: Option<ObjectPlace>,
    pub unrouted: Option<UnroutedRef>,
    /// This is the last segment of its epoch: the source is followed on in that one.
    pub followed_by: Option<EpochId>,
    /// What the shared block tells beside transactions; `None`: unknown.
    pub shared_kinds: Option<SharedKinds>,
}

impl SegmentFooter {
    /// The block of one site.
    pub fn block(&self, site: &SiteId) -> Option<&BlockRef> {
        self.blocks.binary_search_by(|block| block.site.cmp(site)).ok().and_then(|at| self.blocks.get(at))
    }

    /// Whether the shared block may tell of one of these: it does, or nobody knows that it does not.
    pub fn may_tell(&self, kinds: SharedKinds) -> bool {
        self.shared.is_some() && self.shared_kinds.is_none_or(|told| told.has_any(kinds))
    }
}

/// What a shared block tells beside transactions, as a set. A block whose footer says so holds exactly the transactions
/// that the bounds of its segment's span are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedKinds(pub u64);

impl SharedKinds {
    pub const TRUNCATIONS: Self = Self(1);
    pub const STRUCTURE: Self = Self(2);
    /// Notes of the capture itself, by their prefix.
    pub const OWN_NOTES: Self = Self(4);
    /// Notes of applications.
    pub const OTHER_NOTES: Self = Self(8);
    pub const NOTES: Self = Self::OWN_NOTES.and(Self::OTHER_NOTES);
    const KNOWN: Self = Self(15);

    /// Prefix of the notes that the capture itself makes.
    pub const OWN_PREFIX: &str = "lifeboat.";

    pub fn of(facts: &SharedFacts) -> Self {
        let has = |is_there: bool, kind: Self| if is_there { kind } else { Self(0) };
        let is_own = |note: &LogNote| note.prefix.starts_with(Self::OWN_PREFIX);
        has(!facts.truncations.is_empty(), Self::TRUNCATIONS)
            .and(has(!facts.structure.is_empty(), Self::STRUCTURE))
            .and(has(facts.notes.iter().any(is_own), Self::OWN_NOTES))
            .and(has(!facts.notes.iter().all(is_own), Self::OTHER_NOTES))
    }

    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Without those that only a later version knows.
    #[must_use]
    pub fn known(self) -> Self {
        Self(self.0 & Self::KNOWN.0)
    }

    /// Whether it has one of these, or one that only a later version knows.
    pub fn has_any(self, kinds: Self) -> bool {
        self.0 & (kinds.0 | !Self::KNOWN.0) != 0
    }
}

/// Where the changes are whose site nobody could tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnroutedRef {
    pub place: ObjectPlace,
    pub changes: u64,
}

/// One change of one site, as a block gives it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteChange {
    /// Within the transaction.
    pub sequence: u64,
    pub table: Arc<ChangedTable>,
    pub change: RowChange,
}

/// What belongs to no site alone, and never a value of a row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SharedFacts {
    /// That [`SiteCount::site`] numbers.
    pub sites: Vec<SiteId>,
    /// Names as SQL prints them, that counts and truncations number.
    pub tables: Vec<String>,
    /// In the order of their commits.
    pub transactions: Vec<TransactionFacts>,
    pub truncations: Vec<Truncation>,
    pub structure: Vec<StructureChange>,
    pub notes: Vec<LogNote>,
}

impl SharedFacts {
    pub fn is_empty(&self) -> bool {
        let Self { transactions, truncations, structure, notes, .. } = self;
        transactions.is_empty() && truncations.is_empty() && structure.is_empty() && notes.is_empty()
    }
}

/// What one transaction did in this segment, in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionFacts {
    pub head: TransactionHead,
    pub counts: Vec<SiteCount>,
    /// Changes whose site nobody could tell.
    pub unrouted: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SiteCount {
    /// Place in [`SharedFacts::sites`].
    pub site: u32,
    /// Place in [`SharedFacts::tables`].
    pub table: u32,
    pub counts: ChangeCounts,
}

/// Tables that were emptied as a whole: of every site at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truncation {
    pub place: ChangePlace,
    /// Places in [`SharedFacts::tables`].
    pub tables: Vec<u32>,
    pub cascades: bool,
    pub restarts_sequences: bool,
}

/// A table has other columns or another key than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StructureChange {
    /// Of the first change that has the new structure.
    pub place: ChangePlace,
    /// `None`: the table was not seen before.
    pub before: Option<ChangedTable>,
    pub after: ChangedTable,
}

/// What an application wrote into the log by `pg_logical_emit_message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogNote {
    pub place: ChangePlace,
    pub prefix: String,
    pub content: Vec<u8>,
}

/// Changes whose site nobody could tell when they came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnroutedChanges {
    /// That [`UnroutedChange::table`] numbers.
    pub tables: Vec<ChangedTable>,
    /// In the order of the log.
    pub changes: Vec<UnroutedChange>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnroutedChange {
    pub place: ChangePlace,
    /// Place in [`UnroutedChanges::tables`].
    pub table: u32,
    pub kind: ChangeKind,
    /// Keyed hash of the primary key: a restore looks for it among the keys of the site's own rows.
    pub key: RowKeyHash,
    /// The row, where it came with values; of a deletion by key there are none.
    pub change: Option<RowChange>,
}
