//! The state of a site in the repository, and the events that change it.
//!
//! Every commit of a site's sequence carries the event that happened *and* the state after it, so
//! that reading the newest commit alone answers every question, and reading them all proves it:
//! `apply(state before, event) == state after` for each.

use std::time::Duration;

use crate::{
    Condemnation, Condemned, Forgotten, Generation, HoldId, KeyNumber, Mark, ObjectId, PointState, RecoveryId,
    RestoreId, Shred, Shredded, SiteId, SnapshotId, SnapshotRecord, SourceName, Timestamp,
};

/// Everything that must not be lost about one site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteState {
    pub site: SiteId,
    /// The key that seals new objects.
    pub key: KeyNumber,
    /// Oldest first, undo snapshots among them; none that is forgotten.
    pub snapshots: Vec<SnapshotRecord>,
    /// Oldest first: nothing chooses them, and they can come back until they are condemned. A writer of before there was
    /// forgetting brings them back.
    pub forgotten: Vec<SnapshotRecord>,
    pub holds: Vec<Hold>,
    /// The restore that is open on this site, if one is.
    pub intent: Option<RestoreIntent>,
    /// Index segments, oldest first: which chunks are stored where. Only backups read them.
    pub indexes: Vec<IndexRef>,
    /// The newest drill in which the site came back whole. A writer of before there were drills loses it, and nothing else.
    pub proven: Option<Proven>,
    /// The drill since then in which it did not.
    pub drill_failed: Option<DrillFailed>,
    /// Objects that wait to be deleted. A writer of before there was pruning loses them: they are then objects that no
    /// commit names, and found again as such.
    pub condemned: Vec<Condemned>,
    /// When it was erased last.
    pub shredded: Option<Shredded>,
}

/// How a drill of a site ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrillEnd {
    Proven(Proven),
    Failed(DrillFailed),
}

/// A drill in which a site did not come back whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrillFailed {
    pub at: Timestamp,
    pub drill: RecoveryId,
}

/// A drill in which a site was rebuilt whole from the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proven {
    pub at: Timestamp,
    /// The moment of the site that was rebuilt.
    pub moment: Timestamp,
    /// From its plan to the last check.
    pub took: Duration,
    pub drill: RecoveryId,
}

/// One change of a site's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitEvent {
    /// A snapshot (or an undo) starts to exist, with the index of the chunks it added.
    Published {
        snapshot: Box<SnapshotRecord>,
        index: Option<IndexRef>,
    },
    /// A snapshot was read back, or proven by a restore.
    StateChanged {
        snapshot: SnapshotId,
        state: PointState,
        /// How the drill ended that says so.
        drill: Option<DrillEnd>,
    },
    /// A person or a check thinks otherwise of a snapshot.
    Marked {
        snapshot: SnapshotId,
        mark: Mark,
        reason: String,
    },
    HoldPlaced(Hold),
    HoldReleased {
        hold: HoldId,
    },
    RestoreOpened(RestoreIntent),
    RestoreClosed {
        restore: RestoreId,
        outcome: RestoreOutcome,
    },
    /// Many index segments became one.
    IndexCompacted {
        index: IndexRef,
    },
    /// Nobody needs these any more, or so a person or a rule says.
    Forgot {
        snapshots: Vec<SnapshotId>,
        forgotten: Forgotten,
        reason: String,
    },
    Undeleted {
        snapshots: Vec<SnapshotId>,
    },
    Condemned(Box<Condemnation>),
    /// Everything that was condemned up to this commit is deleted.
    Deleted {
        till: Generation,
    },
    /// The site is erased.
    Shredded(Box<Shred>),
}

/// Keeps a site's points from being forgotten until it is released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    pub id: HoldId,
    pub reason: HoldReason,
    /// For a person: what happened, or who asked.
    pub note: String,
    pub placed_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HoldReason {
    /// The site shrank beyond its limit.
    Shrank,
    /// The site vanished from a source.
    Vanished,
    /// A person asked.
    Asked,
}

/// A restore that is open: until it closes, no other one may write this site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreIntent {
    pub restore: RestoreId,
    pub snapshot: SnapshotId,
    /// The parts it writes.
    pub parts: Vec<SourceName>,
    pub opened_at: Timestamp,
    pub owner: WriterIdentity,
    /// The open restore that this one replaced.
    pub takes_over: Option<RestoreId>,
    /// What is put back is this moment after the snapshot, as `PointInTime` prints it.
    pub moment: Option<String>,
    /// Only what is missing comes back: what was written since stays.
    pub keeps_later: bool,
}

