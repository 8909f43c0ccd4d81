//! A manifest: a whole site at one moment, and the input of a restore plan.
//!
//! ```text
//! header | chunk* page* … | head | trailer
//!          │      │          └ parts, where each page is, and every pack with its sealed key
//!          │      └ entries in path order, one part after another
//!          └ only for a tiny site: content that is not worth a pack of its own
//! ```
//!
//! Restoring reads the head, the pages it wants, and ranges of packs: no index, no pack header.
//!
//! Invariant (read-what-was-written): an entry no reader would accept is refused by the writer.

use std::collections::HashMap;

use lifeboat_model::{
    ChunkId, ChunkRef, Entry, EntryPath, ManifestRef, ObjectId, PartIdentity, PartProblem, PartRecord, Position,
    SiteId, SnapshotId,
};

use crate::cbor::{self, In, WireResult, emit, malformed, wire_lists, wire_map};
use crate::table::check_place;
use crate::wire::{Refs, check_entry, put_entry, take_entry};
use crate::{
    Compressor, Decompressor, Error, FRAME_LEN_MIN, FrameKind, HEADER_LEN, ObjectKind, ObjectOpener, ObjectWriter,
    PackRow, Placed, Result, SiteKeys,
};

/// A page is sealed when it holds this many plain bytes or entries: small enough to fetch and
/// stream many in parallel, large enough that a page is worth its request.
const PAGE_BYTES: usize = 256 << 10;
const PAGE_ENTRIES: u32 = 2048;

/// The directory of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestHead {
    pub site: SiteId,
    pub snapshot: SnapshotId,
    pub parts: Vec<ManifestPart>,
    /// By part, then by first path.
    pub pages: Vec<PageRef>,
    pub packs: Vec<PackRow>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestPart {
    pub record: PartRecord,
    pub identity: PartIdentity,
    pub position: Position,
    /// Entries that are missing or uncertain.
    pub problems: Vec<PartProblem>,
    /// Entries left out by rule.
    pub left_out: Vec<PartProblem>,
}

/// Where a page is, and which entries it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRef {
    /// Place of the part in [`ManifestHead::parts`].
    pub part: u32,
    pub offset: u64,
    pub stored_len: u32,
    pub entries: u32,
    /// The first entry's path: a reader of one path needs one page.
    pub first: EntryPath,
}

/// What the writer of a manifest learns only at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestSummary {
    pub site: SiteId,
    pub snapshot: SnapshotId,
    pub parts: Vec<ManifestPart>,
    /// A row for every pack that an entry names, in any order; others are left out.
    pub packs: Vec<PackRow>,
}

/// A manifest being written: entries come part by part, in path order; pages are cut here.
#[derive(Debug)]
pub struct ManifestWriter {
    object: ObjectWriter,
    pages: Vec<PageRef>,
    page: Option<OpenPage>,
    /// Packs by number less one, in order of first mention.
    packs: Vec<ObjectId>,
    /// How far into each of them a chunk reaches.
    ends: Vec<u64>,
    numbers: HashMap<ObjectId, u32>,
}

#[derive(Debug)]
struct OpenPage {
    part: u32,
    entries: u32,
    first: EntryPath,
    last: EntryPath,
    items: Vec<u8>,
}

impl ManifestWriter {
    pub fn new(keys: &SiteKeys, id: ObjectId) -> Result<Self> {
        let object = ObjectWriter::new(keys, ObjectKind::Manifest, id)?;
        Ok(Self { object, pages: Vec::new(), page: None, packs: Vec::new(), ends: Vec::new(), numbers: HashMap::new() })
    }

    pub fn id(&self) -> ObjectId {
        self.object.id()
    }

    /// Bytes so far, without the page that is open and the head.
    pub fn len(&self) -> u64 {
        self.object.len()
    }

    pub fn is_empty(&self) -> bool {
        self.object.is_empty() && self.page.is_none()
    }

