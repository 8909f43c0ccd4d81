//! Entries, as the pages of a manifest hold them: the hot path, so arrays instead of maps.
//!
//! ```text
//! entry   [path, kind, mode, uid, gid, mtime, mtime_ns, ctime, ctime_ns, inode, size, xattrs, extents]
//! kind    0 file · 1 directory · 4 fifo · 5 absent · [2, target] symlink · [3, to] hard link · [6, page size, stamp] database
//!         [7, rows, digest, definition] table · [8, rows, sum, definition] table in any order
//! xattrs  [* name, value]      extents  [* hole length / [id, pack, offset, stored_len, raw_len]]
//! ```
//!
//! A pack is named by its number: 0 is the manifest itself, n the n-th row of the pack table.

use minicbor::data::Type;

use lifeboat_model::{
    ChunkRef, Entry, EntryKind, EntryMetadata, EntryPath, Extent, FileTime, ObjectId, RowsDigest, Xattr,
};

use super::variant::{Variant, put_variant};
use crate::cbor::{self, In, Out, Wire, WireResult, emit, malformed};
use crate::table::check_place;

/// Packs by number while a page is read.
pub(crate) struct Refs<'p> {
    /// The manifest that is read: number 0.
    pub own: ObjectId,
    /// Id and length of the packs from number 1 on.
    pub packs: &'p [crate::PackRow],
}

impl Refs<'_> {
    fn pack(&self, number: u32, end: u64) -> WireResult<ObjectId> {
        let Some(at) = number.checked_sub(1) else {
            return Ok(self.own);
        };
        match self.packs.get(at as usize) {
            Some(row) if end <= row.len => Ok(row.id),
            Some(row) => malformed(format!("a chunk beyond the end of its pack: end=`{end}`, len=`{}`", row.len)),
            None => malformed(format!("no such pack: number=`{number}`, packs=`{}`", self.packs.len())),
        }
    }
}

/// What must hold for every entry, written or read.
pub(crate) fn check_entry(entry: &Entry) -> Result<(), String> {
    let EntryMetadata { mode, modified, changed, size, xattrs, .. } = &entry.metadata;
    let fault = |fault: &str| Err(format!("{fault}: entry=`{}`", entry.path));
    if !entry.is_covered() {
        let covered: u128 = entry.extents.iter().map(|extent| u128::from(extent.len())).sum();
        return fault(&format!("its extents do not cover its content once: size=`{size}`, covered=`{covered}`"));
    }
    if entry.extents.iter().any(Extent::is_empty) {
        return fault("an extent of no bytes");
    }
    if *mode > 0o7777 {
        return fault("its mode has bits that are no permissions");
    }
    if [modified, changed].iter().any(|time| time.nanoseconds >= 1_000_000_000) {
        return fault("a time with a second's worth of nanoseconds");
    }
    if !xattrs.is_sorted_by(|a, b| a.name < b.name) {
        return fault("its extended attributes are not sorted by name, or one comes twice");
    }
    match &entry.kind {
        EntryKind::HardLink { to } if *to >= entry.path => fault("a hard link to what does not sort before it"),
        EntryKind::Symlink { target } if target.is_empty() || target.contains(&0) => fault("a symlink to no path"),
        _ => Ok(()),
    }
}

/// Appends an entry; `number` gives the number of a chunk's pack.
pub(crate) fn put_entry(entry: &Entry, out: &mut Out<'_>, mut number: impl FnMut(&ChunkRef) -> u32) {
    let EntryMetadata { mode, uid, gid, modified, changed, inode, size, xattrs } = &entry.metadata;
    emit(out.array(13));
    entry.path.put(out);
    put_kind(&entry.kind, out);
    emit(emit(emit(out.u32(*mode)).u32(*uid)).u32(*gid));
    for time in [modified, changed] {
        emit(emit(out.i64(time.seconds)).u32(time.nanoseconds));
    }
    emit(emit(out.u64(*inode)).u64(*size));
    emit(out.array(xattrs.len() as u64 * 2));
    for xattr in xattrs {
        emit(emit(out.bytes(&xattr.name)).bytes(&xattr.value));
    }
    emit(out.array(entry.extents.len() as u64));
    for extent in &entry.extents {
        match extent {
            Extent::Hole { len } => len.put(out),
            Extent::Chunk(chunk) => {
                let pack = number(chunk);
                put_chunk(chunk, pack, out);
            }
        }
    }
}

fn put_chunk(chunk: &ChunkRef, pack: u32, out: &mut Out<'_>) {
    emit(out.array(5));
    chunk.id.put(out);
    emit(emit(emit(emit(out.u32(pack)).u64(chunk.offset)).u32(chunk.stored_len)).u32(chunk.raw_len));
}