/// The process behind a commit, precise enough to tell on the same machine whether it still runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterIdentity {
    /// For a person.
    pub host: String,
    /// `/etc/machine-id`, hashed.
    pub machine: String,
    /// `/proc/sys/kernel/random/boot_id`
    pub boot: String,
    pub pid: u32,
    /// Start time of the process in clock ticks after boot (`/proc/<pid>/stat`, field 22).
    pub started: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RestoreOutcome {
    /// Verified and open.
    Completed,
    /// Open, but a check failed: not everything is as the snapshot has it.
    Partial,
    /// Given up with the target as it was.
    Abandoned,
}

/// Where a manifest is, and where in it the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManifestRef {
    pub id: ObjectId,
    /// Bytes of the whole object.
    pub len: u64,
    /// Byte offset and length of the head's frame.
    pub head_offset: u64,
    pub head_len: u32,
}

/// An index segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexRef {
    pub id: ObjectId,
    /// Bytes of the whole object.
    pub len: u64,
    /// Chunks it names.
    pub chunks: u64,
}

/// Why an event does not follow from a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    #[error("another restore of the site is open: restore=`{}`, host=`{}`, pid=`{}`, since=`{}`", .0.restore, .0.owner.host, .0.owner.pid, .0.opened_at)]
    RestoreOpen(Box<RestoreIntent>),
    #[error("the restore is not the open one: restore=`{0}`")]
    NotTheOpenRestore(RestoreId),
    #[error("a snapshot taken while a restore is open cannot be good: snapshot=`{0}`")]
    GoodDuringRestore(SnapshotId),
    #[error("a scan has a site's files alone, and cannot be good: snapshot=`{0}`")]
    GoodScan(SnapshotId),
    #[error("no such snapshot: snapshot=`{0}`")]
    NoSuchSnapshot(SnapshotId),
    #[error("the snapshot exists already: snapshot=`{0}`")]
    SnapshotExists(SnapshotId),
    #[error("no such hold: hold=`{0}`")]
    NoSuchHold(HoldId),
    #[error("the site is held: hold=`{}`, since=`{}`, note=`{}`", .0.id, .0.placed_at, .0.note)]
    Held(Box<Hold>),
    #[error("the snapshot is not forgotten: snapshot=`{0}`")]
    NotForgotten(SnapshotId),
    #[error("the object is condemned, and nothing may name it again: object=`{0}`")]
    Condemned(ObjectId),
    #[error("an erased site goes on with a new key: key=`{0}`")]
    OldKey(KeyNumber),
    #[error("nothing names the object any more, and it is not condemned: object=`{0}`")]
    LeftBehind(ObjectId),
}

impl SiteState {
    pub fn new(site: SiteId, key: KeyNumber) -> Self {
        Self {
            site,
            key,
            snapshots: Vec::new(),
            forgotten: Vec::new(),
            holds: Vec::new(),
            intent: None,
            indexes: Vec::new(),
            proven: None,
            drill_failed: None,
            condemned: Vec::new(),
            shredded: None,
        }
    }

    /// The state after `event`, which the commit `generation` records.
    pub fn apply(&self, event: &CommitEvent, generation: Generation) -> Result<Self, StateError> {
        let mut next = self.clone();
        match event {
            CommitEvent::Published { snapshot, index } => next.publish(snapshot, *index, generation)?,
            CommitEvent::StateChanged { snapshot, state, drill } => {
                let record = next.snapshot_mut(*snapshot)?;
                record.state = record.state.max(*state);
                match drill {
                    Some(DrillEnd::Proven(proven)) => (next.proven, next.drill_failed) = (Some(*proven), None),
                    Some(DrillEnd::Failed(failed)) => next.drill_failed = Some(*failed),
                    None => {}
                }
            }
            CommitEvent::Marked { snapshot, mark, reason } => {
                let record = next.snapshot_mut(*snapshot)?;
                if record.is_scan && *mark != Mark::Incomplete {
                    return Err(StateError::GoodScan(*snapshot));
                }
                record.mark = *mark;
                record.mark_reason = Some(reason.clone());
            }
            CommitEvent::HoldPlaced(hold) => next.holds.push(hold.clone()),
            CommitEvent::HoldReleased { hold } => {
                let at = next.holds.iter().position(|held| held.id == *hold).ok_or(StateError::NoSuchHold(*hold))?;
                next.holds.remove(at);
            }
            CommitEvent::RestoreOpened(intent) => next.open_restore(intent)?,
            CommitEvent::RestoreClosed { restore, outcome } => next.close_restore(*restore, *outcome)?,
            CommitEvent::IndexCompacted { index } if next.is_condemned(&index.id) => {
                return Err(StateError::Condemned(index.id));
            }
            CommitEvent::IndexCompacted { index } => next.indexes = vec![*index],
            CommitEvent::Forgot { snapshots, forgotten, .. } => next.forget(snapshots, *forgotten)?,
            CommitEvent::Undeleted { snapshots } => next.undelete(snapshots)?,
            CommitEvent::Condemned(what) => next.condemn(what, generation)?,
            CommitEvent::Deleted { till } => next.deleted(*till)?,
            CommitEvent::Shredded(what) => return self.shred(what, generation),
        }
        Ok(next)
    }