    /// Stores a chunk in the manifest itself.
    pub fn push_chunk(&mut self, id: &ChunkId, plain: &[u8], compressor: &mut Compressor) -> Result<ChunkRef> {
        let Placed { offset, stored_len } = self.object.push_chunk(id, plain, compressor)?;
        Ok(ChunkRef { id: *id, pack: self.id(), offset, stored_len, raw_len: plain.len() as u32 })
    }

    /// Appends an entry of a part; parts ascend, and within a part paths do.
    pub fn push_entry(&mut self, part: u32, entry: &Entry, compressor: &mut Compressor) -> Result<()> {
        check_entry(entry).map_err(Error::misuse)?;
        for ChunkRef { offset, stored_len, raw_len, .. } in entry.chunks() {
            check_place(*offset, *stored_len, *raw_len).map_err(|error| Error::misuse(error.detail()))?;
        }
        if let Some(page) = &self.page {
            if part < page.part || (part == page.part && entry.path <= page.last) {
                let detail = format!("an entry out of order: entry=`{}`, after=`{}`", entry.path, page.last);
                return Err(Error::misuse(detail));
            }
            if part != page.part || page.is_full() {
                self.seal_page(compressor)?;
            }
        }
        self.append(part, entry);
        Ok(())
    }

    fn append(&mut self, part: u32, entry: &Entry) {
        let Self { page, packs, ends, numbers, object, .. } = self;
        let own = object.id();
        let page = page.get_or_insert_with(|| OpenPage {
            part,
            entries: 0,
            first: entry.path.clone(),
            last: entry.path.clone(),
            items: Vec::new(),
        });
        put_entry(entry, &mut minicbor::Encoder::new(&mut page.items), |chunk| {
            if chunk.pack == own {
                return 0;
            }
            let number = *numbers.entry(chunk.pack).or_insert_with(|| {
                packs.push(chunk.pack);
                ends.push(0);
                packs.len() as u32
            });
            let end = &mut ends[number as usize - 1];
            *end = (*end).max(chunk.offset + u64::from(chunk.stored_len));
            number
        });
        page.entries += 1;
        page.last.clone_from(&entry.path);
    }

    fn seal_page(&mut self, compressor: &mut Compressor) -> Result<()> {
        let Some(page) = self.page.take() else {
            return Ok(());
        };
        let mut plain = Vec::with_capacity(page.items.len() + 5);
        emit(minicbor::Encoder::new(&mut plain).array(page.entries.into()));
        plain.extend_from_slice(&page.items);
        let Placed { offset, stored_len } = self.object.push_frame(FrameKind::Page, &plain, Some(compressor))?;
        self.pages.push(PageRef { part: page.part, offset, stored_len, entries: page.entries, first: page.first });
        Ok(())
    }

    /// The packs that entries have named so far: [`ManifestSummary::packs`] must have a row for each.
    pub fn packs(&self) -> &[ObjectId] {
        &self.packs
    }

    /// Seals the last page and the head.
    pub fn finish(mut self, summary: ManifestSummary, compressor: &mut Compressor) -> Result<(Vec<u8>, ManifestRef)> {
        self.seal_page(compressor)?;
        let ManifestSummary { site, snapshot, parts, packs: rows } = summary;
        if let Some(page) = self.pages.iter().find(|page| page.part as usize >= parts.len()) {
            return Err(Error::misuse(format!("entries of a part that is not in the head: part=`{}`", page.part)));
        }
        let rows: HashMap<ObjectId, PackRow> = rows.into_iter().map(|row| (row.id, row)).collect();
        let row = |(id, end): (&ObjectId, &u64)| match rows.get(id) {
            Some(row) if *end <= row.len => Ok(*row),
            Some(_) => Err(Error::misuse(format!("an entry names a chunk beyond the end of its pack: pack=`{id}`"))),
            None => Err(Error::misuse(format!("no row for a pack that entries name: pack=`{id}`"))),
        };
        let packs = self.packs.iter().zip(&self.ends).map(row).collect::<Result<_>>()?;
        let head = ManifestHead { site, snapshot, parts, pages: self.pages, packs };
        let placed = self.object.push_frame(FrameKind::Head, &cbor::to_bytes(&head), Some(compressor))?;
        let (bytes, own) = self.object.finish()?;
        let (head_offset, head_len) = (placed.offset, placed.stored_len);
        Ok((bytes, ManifestRef { id: own.id, len: own.len, head_offset, head_len }))
    }
}

