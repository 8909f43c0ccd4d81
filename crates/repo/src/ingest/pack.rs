//! Filling packs: one open pack a worker, sealed and sent when it is full.

use std::sync::Arc;

use lifeboat_format::{Compressor, ObjectKind, ObjectWriter, names};
use lifeboat_model::{ChunkId, ChunkRef, ObjectId};

use super::shared::Shared;
use crate::upload::object_name;
use crate::{Error, random_id};

/// A pack is sealed when it has grown to this: large enough that requests are few, small enough
/// that a few of them fit in memory.
const PACK_BYTES: u64 = 16 << 20;

pub(super) struct Packer {
    shared: Arc<Shared>,
    compressor: Compressor,
    open: Option<(ObjectId, ObjectWriter)>,
}

impl Packer {
    pub(super) fn new(shared: Arc<Shared>) -> Result<Self, Error> {
        Ok(Self { shared, compressor: Compressor::new()?, open: None })
    }

    /// Compresses, encrypts and appends one chunk that is stored nowhere yet.
    pub(super) fn store(&mut self, id: &ChunkId, plain: &[u8]) -> Result<(), Error> {
        let (pack, writer) = match &mut self.open {
            Some(open) => open,
            none => {
                let pack = ObjectId(random_id()?);
                let buffer = self.shared.spare_pack();
                none.insert((pack, ObjectWriter::with_buffer(&self.shared.keys, ObjectKind::Pack, pack, buffer)?))
            }
        };
        let placed = writer.push_chunk(id, plain, &mut self.compressor)?;
        let raw_len = u32::try_from(plain.len()).map_err(|_| Error::Bug("a chunk of 4 GiB".into()))?;
        let place = ChunkRef { id: *id, pack: *pack, offset: placed.offset, stored_len: placed.stored_len, raw_len };
        let full = writer.len() >= PACK_BYTES;
        self.shared.stored(place);
        if full { self.close() } else { Ok(()) }
    }

    /// Seals the open pack and starts its upload.
    pub(super) fn close(&mut self) -> Result<(), Error> {
        let Some((id, writer)) = self.open.take() else { return Ok(()) };
        let (body, row) = writer.finish()?;
        let name = object_name(names::pack(&self.shared.keys.handle(), &id))?;
        self.shared.upload(name, row, body.into());
        Ok(())
    }
}
