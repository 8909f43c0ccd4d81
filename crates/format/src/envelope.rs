//! The envelope of every sealed object, as bytes: `header | frame* | trailer`.
//!
//! ```text
//! header    magic 8 · version 2 · kind 1 · 0 1 · key number 4 · site handle 16 · object id 16 · sealed data key 60
//! frame     marker 4 · kind 1 · compression 1 · 0 2 · ordinal 4 · raw_len 4 · sealed_len 4 · chunk id 32 · ciphertext and tag
//! trailer   offset of the last frame 8 · its length 4 · frames 4 · magic 8
//! ```
//!
//! Numbers are little-endian. The headers are in clear, so that an object can be scanned without
//! keys; they are authenticated by the seal of the frame they belong to.
//!
//! Here is layout only: sealing is in `writer`, opening in `opener`.

use lifeboat_model::{ChunkId, KeyNumber, ObjectId, SiteHandle};

use crate::crypto::TAG_LEN;
use crate::{Error, FORMAT_VERSION, Result};

pub(crate) const MAGIC: [u8; 8] = *b"LIFEBOAT";
pub(crate) const TRAILER_MAGIC: [u8; 8] = *b"LIFEBEND";
pub(crate) const FRAME_MARKER: [u8; 4] = *b"LBFR";

/// Bytes of the header before the sealed data key: the part that authenticates everything else.
pub(crate) const HEADER_BOUND_LEN: usize = 48;
/// Bytes of an object's header.
pub const HEADER_LEN: usize = HEADER_BOUND_LEN + SealedKey::LEN;
/// Bytes of a frame before its ciphertext.
pub const FRAME_HEADER_LEN: usize = 52;
/// Bytes a frame has at least: its header and the authentication tag.
pub const FRAME_LEN_MIN: usize = FRAME_HEADER_LEN + TAG_LEN;
/// Bytes of an object's trailer.
pub const TRAILER_LEN: usize = 24;
/// Plain bytes of one frame, at most: a bound on what a hostile length can make a reader allocate.
pub const FRAME_RAW_MAX: u32 = 64 << 20;

/// A data key under its site's wrapping key: nonce 12, ciphertext 32, tag 16.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SealedKey(pub [u8; 60]);

impl SealedKey {
    pub const LEN: usize = 60;
}

impl std::fmt::Debug for SealedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealedKey(..)")
    }
}

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    Pack,
    Manifest,
    Index,
    Commit,
    Run,
    /// One site's changes in a segment.
    Block,
    /// What belongs to no site alone in a segment.
    SharedBlock,
    /// Changes of a segment whose site nobody could tell.
    UnroutedBlock,
    /// What a segment says of itself.
    Footer,
    Epoch,
    LogCommit,
    /// On the host that captures, never in a bucket: what the source said while the store did not answer.
    Spill,
    /// What a recovery of many sites does.
    RecoveryPlan,
    /// What happened to it.
    RecoveryEntry,
    /// Who did what.
    AuditEntry,
}

impl ObjectKind {
    pub const ALL: [Self; 15] = [
        Self::Pack,
        Self::Manifest,
        Self::Index,
        Self::Commit,
        Self::Run,
        Self::Block,
        Self::SharedBlock,
        Self::UnroutedBlock,
        Self::Footer,
        Self::Epoch,
        Self::LogCommit,
        Self::Spill,
        Self::RecoveryPlan,
        Self::RecoveryEntry,
        Self::AuditEntry,
    ];

    /// For messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pack => "pack",
            Self::Manifest => "manifest",
            Self::Index => "index",
            Self::Commit => "commit",
            Self::Run => "run",
            Self::Block => "block",
            Self::SharedBlock => "shared block",
            Self::UnroutedBlock => "unrouted block",
            Self::Footer => "footer",
            Self::Epoch => "epoch",
            Self::LogCommit => "log commit",
            Self::Spill => "spill",
            Self::RecoveryPlan => "recovery plan",
            Self::RecoveryEntry => "recovery entry",
            Self::AuditEntry => "audit entry",
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Pack => 1,
            Self::Manifest => 2,
            Self::Index => 3,
            Self::Commit => 4,
            Self::Run => 5,
            Self::Block => 6,
            Self::SharedBlock => 7,
            Self::UnroutedBlock => 8,
            Self::Footer => 9,
            Self::Epoch => 10,
            Self::LogCommit => 11,
            Self::Spill => 12,
            Self::RecoveryPlan => 13,
            Self::RecoveryEntry => 14,
            Self::AuditEntry => 15,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrameKind {
    /// Content of entries.
    Chunk,
    /// Entries of a manifest.
    Page,
    /// The directory of a manifest or an index.
    Head,
    /// Rows that say where chunks are.
    Table,
    /// The one body of a commit, a run, and everything else that has but one.
    Body,
    /// Changes of one site's rows.
    Changes,
}

impl FrameKind {
    pub const ALL: [Self; 6] = [Self::Chunk, Self::Page, Self::Head, Self::Table, Self::Body, Self::Changes];

