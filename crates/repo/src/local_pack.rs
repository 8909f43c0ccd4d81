//! A pack on this host: content that is in no object of the store, such as rows that were replayed.
//!
//! Its chunks are named and checked like any other's, so that whoever restores need not know where
//! they lie. It is as long-lived as its file, which has no name.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use lifeboat_format::SiteKeys;
use lifeboat_model::{ChunkRef, Extent, ObjectId};

use crate::{Error, Site, random_id};

/// Short enough to be handed on in one piece.
const CHUNK_BYTES: usize = 256 << 10;

/// Takes content in stretches, entry after entry.
pub struct LocalPackWriter {
    keys: SiteKeys,
    id: ObjectId,
    file: BufWriter<File>,
    len: u64,
    chunk: Vec<u8>,
    extents: Vec<Extent>,
}

/// A pack that is whole.
#[derive(Debug, Clone)]
pub struct LocalPack {
    pub(crate) id: ObjectId,
    file: Arc<File>,
}

impl LocalPackWriter {
    /// Into an empty file of the caller's that nobody else writes to.
    pub fn new(site: &Site, file: File) -> Result<Self, Error> {
        let (id, file) = (ObjectId(random_id()?), BufWriter::with_capacity(CHUNK_BYTES, file));
        Ok(Self { keys: site.keys.clone(), id, file, len: 0, chunk: Vec::new(), extents: Vec::new() })
    }

    /// Takes the next bytes of the entry that is open.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            if self.chunk.len() == CHUNK_BYTES {
                self.end_chunk()?;
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Where the entry that was open lies; the next one is open now.
    pub fn end_entry(&mut self) -> Result<Vec<Extent>, Error> {
        self.end_chunk()?;
        Ok(std::mem::take(&mut self.extents))
    }

    fn end_chunk(&mut self) -> Result<(), Error> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let len = self.chunk.len() as u32; // at most CHUNK_BYTES
        let id = self.keys.chunk_id(&self.chunk);
        self.extents.push(Extent::Chunk(ChunkRef {
            id,
            pack: self.id,
            offset: self.len,
            stored_len: len,
            raw_len: len,
        }));
        self.file.write_all(&self.chunk).map_err(failed)?;
        self.len += u64::from(len);
        self.chunk.clear();
        Ok(())
    }

    pub fn finish(mut self) -> Result<LocalPack, Error> {
        self.end_chunk()?;
        let file = self.file.into_inner().map_err(|error| failed(error.into_error()))?;
        Ok(LocalPack { id: self.id, file: Arc::new(file) })
    }
}

impl LocalPack {
    /// The bytes of a chunk; the inner error is damage.
    pub(crate) fn read<'b>(
        &self,
        keys: &SiteKeys,
        chunk: &ChunkRef,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Result<&'b [u8], String>, Error> {
        buffer.resize(chunk.raw_len as usize, 0);
        match self.file.read_exact_at(buffer, chunk.offset) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(Err("the chunk lies beyond the file".into()));
            }
            read => read.map_err(failed)?,
        }
        let is_equal = keys.chunk_id(buffer) == chunk.id;
        Ok(if is_equal { Ok(buffer.as_slice()) } else { Err("the bytes on this host are not what was written".into()) })
    }
}

fn failed(source: io::Error) -> Error {
    Error::LocalFile { source }
}
