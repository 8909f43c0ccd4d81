//! The words of the contract for values of the model: in tables and in JSON alike.

use lifeboat_model::{
    EntryKind, EpochReason, HoldReason, Mark, PartRecord, PartStatus, PointState, SnapshotRecord, SourceKind,
};
use serde_json::{Value, json};

pub fn mark(mark: Mark) -> &'static str {
    match mark {
        Mark::Good => "good",
        Mark::Incomplete => "incomplete",
        Mark::Suspect => "suspect",
        Mark::Undo => "undo",
    }
}

pub fn state(state: PointState) -> &'static str {
    match state {
        PointState::Written => "written",
        PointState::ReadBack => "read back",
        PointState::Proven => "proven",
    }
}

pub fn kind(kind: SourceKind) -> &'static str {
    match kind {
        SourceKind::Files => "files",
        SourceKind::Sqlite => "sqlite",
        SourceKind::Postgres => "postgres",
    }
}

pub fn hold(reason: HoldReason) -> &'static str {
    match reason {
        HoldReason::Shrank => "shrank",
        HoldReason::Vanished => "vanished",
        HoldReason::Asked => "asked",
    }
}

pub fn epoch_reason(why: EpochReason) -> &'static str {
    match why {
        EpochReason::First => "first",
        EpochReason::SlotLost => "slot lost",
        EpochReason::Failover => "failover",
        EpochReason::TableRewritten => "tables changed",
        EpochReason::Asked => "asked",
    }
}

pub fn entry_kind(kind: &EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "file",
        EntryKind::Directory => "directory",
        EntryKind::Symlink { .. } => "symlink",
        EntryKind::HardLink { .. } => "hardlink",
        EntryKind::Fifo => "fifo",
        EntryKind::Absent => "absent",
        EntryKind::Database { .. } => "database",
        EntryKind::Table { .. } => "table",
    }
}

/// `complete`, or what is wrong with the part.
pub fn part_status(status: &PartStatus) -> String {
    match status {
        PartStatus::Complete => "complete".into(),
        PartStatus::Absent => "absent".into(),
        PartStatus::Incomplete { problems: 1 } => "incomplete: 1 problem".into(),
        PartStatus::Incomplete { problems } => format!("incomplete: {problems} problems"),
        PartStatus::Failed { reason } => format!("failed: {reason}"),
    }
}

fn part(part: &PartRecord) -> Value {
    json!({
        "source": part.source.as_str(),
        "kind": kind(part.kind),
        "status": part_status(&part.status),
        "entries": part.entries,
        "bytes": part.logical_bytes,
    })
}

/// A snapshot as JSON, the same in every verb.
pub fn snapshot(record: &SnapshotRecord) -> Value {
    json!({
        "snapshot_id": record.id.to_string(),
        "at": record.cut_till.to_string(),
        "cut_from": record.cut_from.to_string(),
        "mark": mark(record.mark),
        "mark_reason": record.mark_reason,
        "scan": record.is_scan,
        "state": state(record.state),
        "entries": record.entries,
        "bytes": record.logical_bytes,
        "added_bytes": record.added_bytes,
        "restore_id": record.restore.map(|id| id.to_string()),
        "forgotten_at": record.forgotten.map(|mark| mark.at.to_string()),
        "undelete_till": record.forgotten.map(|mark| mark.till.to_string()),
        "parts": record.parts.iter().map(part).collect::<Vec<_>>(),
    })
}
