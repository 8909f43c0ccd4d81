//! Opening an object: nothing of it is believed before its seal was checked.
//!
//! Invariant (sealed-in-place): a frame opens only in the object, at the offset and with the
//! header it was sealed with.
//! Invariant (chunk-is-its-id): a chunk leaves this crate only when its plain bytes hash to the id
//! it was asked for.

use std::sync::Arc;

use aws_lc_rs::aead::LessSafeKey;
use lifeboat_model::{ChunkRef, KeyNumber, ObjectId};

use crate::crypto;
use crate::envelope::{HEADER_BOUND_LEN, frame_aad};
use crate::{
    Compression, Decompressor, Error, FORMAT_VERSION, FRAME_HEADER_LEN, FrameHeader, FrameKind, ObjectHeader,
    ObjectKind, PackRow, Result, SealedKey, SiteKeys,
};

/// The open lock of one object. Cheap to clone, and shared by all workers.
#[derive(Clone, Debug)]
pub struct ObjectOpener {
    object: Arc<Object>,
    keys: SiteKeys,
}

#[derive(Debug)]
struct Object {
    kind: ObjectKind,
    id: ObjectId,
    bound: [u8; HEADER_BOUND_LEN],
    key: LessSafeKey,
}

impl ObjectOpener {
    /// From the object itself: at least its first [`crate::HEADER_LEN`] bytes.
    pub fn from_header(keys: &SiteKeys, object: &[u8], kind: ObjectKind, id: ObjectId) -> Result<Self> {
        let header = ObjectHeader::parse(object)?;
        if (header.kind, header.id, header.site) != (kind, id, keys.handle()) {
            let detail = format!(
                "it is another object: found=`{} {}`, expected=`{} {id}`, found_site=`{}`, expected_site=`{}`",
                header.kind.name(),
                header.id,
                kind.name(),
                header.site,
                keys.handle()
            );
            return Err(Error::damaged("object header", detail));
        }
        Self::from_parts(keys, header)
    }

    /// From a reference that carries the sealed key, without reading the object's header.
    pub fn from_sealed_key(
        keys: &SiteKeys,
        kind: ObjectKind,
        id: ObjectId,
        key: KeyNumber,
        sealed_key: &SealedKey,
    ) -> Result<Self> {
        let header = ObjectHeader::unsealed(kind, keys.handle(), key, id);
        Self::from_parts(keys, ObjectHeader { sealed_key: *sealed_key, ..header })
    }

    /// The same for a pack named in a manifest or an index.
    pub fn from_pack_row(keys: &SiteKeys, row: &PackRow) -> Result<Self> {
        Self::from_sealed_key(keys, ObjectKind::Pack, row.id, row.key, &row.sealed_key)
    }

    fn from_parts(keys: &SiteKeys, header: ObjectHeader) -> Result<Self> {
        if header.key != keys.number() {
            return Err(Error::OtherKeyNumber { needed: header.key, given: keys.number() });
        }
        let bound = header.bound_bytes();
        let key = keys.open_data_key(&bound, &header.sealed_key)?;
        let key = key.ok_or_else(|| {
            Error::damaged("object header", format!("the seal of its data key does not match: id=`{}`", header.id))
        })?;
        // Only now is the version known to be what was written, and not a flipped bit.
        if header.version != FORMAT_VERSION {
            let (found, supported) = (header.version.into(), FORMAT_VERSION.into());
            return Err(Error::NewerVersion { what: header.kind.name(), found, supported });
        }
        let object = Object { kind: header.kind, id: header.id, bound, key };
        Ok(Self { object: Arc::new(object), keys: keys.clone() })
    }

    pub fn kind(&self) -> ObjectKind {
        self.object.kind
    }

    pub fn id(&self) -> ObjectId {
        self.object.id
    }

    pub fn keys(&self) -> &SiteKeys {
        &self.keys
    }

