//! The end of an ingest: last packs, index segment, manifest - each durable before the next.

use std::collections::{BTreeSet, HashMap};

use lifeboat_format::{Compressor, ManifestPart, ManifestSummary, ManifestWriter, PackRow, names};
use lifeboat_model::{ChunkId, Entry, Extent, Generation, ObjectId, PointState, SnapshotRecord};

use super::pack::Packer;
use super::shared::Shared;
use super::{ChunkNumber, FreshExtent, Ingest, NewPart, NewSnapshot, Prepared, StoredContent, lock};
use crate::upload::{create_and_read_back, object_name};
use crate::{Error, Site, random_id};

impl Ingest {
    /// Makes everything durable that a commit of this snapshot names.
    pub async fn finish(self, site: &Site, new: NewSnapshot) -> Result<Prepared, Error> {
        self.send(&mut lock(&self.open))?;
        let Self { shared, batches, workers, .. } = self;
        drop(batches);
        let named = tokio::task::block_in_place(|| {
            let ends =
                workers.into_iter().map(|worker| worker.join().map_err(|_| Error::Bug("a worker panicked".into())));
            ends.collect::<Result<Vec<_>, Error>>()
        })?;
        shared.check()?;
        let ids: HashMap<u64, ChunkId> = named.into_iter().flatten().collect();

        let mut manifest = ManifestWriter::new(&shared.keys, ObjectId(random_id()?))?;
        let tiny = shared.take_tiny();
        if uses_no_pack(&new.parts, &ids, &shared) {
            store_inline(&shared, &mut manifest, &tiny)?;
        } else {
            let mut packer = Packer::new(shared.clone())?;
            tokio::task::block_in_place(|| {
                tiny.iter().try_for_each(|(id, bytes)| packer.store(id, bytes))?;
                packer.close()
            })?;
        }
        shared.uploads_done().await?;

        let fresh = shared.fresh();
        let index = if fresh.is_empty() { None } else { Some(site.write_index(&fresh, &shared.packs()).await?) };
        shared.count_added(index.map_or(0, |index| index.len));
        let (record, mut packs) = write_manifest(&shared, site, manifest, new, &ids).await?;
        packs.extend(fresh.iter().map(|chunk| chunk.pack));
        Ok(Prepared { record, index, packs })
    }
}

/// Whether all content is what the tiny site kept: nothing refers to a pack, old or new.
fn uses_no_pack(parts: &[NewPart], ids: &HashMap<u64, ChunkId>, shared: &Shared) -> bool {
    parts.iter().flat_map(|part| &part.entries).all(|(_, content)| match content {
        StoredContent::None => true,
        StoredContent::Same(extents) => extents.iter().all(|extent| matches!(extent, Extent::Hole { .. })),
        StoredContent::Fresh(extents) => extents.iter().all(|extent| match extent {
            FreshExtent::Hole { .. } => true,
            FreshExtent::Chunk(number) => ids.get(&number.0).is_some_and(|id| shared.place_of(id).is_none()),
        }),
    })
}

fn store_inline(shared: &Shared, manifest: &mut ManifestWriter, tiny: &[(ChunkId, Vec<u8>)]) -> Result<(), Error> {
    let mut compressor = Compressor::new()?;
    for (id, plain) in tiny {
        shared.stored_inline(manifest.push_chunk(id, plain, &mut compressor)?);
    }
    Ok(())
}

async fn write_manifest(
    shared: &Shared,
    site: &Site,
    mut manifest: ManifestWriter,
    new: NewSnapshot,
    ids: &HashMap<u64, ChunkId>,
) -> Result<(SnapshotRecord, BTreeSet<ObjectId>), Error> {
    let packs = shared.packs();
    let mut parts = Vec::with_capacity(new.parts.len());
    let mut compressor = Compressor::new()?;
    for (number, part) in (0u32..).zip(new.parts) {
        let entries = place_entries(part.entries, ids, shared)?;
        parts.push(counted(part.part, &entries));
        entries.iter().try_for_each(|entry| manifest.push_entry(number, entry, &mut compressor))?;
    }
    let records: Vec<_> = parts.iter().map(|part| part.record.clone()).collect();
    let packs: Vec<PackRow> = manifest.packs().iter().filter_map(|pack| packs.get(pack)).copied().collect();
    let named = packs.iter().map(|row| row.id).collect();
    let summary = ManifestSummary { site: site.id().clone(), snapshot: new.id, parts, packs };
    let (body, reference) = manifest.finish(summary, &mut compressor)?;
    shared.count_added(body.len() as u64);
    let name = object_name(names::manifest(&site.handle(), &reference.id))?;
    create_and_read_back(site.repository.store().as_ref(), &name, body.into()).await?;
    let record = SnapshotRecord {
        id: new.id,
        generation: Generation(0), // set by the commit that publishes it
        manifest: reference,
        mark: new.mark,
        mark_reason: new.mark_reason,
        state: PointState::ReadBack,
        cut_from: new.cut_from,
        cut_till: new.cut_till,
        parent: new.parent,
        entries: records.iter().map(|part| part.entries).sum(),
        logical_bytes: records.iter().map(|part| part.logical_bytes).sum(),
        added_bytes: shared.added_bytes(),
        parts: records,
        restore: new.restore,
        moment: new.moment,
        is_scan: new.is_scan,
        forgotten: None,
    };
    Ok((record, named))
}

/// Gives every entry its extents.
fn place_entries(
    entries: Vec<(Entry, StoredContent)>,
    ids: &HashMap<u64, ChunkId>,
    shared: &Shared,
) -> Result<Vec<Entry>, Error> {
    let place = |number: ChunkNumber| {
        let id = ids.get(&number.0).ok_or_else(|| Error::Bug(format!("chunk never named: {}", number.0)))?;
        shared.place_of(id).ok_or_else(|| Error::Bug(format!("chunk never stored: {id}")))
    };
    let mut placed = Vec::with_capacity(entries.len());
    for (mut entry, content) in entries {
        entry.extents = match content {
            StoredContent::None => Vec::new(),
            StoredContent::Same(extents) => extents,
            StoredContent::Fresh(extents) => {
                let extents = extents.into_iter().map(|extent| match extent {
                    FreshExtent::Hole { len } => Ok(Extent::Hole { len }),
                    FreshExtent::Chunk(number) => place(number).map(Extent::Chunk),
                });
                extents.collect::<Result<_, Error>>()?
            }
        };
        if !entry.is_covered() {
            return Err(Error::Bug(format!("content does not add up: entry=`{}`", entry.path)));
        }
        placed.push(entry);
    }
    Ok(placed)
}

fn counted(mut part: ManifestPart, entries: &[Entry]) -> ManifestPart {
    let has_content = |entry: &&Entry| entry.kind.has_content();
    part.record.entries = entries.len() as u64;
    part.record.logical_bytes = entries.iter().filter(has_content).map(|entry| entry.metadata.size).sum();
    part
}