impl OpenPage {
    fn is_full(&self) -> bool {
        self.items.len() >= PAGE_BYTES || self.entries >= PAGE_ENTRIES
    }
}

/// Opens and reads the head, whose frame lies at `offset` ([`ManifestRef::head_offset`]).
pub fn decode_manifest_head(
    opener: &ObjectOpener,
    offset: u64,
    frame: &mut [u8],
    decompressor: &mut Decompressor,
) -> Result<ManifestHead> {
    let mut inflated = Vec::new();
    let body = opener.open_frame(FrameKind::Head, offset, frame)?.plain(decompressor, &mut inflated)?;
    let head: ManifestHead = cbor::from_bytes("manifest head", body)?;
    head.check(offset).map_err(|error| error.into_error("manifest head"))?;
    Ok(head)
}

impl ManifestHead {
    fn check(&self, head_offset: u64) -> WireResult<()> {
        for page in &self.pages {
            let end = page.offset.checked_add(page.stored_len.into());
            if page.part as usize >= self.parts.len() {
                return malformed(format!("a page of no part: part=`{}`, parts=`{}`", page.part, self.parts.len()));
            }
            let within = page.offset >= HEADER_LEN as u64 && end.is_some_and(|end| end <= head_offset);
            if !within || page.stored_len < FRAME_LEN_MIN as u32 || page.entries == 0 {
                return malformed(format!("a page in no possible place: offset=`{}`", page.offset));
            }
        }
        if !self.pages.is_sorted_by(|a, b| (a.part, &a.first) < (b.part, &b.first)) {
            return malformed("pages out of order");
        }
        Ok(())
    }

    /// The pages of one part, in path order.
    pub fn pages_of(&self, part: u32) -> &[PageRef] {
        let from = self.pages.partition_point(|page| page.part < part);
        let till = self.pages.partition_point(|page| page.part <= part);
        &self.pages[from..till]
    }
}

/// Opens and reads one page: its entries in path order, each checked.
pub fn decode_page(
    opener: &ObjectOpener,
    head: &ManifestHead,
    page: &PageRef,
    frame: &mut [u8],
    decompressor: &mut Decompressor,
) -> Result<Vec<Entry>> {
    let mut inflated = Vec::new();
    let body = opener.open_frame(FrameKind::Page, page.offset, frame)?.plain(decompressor, &mut inflated)?;
    let refs = Refs { own: opener.id(), packs: &head.packs };
    read_page(body, page, &refs).map_err(|error| error.into_error("manifest page"))
}

fn read_page(body: &[u8], page: &PageRef, refs: &Refs<'_>) -> WireResult<Vec<Entry>> {
    let mut input = In::new(body);
    let count = cbor::array_len(&mut input)?;
    if count != u64::from(page.entries) {
        return malformed(format!("another number of entries: found=`{count}`, expected=`{}`", page.entries));
    }
    let mut entries: Vec<Entry> = Vec::new();
    for _ in 0..count {
        let entry = take_entry(&mut input, refs)?;
        match entries.last() {
            None if entry.path != page.first => {
                return malformed(format!("it begins at another path: entry=`{}`", entry.path));
            }
            Some(last) if last.path >= entry.path => return malformed(format!("out of order: entry=`{}`", entry.path)),
            _ => entries.push(entry),
        }
    }
    cbor::at_end(&input)?;
    Ok(entries)
}

wire_map!(ManifestHead { 0: site, 1: snapshot, 2: parts, 3: pages, 4: packs });
wire_map!(ManifestPart { 0: record, 1: identity, 2: position, 3: problems, 4: left_out });
wire_map!(PageRef { 0: part, 1: offset, 2: stored_len, 3: entries, 4: first });
wire_lists!(ManifestPart, PageRef, PackRow);

#[cfg(test)]
mod tests;
