//! Which chunks are stored where: read by backups only, never by a restore.

use std::collections::HashMap;

use futures_util::{StreamExt, TryStreamExt};
use lifeboat_format::{Compressor, IndexRow, IndexSegment, PackRow, names};
use lifeboat_model::{ChunkId, ChunkRef, CommitEvent, IndexRef, ObjectId, WriterIdentity};

use crate::site::was_condemned;
use crate::upload::{create_and_read_back, object_name};
use crate::{Error, Site, random_id};

/// More segments than this are merged into one.
const SEGMENTS_MAX: usize = 8;

/// The chunks a backup need not store again.
#[derive(Default)]
pub(crate) struct KnownChunks {
    pub chunks: HashMap<ChunkId, ChunkRef>,
    pub packs: HashMap<ObjectId, PackRow>,
}

impl KnownChunks {
    fn add(&mut self, segment: IndexSegment) {
        for chunk in &segment.chunks {
            if let Some(place) = segment.chunk_ref(chunk) {
                // Of two places the later one: it was stored anew because the first was in doubt.
                self.chunks.insert(place.id, place);
            }
        }
        self.packs.extend(segment.packs.into_iter().map(|row| (row.id, row)));
    }
}

impl Site {
    /// Every chunk that the site's index segments name.
    pub(crate) async fn known_chunks(&self) -> Result<KnownChunks, Error> {
        let segments = self.state().indexes.iter().map(|index| self.read_index(index));
        let segments: Vec<IndexSegment> = futures_util::stream::iter(segments).buffered(8).try_collect().await?;
        let mut known = KnownChunks::default();
        segments.into_iter().for_each(|segment| known.add(segment));
        Ok(known)
    }

    pub(crate) async fn read_index(&self, index: &IndexRef) -> Result<IndexSegment, Error> {
        let name = object_name(names::index(&self.handle(), &index.id))?;
        let body = self.repository.store().get(&name).await?;
        IndexSegment::decode(&self.keys, index.id, &body).map_err(Error::of_object(&name))
    }

    pub(crate) async fn write_index(
        &self,
        chunks: &[ChunkRef],
        packs: &HashMap<ObjectId, PackRow>,
    ) -> Result<IndexRef, Error> {
        let id = ObjectId(random_id()?);
        let (body, reference) = segment_of(chunks, packs)?.encode(&self.keys, id, &mut Compressor::new()?)?;
        let name = object_name(names::index(&self.handle(), &id))?;
        create_and_read_back(self.repository.store().as_ref(), &name, body.into()).await?;
        Ok(reference)
    }

    /// Merges the index segments into one when there are many, so that the next backup reads few.
    pub async fn compact_index(&mut self, writer: &WriterIdentity) -> Result<(), Error> {
        match self.state().indexes.len() > SEGMENTS_MAX {
            true => self.merge_index(writer).await,
            false => Ok(()),
        }
    }

    /// Merges all index segments into one, however many there are.
    pub(crate) async fn merge_index(&mut self, writer: &WriterIdentity) -> Result<(), Error> {
        let before = self.state().indexes.clone();
        if before.len() < 2 {
            return Ok(());
        }
        let known = self.known_chunks().await?;
        let chunks: Vec<ChunkRef> = known.chunks.into_values().collect();
        let index = self.write_index(&chunks, &known.packs).await?;
        let merged = self.commit(writer, |state, seen| {
            // Another backup published meanwhile: its segment is not in the merged one, so leave it
            // for the next time. The merged object is then garbage, which is harmless. It is so, too, when
            // this took so long that a prune has taken it for garbage.
            match state.indexes == before && !was_condemned(&index.id, state, seen) {
                true => Ok(CommitEvent::IndexCompacted { index }),
                false => Err(Error::Cancelled),
            }
        });
        match merged.await {
            Ok(_) | Err(Error::Cancelled) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Sorted by id, each pack listed once.
fn segment_of(chunks: &[ChunkRef], packs: &HashMap<ObjectId, PackRow>) -> Result<IndexSegment, Error> {
    let mut rows: Vec<PackRow> = Vec::new();
    let mut numbers: HashMap<ObjectId, u32> = HashMap::new();
    let mut index = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        let number = match numbers.get(&chunk.pack) {
            Some(number) => *number,
            None => {
                let row =
                    packs.get(&chunk.pack).ok_or_else(|| Error::Bug(format!("pack without a row: {}", chunk.pack)))?;
                let number = u32::try_from(rows.len()).map_err(|_| Error::Bug("more than 2^32 packs".into()))?;
                rows.push(*row);
                numbers.insert(chunk.pack, number);
                number
            }
        };
        let ChunkRef { id, offset, stored_len, raw_len, .. } = *chunk;
        index.push(IndexRow { chunk: id, pack: number, offset, stored_len, raw_len });
    }
    index.sort_unstable_by_key(|row| row.chunk);
    Ok(IndexSegment { packs: rows, chunks: index })
}
