//! What a part is made of: entries, their metadata, and where their content lies.

use crate::{ChunkId, EntryPath, ObjectId};

/// One file, directory, link or database of a part, as a snapshot remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub path: EntryPath,
    pub kind: EntryKind,
    pub metadata: EntryMetadata,
    /// Content in order; covers `0..metadata.size` exactly once. Empty for anything but
    /// a kind that [has content](EntryKind::has_content).
    pub extents: Vec<Extent>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    File,
    Directory,
    /// The raw text of the link, never followed.
    Symlink {
        target: Vec<u8>,
    },
    /// A further name of the file at `to`, which sorts before it in the same part.
    HardLink {
        to: EntryPath,
    },
    Fifo,
    /// Nothing is at this path: only in an undo, where it says that a restore added the entry.
    Absent,
    /// An SQLite database, as its pages at one read transaction, WAL included.
    Database {
        /// Bytes a page.
        page_size: u32,
        /// The source's own change detector; equal stamps mean that nothing was written between.
        stamp: Vec<u8>,
    },
    /// The site's rows of one table, as PostgreSQL's `COPY` writes them in text: a line a row, ordered
    /// by key where the digest is [`RowsDigest::InOrder`].
    Table {
        rows: u64,
        /// What a restored table is compared with.
        digest: RowsDigest,
        /// The source's own description of the table: its columns, in the order of each line.
        definition: Vec<u8>,
    },
}

/// What rows are proven by: 32 bytes that are the same only for the same rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsDigest {
    /// BLAKE3 of the whole content.
    InOrder([u8; 32]),
    /// The BLAKE3 of each row with its line end, added up modulo 2²⁵⁶, least significant byte first: of
    /// rows whose order nobody knows but the server.
    AnyOrder([u8; 32]),
}

/// Both digests of rows that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowsDigests {
    pub in_order: [u8; 32],
    pub any_order: [u8; 32],
}

impl RowsDigests {
    /// Whether they are the rows that a digest is of.
    pub fn are(&self, wanted: &RowsDigest) -> bool {
        match wanted {
            RowsDigest::InOrder(digest) => self.in_order == *digest,
            RowsDigest::AnyOrder(digest) => self.any_order == *digest,
        }
    }
}

impl EntryKind {
    /// Whether an entry of this kind has bytes of its own.
    pub fn has_content(&self) -> bool {
        matches!(self, EntryKind::File | EntryKind::Database { .. } | EntryKind::Table { .. })
    }
}

/// What the file system says of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryMetadata {
    /// Permission bits, `0o7777` at most.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub modified: FileTime,
    /// Time of the last status change (`ctime`): evidence for change detection, never restored.
    pub changed: FileTime,
    /// Inode number: evidence for change detection, never restored.
    pub inode: u64,
    /// Bytes of content; zero for anything without content.
    pub size: u64,
    /// Extended attributes, POSIX ACLs among them, sorted by name.
    pub xattrs: Vec<Xattr>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    pub name: Vec<u8>,
    pub value: Vec<u8>,
}

/// A file time: whole seconds since 1970 and nanoseconds within the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FileTime {
    pub seconds: i64,
    /// `0..1_000_000_000`
    pub nanoseconds: u32,
}

/// A stretch of an entry's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    Chunk(ChunkRef),
    /// This many bytes of zeros that take no space on disk.
    Hole {
        len: u64,
    },
}

impl Extent {
    /// Bytes of the entry's content that this extent covers.
    pub fn len(&self) -> u64 {
        match self {
            Extent::Chunk(chunk) => u64::from(chunk.raw_len),
            Extent::Hole { len } => *len,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A chunk and the place where it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRef {
    pub id: ChunkId,
    /// The object that holds it: a pack, or the manifest itself for a chunk of a tiny site.
    pub pack: ObjectId,
    /// Byte offset of the chunk's frame header in that object.
    pub offset: u64,
    /// Bytes of the whole frame, its header and authentication tag included.
    pub stored_len: u32,
    /// Plain bytes.
    pub raw_len: u32,
}

impl Entry {
    /// Whether the extents cover the content exactly once.
    pub fn is_covered(&self) -> bool {
        let covered = self.extents.iter().try_fold(0u64, |sum, extent| sum.checked_add(extent.len()));
        covered == Some(if self.kind.has_content() { self.metadata.size } else { 0 })
    }

    pub fn chunks(&self) -> impl Iterator<Item = &ChunkRef> {
        self.extents.iter().filter_map(|extent| match extent {
            Extent::Chunk(chunk) => Some(chunk),
            Extent::Hole { .. } => None,
        })
    }
}
