//! A snapshot's record as a text that only this cache reads.
//!
//! The catalog is of one version and thrown away when that changes, so this is no format anybody
//! has to keep: it only has to read what it wrote, and to refuse everything else.

use lifeboat_model::{
    Generation, ManifestRef, Mark, ObjectId, PartRecord, PartStatus, PointState, RestoreId, SnapshotId, SnapshotRecord,
    SourceKind, SourceName, Timestamp,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Record {
    id: [u8; 8],
    generation: u64,
    manifest: (ObjectBytes, u64, u64, u32),
    mark: u8,
    mark_reason: Option<String>,
    state: u8,
    cut: (i64, i64),
    parent: Option<[u8; 8]>,
    entries: u64,
    logical_bytes: u64,
    added_bytes: u64,
    parts: Vec<Part>,
    restore: Option<[u8; 8]>,
    moment: Option<String>,
    is_scan: bool,
}

type ObjectBytes = [u8; 16];

#[derive(Serialize, Deserialize)]
struct Part {
    source: String,
    kind: u8,
    status: Status,
    entries: u64,
    logical_bytes: u64,
    cut: (i64, i64),
}

#[derive(Serialize, Deserialize)]
enum Status {
    Complete,
    Absent,
    Incomplete(u64),
    Failed(String),
}

const MARKS: [Mark; 4] = [Mark::Good, Mark::Incomplete, Mark::Suspect, Mark::Undo];
const STATES: [PointState; 3] = [PointState::Written, PointState::ReadBack, PointState::Proven];
const KINDS: [SourceKind; 3] = [SourceKind::Files, SourceKind::Sqlite, SourceKind::Postgres];

/// The record as text; `None` for what a later model has and this cache does not know.
pub(super) fn to_text(record: &SnapshotRecord) -> Option<String> {
    let manifest = &record.manifest;
    let parts: Option<Vec<Part>> = record.parts.iter().map(part_to_row).collect();
    let row = Record {
        id: record.id.0,
        generation: record.generation.0,
        manifest: (manifest.id.0, manifest.len, manifest.head_offset, manifest.head_len),
        mark: code(&MARKS, &record.mark)?,
        mark_reason: record.mark_reason.clone(),
        state: code(&STATES, &record.state)?,
        cut: (record.cut_from.0, record.cut_till.0),
        parent: record.parent.map(|id| id.0),
        entries: record.entries,
        logical_bytes: record.logical_bytes,
        added_bytes: record.added_bytes,
        parts: parts?,
        restore: record.restore.map(|id| id.0),
        moment: record.moment.clone(),
        is_scan: record.is_scan,
    };
    serde_json::to_string(&row).ok()
}

/// The record that was written; `None` for any other text.
pub(super) fn from_text(text: &str) -> Option<SnapshotRecord> {
    let row: Record = serde_json::from_str(text).ok()?;
    let (id, len, head_offset, head_len) = row.manifest;
    let parts: Option<Vec<PartRecord>> = row.parts.into_iter().map(part_of_row).collect();
    Some(SnapshotRecord {
        id: SnapshotId(row.id),
        generation: Generation(row.generation),
        manifest: ManifestRef { id: ObjectId(id), len, head_offset, head_len },
        mark: *MARKS.get(usize::from(row.mark))?,
        mark_reason: row.mark_reason,
        state: *STATES.get(usize::from(row.state))?,
        cut_from: Timestamp(row.cut.0),
        cut_till: Timestamp(row.cut.1),
        parent: row.parent.map(SnapshotId),
        entries: row.entries,
        logical_bytes: row.logical_bytes,
        added_bytes: row.added_bytes,
        parts: parts?,
        restore: row.restore.map(RestoreId),
        moment: row.moment,
        is_scan: row.is_scan,
        forgotten: None, // what is remembered is what a site is now
    })
}

fn part_to_row(part: &PartRecord) -> Option<Part> {
    Some(Part {
        source: part.source.as_str().to_owned(),
        kind: code(&KINDS, &part.kind)?,
        status: match &part.status {
            PartStatus::Complete => Status::Complete,
            PartStatus::Absent => Status::Absent,
            PartStatus::Incomplete { problems } => Status::Incomplete(*problems),
            PartStatus::Failed { reason } => Status::Failed(reason.clone()),
        },
        entries: part.entries,
        logical_bytes: part.logical_bytes,
        cut: (part.cut_from.0, part.cut_till.0),
    })
}

fn part_of_row(row: Part) -> Option<PartRecord> {
    Some(PartRecord {
        source: SourceName::new(row.source).ok()?,
        kind: *KINDS.get(usize::from(row.kind))?,
        status: match row.status {
            Status::Complete => PartStatus::Complete,
            Status::Absent => PartStatus::Absent,
            Status::Incomplete(problems) => PartStatus::Incomplete { problems },
            Status::Failed(reason) => PartStatus::Failed { reason },
        },
        entries: row.entries,
        logical_bytes: row.logical_bytes,
        cut_from: Timestamp(row.cut.0),
        cut_till: Timestamp(row.cut.1),
    })
}

fn code<T: PartialEq>(all: &[T], one: &T) -> Option<u8> {
    all.iter().position(|known| known == one).and_then(|at| u8::try_from(at).ok())
}
