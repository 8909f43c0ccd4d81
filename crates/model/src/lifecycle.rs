//! What becomes of points that nobody needs any more.
//!
//!   point ─forget▸ forgotten ─time to undelete▸ condemned ─grace for readers▸ deleted
//!              ◂undelete─                          no way back
//!
//! Forgetting is a mark. Condemning names objects, and from that commit on none may name them again; only what was
//! condemned is ever deleted. All of it happens in the site's one commit sequence, so that a writer that would use what
//! is condemned loses a race and learns why.
//!
//! Invariant (condemned-for-good): no state names an object that an earlier one has condemned, and nothing of a site that
//! is held or being restored is condemned.

use crate::{
    Generation, IndexRef, KeyNumber, ObjectId, RunNumber, SiteState, SnapshotId, SnapshotRecord, StateError, Timestamp,
};

/// Since when a point is forgotten, and how long that can be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forgotten {
    pub at: Timestamp,
    /// Not condemned before.
    pub till: Timestamp,
}

/// Objects of one site, by what they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SiteObjects {
    pub manifests: Vec<ObjectId>,
    pub indexes: Vec<ObjectId>,
    pub packs: Vec<ObjectId>,
}

/// What a commit condemns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condemnation {
    /// Forgotten points that end with it.
    pub snapshots: Vec<SnapshotId>,
    pub objects: SiteObjects,
    /// The index segments from now on, which know nothing of what is condemned.
    pub indexes: Vec<IndexRef>,
    /// By the later of the clocks.
    pub at: Timestamp,
    /// The newest run that was recorded then: another one must be before anything is deleted.
    pub run: RunNumber,
}

/// What a commit erases: all of a site, for good, by destroying its keys.
///
/// The commit is the first that the new key seals. What older keys have sealed nobody can open any more once they are
/// destroyed, the commits of before among it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shred {
    /// The key from now on; all with a lower number are destroyed after this commit.
    pub key: KeyNumber,
    /// Everything that was there, so that it is deleted in the end.
    pub objects: SiteObjects,
    pub at: Timestamp,
    pub run: RunNumber,
    /// For a person: who asked for it, and why.
    pub reason: String,
}

/// That a site was erased: its commits before this one cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shredded {
    pub generation: Generation,
    pub at: Timestamp,
}

/// Objects that wait to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condemned {
    /// The commit that says so.
    pub generation: Generation,
    pub at: Timestamp,
    pub run: RunNumber,
    pub objects: SiteObjects,
}

impl SiteObjects {
    pub fn len(&self) -> usize {
        self.manifests.len() + self.indexes.len() + self.packs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn ids(&self) -> impl Iterator<Item = &ObjectId> {
        self.manifests.iter().chain(&self.indexes).chain(&self.packs)
    }

    /// Ids are random: an id says which object it is, whatever its kind.
    pub fn contains(&self, id: &ObjectId) -> bool {
        self.ids().any(|one| one == id)
    }
}

impl SiteState {
    /// The snapshot, forgotten or not.
    pub fn snapshot_or_forgotten(&self, id: SnapshotId) -> Option<&SnapshotRecord> {
        self.snapshot(id).or_else(|| self.forgotten.iter().find(|record| record.id == id))
    }

    /// Whether the object waits to be deleted.
    pub fn is_condemned(&self, id: &ObjectId) -> bool {
        self.condemned.iter().any(|condemned| condemned.objects.contains(id))
    }

    pub(crate) fn forget(&mut self, snapshots: &[SnapshotId], mark: Forgotten) -> Result<(), StateError> {
        self.refuse_if_held()?;
        for id in snapshots {
            let at = self.snapshots.iter().position(|record| record.id == *id);
            let at = at.ok_or(StateError::NoSuchSnapshot(*id))?;
            if let Some(open) = &self.intent
                && (open.snapshot == *id || self.snapshots[at].restore == Some(open.restore))
            {
                return Err(StateError::RestoreOpen(Box::new(open.clone())));
            }
            let record = self.snapshots.remove(at);
            self.forgotten.push(SnapshotRecord { forgotten: Some(mark), ..record });
        }
        self.forgotten.sort_by_key(|record| record.generation);
        Ok(())
    }

    pub(crate) fn undelete(&mut self, snapshots: &[SnapshotId]) -> Result<(), StateError> {
        for id in snapshots {
            let at = self.forgotten.iter().position(|record| record.id == *id);
            let record = self.forgotten.remove(at.ok_or(StateError::NotForgotten(*id))?);
            self.snapshots.push(SnapshotRecord { forgotten: None, ..record });
        }
        self.snapshots.sort_by_key(|record| record.generation);
        Ok(())
    }

    pub(crate) fn condemn(&mut self, what: &Condemnation, generation: Generation) -> Result<(), StateError> {
        self.refuse_if_held()?;
        self.refuse_if_restored()?;
        for id in &what.snapshots {
            let at = self.forgotten.iter().position(|record| record.id == *id);
            let record = self.forgotten.remove(at.ok_or(StateError::NotForgotten(*id))?);
            if !what.objects.manifests.contains(&record.manifest.id) {
                return Err(StateError::LeftBehind(record.manifest.id));
            }
        }
        let dropped = self.indexes.iter().filter(|index| !what.indexes.contains(index));
        if let Some(index) = dropped.map(|index| index.id).find(|id| !what.objects.indexes.contains(id)) {
            return Err(StateError::LeftBehind(index));
        }
        self.indexes.clone_from(&what.indexes);
        let Condemnation { objects, at, run, .. } = what.clone();
        self.condemned.push(Condemned { generation, at, run, objects });
        match self.named().find(|id| self.is_condemned(id)) {
            Some(id) => Err(StateError::Condemned(id)),
            None => Ok(()),
        }
    }

    /// What was condemned up to this commit is gone.
    pub(crate) fn deleted(&mut self, till: Generation) -> Result<(), StateError> {
        self.refuse_if_restored()?;
        self.condemned.retain(|condemned| condemned.generation > till);
        Ok(())
    }

    /// Nothing is left but what waits to be deleted.
    pub(crate) fn shred(&self, what: &Shred, generation: Generation) -> Result<Self, StateError> {
        self.refuse_if_held()?;
        self.refuse_if_restored()?;
        if what.key <= self.key {
            return Err(StateError::OldKey(what.key));
        }
        let Shred { key, objects, at, run, .. } = what.clone();
        let lost = self.named().find(|id| !objects.contains(id));
        if let Some(id) = lost {
            return Err(StateError::LeftBehind(id));
        }
        let mut condemned = self.condemned.clone();
        condemned.push(Condemned { generation, at, run, objects });
        let shredded = Some(Shredded { generation, at });
        Ok(Self { condemned, shredded, ..Self::new(self.site.clone(), key) })
    }

    /// The manifests and index segments that the state names; packs are named by those.
    fn named(&self) -> impl Iterator<Item = ObjectId> {
        let records = self.snapshots.iter().chain(&self.forgotten);
        records.map(|record| record.manifest.id).chain(self.indexes.iter().map(|index| index.id))
    }

    fn refuse_if_held(&self) -> Result<(), StateError> {
        match self.holds.first() {
            Some(hold) => Err(StateError::Held(Box::new(hold.clone()))),
            None => Ok(()),
        }
    }

    fn refuse_if_restored(&self) -> Result<(), StateError> {
        match &self.intent {
            Some(open) => Err(StateError::RestoreOpen(Box::new(open.clone()))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