    /// For messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chunk => "chunk",
            Self::Page => "page",
            Self::Head => "head",
            Self::Table => "table",
            Self::Body => "body",
            Self::Changes => "changes",
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Chunk => 1,
            Self::Page => 2,
            Self::Head => 3,
            Self::Table => 4,
            Self::Body => 5,
            Self::Changes => 6,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    Raw,
    Zstd,
}

/// The header of an object, read without keys and so not yet proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectHeader {
    pub version: u16,
    pub kind: ObjectKind,
    pub key: KeyNumber,
    pub site: SiteHandle,
    pub id: ObjectId,
    pub sealed_key: SealedKey,
}

impl ObjectHeader {
    /// Reads the first [`HEADER_LEN`] bytes of an object.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let damaged = |detail: String| Error::damaged("object header", detail);
        let header = bytes
            .first_chunk::<HEADER_LEN>()
            .ok_or_else(|| damaged(format!("the object ends within it: len=`{}`", bytes.len())))?;
        if header[..8] != MAGIC {
            return Err(damaged("it does not begin with the magic bytes of a Lifeboat object".to_owned()));
        }
        let kind =
            ObjectKind::from_code(header[10]).ok_or_else(|| damaged(format!("unknown kind=`{}`", header[10])))?;
        if header[11] != 0 {
            return Err(damaged("a reserved byte is not zero".to_owned()));
        }
        Ok(Self {
            version: u16::from_le_bytes(array(header, 8)),
            kind,
            key: KeyNumber(u32::from_le_bytes(array(header, 12))),
            site: SiteHandle(array(header, 16)),
            id: ObjectId(array(header, 32)),
            sealed_key: SealedKey(array(header, HEADER_BOUND_LEN)),
        })
    }

    /// The bytes before the sealed key.
    pub(crate) fn bound_bytes(&self) -> [u8; HEADER_BOUND_LEN] {
        let mut bytes = [0; HEADER_BOUND_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&self.version.to_le_bytes());
        bytes[10] = self.kind.code();
        bytes[12..16].copy_from_slice(&self.key.0.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.site.0);
        bytes[32..48].copy_from_slice(&self.id.0);
        bytes
    }

    /// A header of this version whose data key is not sealed yet.
    pub(crate) fn unsealed(kind: ObjectKind, site: SiteHandle, key: KeyNumber, id: ObjectId) -> Self {
        Self { version: FORMAT_VERSION, kind, key, site, id, sealed_key: SealedKey([0; SealedKey::LEN]) }
    }
}

/// The clear header of a frame, proven only once the frame is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    pub kind: FrameKind,
    pub compression: Compression,
    /// The frame's place in its object, counted from 0; also the nonce of its seal.
    pub ordinal: u32,
    /// Plain bytes.
    pub raw_len: u32,
    /// Bytes of ciphertext and tag.
    pub sealed_len: u32,
    /// The chunk's id; zeros for anything but a chunk.
    pub id: ChunkId,
}

impl FrameHeader {
    /// Reads the header at the start of a frame and checks that it could be one.
    pub fn parse(frame: &[u8]) -> Result<Self> {
        let damaged = |detail: String| Error::damaged("frame header", detail);
        let header = frame
            .first_chunk::<FRAME_HEADER_LEN>()
            .ok_or_else(|| damaged(format!("the object ends within it: len=`{}`", frame.len())))?;
        if header[..4] != FRAME_MARKER {
            return Err(damaged("it does not begin with a frame's marker".to_owned()));
        }
        let kind = FrameKind::ALL.into_iter().find(|kind| kind.code() == header[4]);
        let kind = kind.ok_or_else(|| damaged(format!("unknown kind=`{}`", header[4])))?;
        let compression = match header[5] {
            0 => Compression::Raw,
            1 => Compression::Zstd,
            other => return Err(damaged(format!("unknown compression=`{other}`"))),
        };
        if header[6..8] != [0, 0] {
            return Err(damaged("a reserved byte is not zero".to_owned()));
        }
        let parsed = Self {
            kind,
            compression,
            ordinal: u32::from_le_bytes(array(header, 8)),
            raw_len: u32::from_le_bytes(array(header, 12)),
            sealed_len: u32::from_le_bytes(array(header, 16)),
            id: ChunkId(array(header, 20)),
        };
        parsed.check_lengths()?;
        Ok(parsed)
    }