fn put_kind(kind: &EntryKind, out: &mut Out<'_>) {
    match kind {
        EntryKind::File => 0u32.put(out),
        EntryKind::Directory => 1u32.put(out),
        EntryKind::Symlink { target } => put_variant(out, 2, &[target]),
        EntryKind::HardLink { to } => put_variant(out, 3, &[to]),
        EntryKind::Fifo => 4u32.put(out),
        EntryKind::Absent => 5u32.put(out),
        EntryKind::Database { page_size, stamp } => put_variant(out, 6, &[page_size, stamp]),
        EntryKind::Table { rows, digest: RowsDigest::InOrder(digest), definition } => {
            put_variant(out, 7, &[rows, digest, definition]);
        }
        EntryKind::Table { rows, digest: RowsDigest::AnyOrder(digest), definition } => {
            put_variant(out, 8, &[rows, digest, definition]);
        }
    }
}

/// Reads an entry and checks it.
pub(crate) fn take_entry(input: &mut In<'_>, refs: &Refs<'_>) -> WireResult<Entry> {
    let more = cbor::begin_array(input, 13)?;
    let path = EntryPath::take(input)?;
    let kind = take_kind(input)?;
    let (mode, uid, gid) = (input.u32()?, input.u32()?, input.u32()?);
    let modified = FileTime { seconds: input.i64()?, nanoseconds: input.u32()? };
    let changed = FileTime { seconds: input.i64()?, nanoseconds: input.u32()? };
    let (inode, size) = (input.u64()?, input.u64()?);
    let xattrs = take_xattrs(input)?;
    let extents = take_extents(input, refs)?;
    cbor::skip(input, more)?;
    let metadata = EntryMetadata { mode, uid, gid, modified, changed, inode, size, xattrs };
    let entry = Entry { path, kind, metadata, extents };
    check_entry(&entry).or_else(malformed)?;
    Ok(entry)
}

fn take_kind(input: &mut In<'_>) -> WireResult<EntryKind> {
    if input.datatype()? != Type::Array {
        return match input.u32()? {
            0 => Ok(EntryKind::File),
            1 => Ok(EntryKind::Directory),
            4 => Ok(EntryKind::Fifo),
            5 => Ok(EntryKind::Absent),
            other => cbor::unknown("entry kind", other.into()),
        };
    }
    let mut variant = Variant::begin(input)?;
    let kind = match variant.code {
        2 => EntryKind::Symlink { target: variant.field(input)? },
        3 => EntryKind::HardLink { to: variant.field(input)? },
        6 => EntryKind::Database { page_size: variant.field(input)?, stamp: variant.field(input)? },
        7 => EntryKind::Table {
            rows: variant.field(input)?,
            digest: RowsDigest::InOrder(variant.field(input)?),
            definition: variant.field(input)?,
        },
        8 => EntryKind::Table {
            rows: variant.field(input)?,
            digest: RowsDigest::AnyOrder(variant.field(input)?),
            definition: variant.field(input)?,
        },
        other => return cbor::unknown("entry kind", other.into()),
    };
    variant.end(input)?;
    Ok(kind)
}

fn take_xattrs(input: &mut In<'_>) -> WireResult<Vec<Xattr>> {
    let len = cbor::array_len(input)?;
    if len % 2 != 0 {
        return malformed("an extended attribute without a value");
    }
    let mut xattrs = Vec::new();
    for _ in 0..len / 2 {
        xattrs.push(Xattr { name: Wire::take(input)?, value: Wire::take(input)? });
    }
    Ok(xattrs)
}

fn take_extents(input: &mut In<'_>, refs: &Refs<'_>) -> WireResult<Vec<Extent>> {
    let len = cbor::array_len(input)?;
    let mut extents = Vec::new();
    for _ in 0..len {
        extents.push(match input.datatype()? {
            Type::Array => Extent::Chunk(take_chunk(input, refs)?),
            _ => Extent::Hole { len: input.u64()? },
        });
    }
    Ok(extents)
}

fn take_chunk(input: &mut In<'_>, refs: &Refs<'_>) -> WireResult<ChunkRef> {
    let more = cbor::begin_array(input, 5)?;
    let id = Wire::take(input)?;
    let number = input.u32()?;
    let (offset, stored_len, raw_len) = (input.u64()?, input.u32()?, input.u32()?);
    cbor::skip(input, more)?;
    check_place(offset, stored_len, raw_len)?;
    let pack = refs.pack(number, offset + u64::from(stored_len))?;
    Ok(ChunkRef { id, pack, offset, stored_len, raw_len })
}

impl Wire for EntryPath {
    fn put(&self, out: &mut Out<'_>) {
        emit(out.bytes(self.as_bytes()));
    }

    fn take(input: &mut In<'_>) -> WireResult<Self> {
        Self::new(input.bytes()?).or_else(|error| malformed(error.to_string()))
    }
}
