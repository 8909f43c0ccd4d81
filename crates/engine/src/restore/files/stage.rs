//! The files of a part being staged: what is there already taken over, the rest asked for and written.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lifeboat_model::{Entry, EntryKind, EntryPath, Extent};
use lifeboat_repo::Wanted;
use lifeboat_source::files::{Action, LiveFile, StagedFile};

use super::super::part::Destination;
use super::{FilesWork, find};
use crate::Error;
use crate::parallel::in_parallel;

/// Of smaller files a live one is not looked into: comparing stretches would cost more than it saves.
const DELTA_BYTES_MIN: u64 = 1 << 20;

/// One file being staged: opened with its first chunk, finished with its last.
pub(super) struct Slot {
    /// Its place among the actions of the plan.
    action: usize,
    pub(super) remaining: AtomicU64,
    pub(super) file: Mutex<Option<Arc<StagedFile>>>,
}

impl FilesWork {
    pub(in crate::restore) fn begin(&mut self) -> Result<(), Error> {
        self.bytes = AtomicU64::new(0);
        self.slots.clear();
        if self.is_idle() {
            return Ok(());
        }
        let left_out: HashSet<&EntryPath> = self.left_out.iter().map(|(path, _)| path).collect();
        let dropped = |action: &Action| match action {
            Action::Put { entry, .. } => {
                left_out.contains(&entry.path)
                    || matches!(&entry.kind, EntryKind::HardLink { to } if left_out.contains(to))
            }
            // What made way for it makes way for nothing.
            Action::Remove(removal) => left_out.iter().any(|path| removal.path.starts_with(path)),
            Action::SetMetadata { .. } => false,
        };
        self.plan.actions.retain(|action| !dropped(action));
        let files = self.plan.actions.iter().enumerate().filter_map(|(action, taken)| match taken {
            Action::Put { entry, .. } if entry.kind == EntryKind::File => {
                let remaining = AtomicU64::new(entry.chunks().count() as u64);
                Some(Slot { action, remaining, file: Mutex::new(None) })
            }
            _ => None,
        });
        self.slots = files.collect();
        self.target.resume(self.slots.iter().map(|slot| self.plan.actions[slot.action].path()))?;
        Ok(())
    }

    pub(super) fn entry_at(&self, slot: &Slot) -> Result<&Entry, Error> {
        match self.plan.actions.get(slot.action) {
            Some(Action::Put { entry, .. }) => Ok(entry),
            _ => Err(Error::Bug("the plan of a part changed while its files were staged".into())),
        }
    }

    /// Takes over what is staged or live already, file by file and several at once, and tells what is still wanted.
    pub(in crate::restore) fn wanted(&self) -> Result<Vec<(Wanted, Destination)>, Error> {
        let wanted = in_parallel(self.workers, self.slots.len(), |number| self.wanted_of(number))?;
        Ok(wanted.into_iter().flatten().collect())
    }

    fn wanted_of(&self, number: usize) -> Result<Vec<(Wanted, Destination)>, Error> {
        let slot = &self.slots[number];
        let entry = self.entry_at(slot)?;
        if slot.remaining.load(Ordering::Relaxed) == 0 {
            self.target.stage_file(entry)?.finish()?; // there is nothing in it
            return Ok(Vec::new());
        }
        let earlier = self.take_over(slot, entry)?;
        let live = self.live_file(entry);
        let mut wanted = Vec::new();
        let mut buffer = Vec::new();
        let mut offset = 0;
        for (place, extent) in entry.extents.iter().enumerate() {
            if let Extent::Chunk(chunk) = extent {
                let destination = Destination { slot: number as u64, offset };
                let is_there = earlier.get(place).is_some_and(|kept| *kept);
                buffer.resize(chunk.raw_len as usize, 0);
                if !is_there && !self.take_live(live.as_ref(), (chunk.id, destination), &mut buffer)? {
                    wanted.push((Wanted { chunk: *chunk, tag: 0 }, destination));
                }
            }
            offset += extent.len();
        }
        Ok(wanted)
    }

    /// Which extents of a file an earlier attempt of this restore has staged.
    fn take_over(&self, slot: &Slot, entry: &Entry) -> Result<Vec<bool>, Error> {
        // Where nothing may be written, an earlier attempt may have written something.
        if entry.extents.iter().any(|extent| matches!(extent, Extent::Hole { .. })) {
            return Ok(Vec::new());
        }
        let Some(staged) = self.target.earlier(entry)? else { return Ok(Vec::new()) };
        let mut buffer = Vec::new();
        let (mut offset, mut kept) = (0, Vec::new());
        for extent in &entry.extents {
            let Extent::Chunk(chunk) = extent else { continue };
            buffer.resize(chunk.raw_len as usize, 0);
            let same = staged.read_at(offset, &mut buffer)? == buffer.len() && self.keys.chunk_id(&buffer) == chunk.id;
            if same {
                staged.keep(offset, extent.len())?;
            }
            kept.push(same);
            offset += extent.len();
        }
        let count = kept.iter().filter(|kept| **kept).count() as u64;
        self.bytes.fetch_add(
            entry.extents.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(extent, _)| extent.len()).sum(),
            Ordering::Relaxed,
        );
        if count == kept.len() as u64 {
            staged.finish()?;
            slot.remaining.store(0, Ordering::Release);
        } else if count > 0 {
            slot.remaining.fetch_sub(count, Ordering::AcqRel);
            *slot.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(staged));
        }
        Ok(kept)
    }

    /// The live file at an entry's place, where it is worth being looked into.
    fn live_file(&self, entry: &Entry) -> Option<LiveFile> {
        let live = find(&self.live, &entry.path)
            .filter(|live| live.kind == EntryKind::File && entry.metadata.size >= DELTA_BYTES_MIN)?;
        self.target.live_file(&live.path).ok()
    }

    /// Copies a stretch of the live file, if it is what is wanted there.
    fn take_live(
        &self,
        live: Option<&LiveFile>,
        (wanted, destination): (lifeboat_model::ChunkId, Destination),
        buffer: &mut [u8],
    ) -> Result<bool, Error> {
        let Some(live) = live else { return Ok(false) };
        let same = live.read_at(destination.offset, buffer)? == buffer.len() && self.keys.chunk_id(buffer) == wanted;
        if same {
            self.deliver(destination, buffer)?;
        }
        Ok(same)
    }

    pub(in crate::restore) fn deliver(&self, destination: Destination, bytes: &[u8]) -> Result<(), Error> {
        let slot = self.slots.get(destination.slot as usize).ok_or_else(|| Error::Bug("no such slot".into()))?;
        let file = {
            let mut open = slot.file.lock().unwrap_or_else(PoisonError::into_inner);
            match &*open {
                Some(file) => file.clone(),
                None => open.insert(Arc::new(self.target.stage_file(self.entry_at(slot)?)?)).clone(),
            }
        };
        file.write_at(destination.offset, bytes)?;
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if slot.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
            file.finish()?;
            slot.file.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        Ok(())
    }
}