    /// Whether the lengths fit each other: nothing is allocated for a frame that fails this.
    fn check_lengths(&self) -> Result<()> {
        let Self { raw_len, sealed_len, .. } = *self;
        let content = sealed_len.checked_sub(TAG_LEN as u32);
        let possible = content.is_some_and(|content| match self.compression {
            Compression::Raw => content == raw_len,
            Compression::Zstd => content < raw_len,
        });
        if !possible || raw_len > FRAME_RAW_MAX {
            let detail = format!("impossible lengths: raw_len=`{raw_len}`, sealed_len=`{sealed_len}`");
            return Err(Error::damaged("frame header", detail));
        }
        Ok(())
    }

    pub(crate) fn to_bytes(self) -> [u8; FRAME_HEADER_LEN] {
        let mut bytes = [0; FRAME_HEADER_LEN];
        bytes[..4].copy_from_slice(&FRAME_MARKER);
        bytes[4] = self.kind.code();
        bytes[5] = u8::from(self.compression == Compression::Zstd);
        bytes[8..12].copy_from_slice(&self.ordinal.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.raw_len.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.sealed_len.to_le_bytes());
        bytes[20..].copy_from_slice(&self.id.0);
        bytes
    }

    /// Bytes of the whole frame in the store.
    pub fn stored_len(&self) -> u64 {
        FRAME_HEADER_LEN as u64 + u64::from(self.sealed_len)
    }

    pub(crate) fn nonce(&self) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.ordinal.to_le_bytes());
        nonce
    }
}

/// What a frame's seal authenticates beside its content: the object it is in, its own header, and
/// the place where it lies, so that nothing can be swapped, moved or resized.
pub(crate) fn frame_aad(object: &[u8; HEADER_BOUND_LEN], frame: &[u8; FRAME_HEADER_LEN], offset: u64) -> [u8; 108] {
    let mut aad = [0; HEADER_BOUND_LEN + FRAME_HEADER_LEN + 8];
    aad[..HEADER_BOUND_LEN].copy_from_slice(object);
    aad[HEADER_BOUND_LEN..HEADER_BOUND_LEN + FRAME_HEADER_LEN].copy_from_slice(frame);
    aad[HEADER_BOUND_LEN + FRAME_HEADER_LEN..].copy_from_slice(&offset.to_le_bytes());
    aad
}

/// The end of an object: where its directory is. A convenience for readers that have nothing else;
/// not authenticated, and compared by `check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Byte offset of the last frame.
    pub offset: u64,
    /// Bytes of the last frame, header and tag included.
    pub stored_len: u32,
    /// How many frames the object has.
    pub frames: u32,
}

impl Trailer {
    /// Reads the last [`TRAILER_LEN`] bytes of `tail`, the end of an object of `object_len` bytes.
    pub fn parse(tail: &[u8], object_len: u64) -> Result<Self> {
        let damaged = |detail: String| Error::damaged("object trailer", detail);
        let bytes = tail
            .last_chunk::<TRAILER_LEN>()
            .ok_or_else(|| damaged(format!("the object is too short: len=`{object_len}`")))?;
        if bytes[16..] != TRAILER_MAGIC {
            return Err(damaged(
                "the object does not end with the magic bytes: it was cut off or overwritten".to_owned(),
            ));
        }
        let trailer = Self {
            offset: u64::from_le_bytes(array(bytes, 0)),
            stored_len: u32::from_le_bytes(array(bytes, 8)),
            frames: u32::from_le_bytes(array(bytes, 12)),
        };
        let end = trailer.offset.checked_add(u64::from(trailer.stored_len));
        if trailer.offset < HEADER_LEN as u64 || end != object_len.checked_sub(TRAILER_LEN as u64) {
            let detail =
                format!("its last frame is not last: offset=`{}`, len=`{}`", trailer.offset, trailer.stored_len);
            return Err(damaged(detail));
        }
        Ok(trailer)
    }

    pub(crate) fn to_bytes(self) -> [u8; TRAILER_LEN] {
        let mut bytes = [0; TRAILER_LEN];
        bytes[..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.stored_len.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.frames.to_le_bytes());
        bytes[16..].copy_from_slice(&TRAILER_MAGIC);
        bytes
    }
}

/// `N` bytes of a fixed-size header, whose length the callers' constants prove.
fn array<const N: usize>(bytes: &[u8], from: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[from..from + N]);
    out
}

#[cfg(test)]
mod tests;