    /// The newest good snapshot: the only one that is ever `latest`.
    pub fn latest(&self) -> Option<&SnapshotRecord> {
        self.snapshots.iter().rev().find(|record| record.mark == Mark::Good)
    }

    /// The newest good snapshot whose cut was complete at or before `time`.
    pub fn latest_at(&self, time: Timestamp) -> Option<&SnapshotRecord> {
        let good = self.snapshots.iter().filter(|record| record.mark == Mark::Good && record.cut_till <= time);
        good.max_by_key(|record| record.cut_till)
    }

    pub fn snapshot(&self, id: SnapshotId) -> Option<&SnapshotRecord> {
        self.snapshots.iter().find(|record| record.id == id)
    }

    /// The undo that a restore kept; the newest one when it was resumed.
    pub fn undo_of(&self, restore: RestoreId) -> Option<&SnapshotRecord> {
        self.snapshots.iter().rev().find(|record| record.mark == Mark::Undo && record.restore == Some(restore))
    }

    fn snapshot_mut(&mut self, id: SnapshotId) -> Result<&mut SnapshotRecord, StateError> {
        self.snapshots.iter_mut().find(|record| record.id == id).ok_or(StateError::NoSuchSnapshot(id))
    }

    fn publish(
        &mut self,
        snapshot: &SnapshotRecord,
        index: Option<IndexRef>,
        generation: Generation,
    ) -> Result<(), StateError> {
        if self.snapshot_or_forgotten(snapshot.id).is_some() {
            return Err(StateError::SnapshotExists(snapshot.id));
        }
        if self.intent.is_some() && snapshot.mark == Mark::Good {
            return Err(StateError::GoodDuringRestore(snapshot.id));
        }
        // A reader that does not know of scans must not take one for a whole site.
        if snapshot.is_scan && snapshot.mark != Mark::Incomplete {
            return Err(StateError::GoodScan(snapshot.id));
        }
        let named = [Some(snapshot.manifest.id), index.map(|index| index.id)];
        if let Some(id) = named.into_iter().flatten().find(|id| self.is_condemned(id)) {
            return Err(StateError::Condemned(id));
        }
        self.snapshots.push(SnapshotRecord { generation, ..snapshot.clone() });
        self.indexes.extend(index);
        Ok(())
    }

    /// A completed restore proves the snapshot it was made from.
    fn close_restore(&mut self, restore: RestoreId, outcome: RestoreOutcome) -> Result<(), StateError> {
        let intent =
            self.intent.take_if(|open| open.restore == restore).ok_or(StateError::NotTheOpenRestore(restore))?;
        if outcome == RestoreOutcome::Completed && self.snapshot(intent.snapshot).is_some() {
            self.snapshot_mut(intent.snapshot)?.state = PointState::Proven;
        }
        Ok(())
    }

    fn open_restore(&mut self, intent: &RestoreIntent) -> Result<(), StateError> {
        match &self.intent {
            Some(open) if intent.takes_over != Some(open.restore) && intent.restore != open.restore => {
                Err(StateError::RestoreOpen(Box::new(open.clone())))
            }
            _ if self.snapshot_or_forgotten(intent.snapshot).is_none() => {
                Err(StateError::NoSuchSnapshot(intent.snapshot))
            }
            _ => {
                self.intent = Some(intent.clone());
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
