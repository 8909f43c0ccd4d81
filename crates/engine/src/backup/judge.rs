//! What a new snapshot is worth: a pure decision.

use lifeboat_model::{Commit, CommitEvent, Mark, PartRecord, PartStatus, SiteState, SnapshotRecord};

/// Sizes of a snapshot about to be published.
pub(super) struct NewSizes<'a> {
    pub entries: u64,
    pub logical_bytes: u64,
    pub parts: &'a [PartRecord],
}

impl<'a> NewSizes<'a> {
    pub(super) fn of(record: &'a SnapshotRecord) -> Self {
        Self { entries: record.entries, logical_bytes: record.logical_bytes, parts: &record.parts }
    }
}

/// The mark of a new snapshot, and why it is not good.
///
/// `before` is the newest good snapshot; `shrink_limit` the share that may be lost since, or `None`
/// when the operator says that the loss is meant.
pub(super) fn judge(
    new: &NewSizes<'_>,
    before: Option<&SnapshotRecord>,
    shrink_limit: Option<f64>,
) -> (Mark, Option<String>) {
    let broken = new.parts.iter().find_map(|part| match &part.status {
        PartStatus::Failed { reason } => Some(format!("part `{}` could not be read: {reason}", part.source)),
        PartStatus::Incomplete { problems } => {
            Some(format!("part `{}` has {problems} entries that could not be read as they should", part.source))
        }
        PartStatus::Complete | PartStatus::Absent => None,
    });
    if let Some(reason) = broken {
        return (Mark::Incomplete, Some(reason));
    }
    match before.zip(shrink_limit).and_then(|(before, limit)| shrunk(new, before, limit)) {
        Some(reason) => (Mark::Suspect, Some(reason)),
        None => (Mark::Good, None),
    }
}

/// What the site has lost beyond the limit.
fn shrunk(new: &NewSizes<'_>, before: &SnapshotRecord, limit: f64) -> Option<String> {
    let beyond = |now: u64, then: u64| (now as f64) < then as f64 * (1.0 - limit);
    if beyond(new.logical_bytes, before.logical_bytes) {
        return Some(format!(
            "it shrank from {} to {} bytes since snapshot {}",
            before.logical_bytes, new.logical_bytes, before.id
        ));
    }
    if beyond(new.entries, before.entries) {
        return Some(format!(
            "it shrank from {} to {} entries since snapshot {}",
            before.entries, new.entries, before.id
        ));
    }
    let emptied = before.parts.iter().filter(|then| then.logical_bytes > 0).find(|then| {
        let now = new.parts.iter().find(|now| now.source == then.source);
        now.is_some_and(|now| now.logical_bytes == 0)
    });
    emptied.map(|then| {
        format!(
            "part `{}` held {} bytes and is empty or gone since snapshot {}",
            then.source, then.logical_bytes, before.id
        )
    })
}

/// Why a snapshot cannot be good although all was read: a restore wrote the site meanwhile.
pub(super) fn overlapped(state: &SiteState, seen: &[Commit]) -> Option<String> {
    let opened = seen.iter().find_map(|commit| match &commit.event {
        CommitEvent::RestoreOpened(intent) => Some(intent.restore),
        _ => None,
    });
    let restore = state.intent.as_ref().map(|intent| intent.restore).or(opened)?;
    Some(format!("restore {restore} was writing the site meanwhile"))
}

#[cfg(test)]
pub(super) mod tests {
    use lifeboat_model::{
        Generation, ManifestRef, ObjectId, PointState, SnapshotId, SourceKind, SourceName, Timestamp,
    };

    use super::*;

    fn part(name: &str, bytes: u64, status: PartStatus) -> PartRecord {
        PartRecord {
            source: SourceName::new(name).unwrap(),
            kind: SourceKind::Files,
            status,
            entries: 1,
            logical_bytes: bytes,
            cut_from: Timestamp(0),
            cut_till: Timestamp(0),
        }
    }

    pub fn record(entries: u64, parts: Vec<PartRecord>) -> SnapshotRecord {
        SnapshotRecord {
            id: SnapshotId([1; 8]),
            generation: Generation(1),
            manifest: ManifestRef { id: ObjectId([0; 16]), len: 0, head_offset: 0, head_len: 0 },
            mark: Mark::Good,
            mark_reason: None,
            state: PointState::ReadBack,
            cut_from: Timestamp(0),
            cut_till: Timestamp(0),
            parent: None,
            entries,
            logical_bytes: parts.iter().map(|part| part.logical_bytes).sum(),
            added_bytes: 0,
            parts,
            restore: None,
            moment: None,
            is_scan: false,
            forgotten: None,
        }
    }

    #[test]
    fn a_snapshot_that_lost_too_much_is_suspect_and_one_with_a_hole_incomplete() {
        let whole = || PartStatus::Complete;
        let before = record(10, vec![part("a", 900, whole()), part("b", 100, whole())]);
        let check = |entries, parts: Vec<PartRecord>, limit, want: Mark| {
            let new = record(entries, parts);
            let got = judge(&NewSizes::of(&new), Some(&before), limit);
            assert_eq!(got.0, want, "{:?}", got.1);
        };
        check(10, vec![part("a", 900, whole()), part("b", 100, whole())], Some(0.3), Mark::Good);
        check(10, vec![part("a", 600, whole()), part("b", 100, whole())], Some(0.3), Mark::Good);
        check(10, vec![part("a", 599, whole()), part("b", 100, whole())], Some(0.3), Mark::Suspect);
        check(6, vec![part("a", 900, whole()), part("b", 100, whole())], Some(0.3), Mark::Suspect);
        check(10, vec![part("a", 900, whole()), part("b", 0, PartStatus::Absent)], Some(0.3), Mark::Suspect);
        check(10, vec![part("a", 0, PartStatus::Absent), part("b", 0, PartStatus::Absent)], None, Mark::Good);
        check(10, vec![part("a", 900, PartStatus::Incomplete { problems: 1 })], Some(0.3), Mark::Incomplete);
        check(10, vec![part("a", 0, PartStatus::Failed { reason: "x".into() })], None, Mark::Incomplete);
    }
}