    /// Opens exactly one frame in place; `offset` is where it lies in the object.
    pub fn open_frame<'f>(&self, kind: FrameKind, offset: u64, frame: &'f mut [u8]) -> Result<OpenedFrame<'f>> {
        let what = kind.name();
        let header = FrameHeader::parse(frame)?;
        if header.kind != kind {
            let detail = format!("there is another frame: found=`{}`, offset=`{offset}`", header.kind.name());
            return Err(Error::damaged(what, detail));
        }
        if header.stored_len() != frame.len() as u64 {
            let (stored, given) = (header.stored_len(), frame.len());
            let detail = format!("wrong length: offset=`{offset}`, stored_len=`{stored}`, expected=`{given}`");
            return Err(Error::damaged(what, detail));
        }
        let aad = frame_aad(&self.object.bound, &header.to_bytes(), offset);
        let body = &mut frame[FRAME_HEADER_LEN..];
        let body = crypto::open(&self.object.key, header.nonce(), &aad, body).ok_or_else(|| {
            Error::damaged(what, format!("its seal does not match: offset=`{offset}`, ordinal=`{}`", header.ordinal))
        })?;
        Ok(OpenedFrame { header, body })
    }

    /// Opens a chunk's frame and gives its plain bytes, either within `frame` (a chunk stored raw
    /// is not copied) or in `out`.
    pub fn open_chunk_borrowed<'a>(
        &self,
        chunk: &ChunkRef,
        frame: &'a mut [u8],
        decompressor: &mut Decompressor,
        out: &'a mut Vec<u8>,
    ) -> Result<&'a [u8]> {
        let plain = self.open_chunk_frame(chunk, frame)?.plain(decompressor, out)?;
        self.check_chunk_id(chunk, plain)?;
        Ok(plain)
    }

    /// Opens a chunk's frame and puts its plain bytes into `out`, replacing what was there.
    pub fn open_chunk(
        &self,
        chunk: &ChunkRef,
        frame: &mut [u8],
        decompressor: &mut Decompressor,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        self.open_chunk_frame(chunk, frame)?.plain_into(decompressor, out)?;
        self.check_chunk_id(chunk, out)
    }

    fn open_chunk_frame<'f>(&self, chunk: &ChunkRef, frame: &'f mut [u8]) -> Result<OpenedFrame<'f>> {
        if chunk.pack != self.object.id {
            return Err(Error::misuse(format!(
                "chunk of another object: pack=`{}`, opener=`{}`",
                chunk.pack,
                self.id()
            )));
        }
        let opened = self.open_frame(FrameKind::Chunk, chunk.offset, frame)?;
        let FrameHeader { id, raw_len, .. } = opened.header;
        if (id, raw_len, opened.header.stored_len()) != (chunk.id, chunk.raw_len, chunk.stored_len.into()) {
            return Err(damaged_chunk(chunk, "another chunk lies in its place"));
        }
        Ok(opened)
    }

    fn check_chunk_id(&self, chunk: &ChunkRef, plain: &[u8]) -> Result<()> {
        if self.keys.chunk_id(plain) != chunk.id {
            return Err(damaged_chunk(chunk, "its content does not have the id it was stored under"));
        }
        Ok(())
    }
}

fn damaged_chunk(chunk: &ChunkRef, detail: &str) -> Error {
    let detail = format!("{detail}: pack=`{}`, offset=`{}`, id=`{}`", chunk.pack, chunk.offset, chunk.id);
    Error::damaged("chunk", detail)
}

/// A frame whose seal was checked; its body may still be compressed.
#[derive(Debug)]
pub struct OpenedFrame<'f> {
    pub header: FrameHeader,
    body: &'f [u8],
}

impl<'f> OpenedFrame<'f> {
    /// The plain bytes: in the frame itself when stored raw, else decompressed into `out`.
    pub fn plain<'a>(self, decompressor: &mut Decompressor, out: &'a mut Vec<u8>) -> Result<&'a [u8]>
    where
        'f: 'a,
    {
        match self.header.compression {
            Compression::Raw => Ok(self.body),
            Compression::Zstd => {
                decompressor.fill(self.body, self.header.raw_len, out)?;
                Ok(out)
            }
        }
    }
    /// The same, always in `out`.
    pub fn plain_into(self, decompressor: &mut Decompressor, out: &mut Vec<u8>) -> Result<()> {
        match self.header.compression {
            Compression::Raw => {
                out.clear();
                out.extend_from_slice(self.body);
                Ok(())
            }
            Compression::Zstd => decompressor.fill(self.body, self.header.raw_len, out),
        }
    }
}

#[cfg(test)]
mod tests;
