//! Writing an object: frames are compressed and sealed in place, at the end of one buffer.
//!
//! Invariant (one-key-one-object): a data key is random, made for one object and used for it
//! alone, so that the ordinals can be its nonces.

use aws_lc_rs::aead::LessSafeKey;
use lifeboat_model::{ChunkId, KeyNumber, ObjectId};

use crate::crypto;
use crate::envelope::{HEADER_BOUND_LEN, TRAILER_LEN, frame_aad};
use crate::table::{self, TableRow};
use crate::{
    Compression, Compressor, Error, FRAME_HEADER_LEN, FRAME_RAW_MAX, FrameHeader, FrameKind, ObjectHeader, ObjectKind,
    Result, SealedKey, SiteKeys, Trailer,
};

/// Where a frame came to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Byte offset of the frame's header in its object.
    pub offset: u64,
    /// Bytes of the whole frame.
    pub stored_len: u32,
}

/// A pack as manifests and indexes remember it: a restore needs no pack header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackRow {
    pub id: ObjectId,
    /// Bytes of the whole object.
    pub len: u64,
    /// The site key that seals the data key.
    pub key: KeyNumber,
    pub sealed_key: SealedKey,
}

/// An object being written.
#[derive(Debug)]
pub struct ObjectWriter {
    header: ObjectHeader,
    bound: [u8; HEADER_BOUND_LEN],
    key: LessSafeKey,
    bytes: Vec<u8>,
    frames: u32,
    last: Placed,
    /// For a pack: what its table will say.
    rows: Vec<TableRow>,
}

impl ObjectWriter {
    pub fn new(keys: &SiteKeys, kind: ObjectKind, id: ObjectId) -> Result<Self> {
        Self::with_buffer(keys, kind, id, Vec::new())
    }

    /// The same in a buffer that has been used before, to spare its allocation.
    pub fn with_buffer(keys: &SiteKeys, kind: ObjectKind, id: ObjectId, mut bytes: Vec<u8>) -> Result<Self> {
        let mut header = ObjectHeader::unsealed(kind, keys.handle(), keys.number(), id);
        let bound = header.bound_bytes();
        let (key, sealed_key) = keys.new_data_key(&bound)?;
        header.sealed_key = sealed_key;
        bytes.clear();
        bytes.extend_from_slice(&bound);
        bytes.extend_from_slice(&sealed_key.0);
        Ok(Self { header, bound, key, bytes, frames: 0, last: Placed { offset: 0, stored_len: 0 }, rows: Vec::new() })
    }

    /// Bytes so far, headers included, table and trailer not.
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Whether no frame was pushed yet.
    pub fn is_empty(&self) -> bool {
        self.frames == 0
    }

    pub fn id(&self) -> ObjectId {
        self.header.id
    }

    pub fn sealed_key(&self) -> SealedKey {
        self.header.sealed_key
    }

    /// Appends a chunk. That `id` is the id of `plain` is the caller's to know; every reader checks it.
    pub fn push_chunk(&mut self, id: &ChunkId, plain: &[u8], compressor: &mut Compressor) -> Result<Placed> {
        if !matches!(self.header.kind, ObjectKind::Pack | ObjectKind::Manifest) {
            return Err(Error::misuse(format!("a chunk does not belong into a {}", self.header.kind.name())));
        }
        if plain.is_empty() {
            return Err(Error::misuse("a chunk of no bytes"));
        }
        let placed = self.push(FrameKind::Chunk, *id, plain, Some(compressor))?;
        if self.header.kind == ObjectKind::Pack {
            let raw_len = plain.len() as u32; // `push` refused anything above FRAME_RAW_MAX
            self.rows.push(TableRow { chunk: *id, offset: placed.offset, stored_len: placed.stored_len, raw_len });
        }
        Ok(placed)
    }

    /// Appends a frame that is no chunk.
    #[doc(hidden)] // for benches; writers of each kind of object call it
    pub fn push_frame(&mut self, kind: FrameKind, plain: &[u8], compressor: Option<&mut Compressor>) -> Result<Placed> {
        self.push(kind, ChunkId([0; ChunkId::LEN]), plain, compressor)
    }

    fn push(
        &mut self,
        kind: FrameKind,
        id: ChunkId,
        plain: &[u8],
        compressor: Option<&mut Compressor>,
    ) -> Result<Placed> {
        let raw_len = u32::try_from(plain.len())
            .ok()
            .filter(|len| *len <= FRAME_RAW_MAX)
            .ok_or_else(|| Error::TooLarge { what: kind.name(), len: plain.len() as u64, max: FRAME_RAW_MAX.into() })?;
        let from = self.bytes.len();
        let body = from + FRAME_HEADER_LEN;
        self.bytes.resize(body, 0);
        let compression = match compressor.is_some_and(|compressor| compressor.append(plain, &mut self.bytes)) {
            true => Compression::Zstd,
            false => {
                self.bytes.extend_from_slice(plain);
                Compression::Raw
            }
        };
        let sealed_len = (self.bytes.len() - body + crypto::TAG_LEN) as u32;
        let header = FrameHeader { kind, compression, ordinal: self.frames, raw_len, sealed_len, id };
        let header_bytes = header.to_bytes();
        self.bytes[from..body].copy_from_slice(&header_bytes);

        let aad = frame_aad(&self.bound, &header_bytes, from as u64);
        let tag = crypto::seal(&self.key, header.nonce(), &aad, &mut self.bytes[body..])?;
        self.bytes.extend_from_slice(&tag);
        self.frames = self.frames.checked_add(1).ok_or_else(|| Error::misuse("more than 2^32 frames"))?;
        self.last = Placed { offset: from as u64, stored_len: FRAME_HEADER_LEN as u32 + sealed_len };
        Ok(self.last)
    }

    /// Appends what the kind of object still needs (a pack's table, the trailer) and gives the
    /// object's bytes, and the row by which manifests and indexes name it.
    pub fn finish(mut self) -> Result<(Vec<u8>, PackRow)> {
        if self.header.kind == ObjectKind::Pack {
            let table = table::encode(&std::mem::take(&mut self.rows));
            // Ids are random: a table does not compress.
            self.push_frame(FrameKind::Table, &table, None)?;
        }
        if self.frames == 0 {
            return Err(Error::misuse("an object without frames"));
        }
        let Placed { offset, stored_len } = self.last;
        self.bytes.reserve_exact(TRAILER_LEN);
        self.bytes.extend_from_slice(&Trailer { offset, stored_len, frames: self.frames }.to_bytes());
        let ObjectHeader { id, key, sealed_key, .. } = self.header;
        let row = PackRow { id, len: self.bytes.len() as u64, key, sealed_key };
        Ok((self.bytes, row))
    }
}
