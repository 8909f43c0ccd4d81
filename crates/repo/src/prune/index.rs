//! The index without packs that are condemned, in memory that grows with its chunks alone.

use std::collections::{BTreeSet, HashMap};

use lifeboat_format::{Compressor, IndexRow, IndexSegment, PackRow, names};
use lifeboat_model::{IndexRef, ObjectId};

use crate::upload::{create_and_read_back, object_name};
use crate::{Error, Site, random_id};

impl Site {
    /// Writes one segment in place of all, without these packs; `None`: nothing is left to name.
    pub(super) async fn index_without(&self, dead: &BTreeSet<ObjectId>) -> Result<Option<IndexRef>, Error> {
        let merged = self.merged_index((dead, &BTreeSet::new())).await?;
        if merged.chunks.is_empty() {
            return Ok(None);
        }
        self.write_segment(merged).await.map(Some)
    }

    /// What all segments name together, without these packs, and without what these segments name.
    pub(crate) async fn merged_index(
        &self,
        (packs, segments): (&BTreeSet<ObjectId>, &BTreeSet<ObjectId>),
    ) -> Result<IndexSegment, Error> {
        let mut merged = Merged::default();
        // Of two places of a chunk the later one counts, and encoding keeps the first.
        for index in self.state().indexes.iter().rev().filter(|index| !segments.contains(&index.id)) {
            merged.add(self.read_index(index).await?, packs)?;
        }
        Ok(IndexSegment { packs: merged.packs, chunks: merged.chunks })
    }

    pub(crate) async fn write_segment(&self, segment: IndexSegment) -> Result<IndexRef, Error> {
        let id = ObjectId(random_id()?);
        let (body, reference) = segment.encode(&self.keys, id, &mut Compressor::new()?)?;
        let name = object_name(names::index(&self.handle(), &id))?;
        create_and_read_back(self.repository.store().as_ref(), &name, body.into()).await?;
        Ok(reference)
    }
}

#[derive(Default)]
struct Merged {
    packs: Vec<PackRow>,
    numbers: HashMap<ObjectId, u32>,
    chunks: Vec<IndexRow>,
}

impl Merged {
    fn add(&mut self, segment: IndexSegment, dead: &BTreeSet<ObjectId>) -> Result<(), Error> {
        let mut numbers = Vec::with_capacity(segment.packs.len());
        for row in &segment.packs {
            numbers.push(match dead.contains(&row.id) {
                true => None,
                false => Some(self.number_of(row)?),
            });
        }
        let kept = segment.chunks.into_iter().filter_map(|row| {
            let pack = numbers.get(row.pack as usize).copied().flatten()?;
            Some(IndexRow { pack, ..row })
        });
        self.chunks.extend(kept);
        Ok(())
    }

    fn number_of(&mut self, row: &PackRow) -> Result<u32, Error> {
        if let Some(number) = self.numbers.get(&row.id) {
            return Ok(*number);
        }
        let number = u32::try_from(self.packs.len()).map_err(|_| Error::Bug("more than 2^32 packs".into()))?;
        self.packs.push(*row);
        self.numbers.insert(row.id, number);
        Ok(number)
    }
}
