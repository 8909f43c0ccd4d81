//! A segment as a whole: blocks end to end, the footer that names them, and the tail that finds it.

use std::fmt;

use lifeboat_model::{
    BlockRef, EpochId, LongSegment, Lsn, ObjectId, ObjectPlace, SegmentFooter, SegmentNumber, SegmentSpan, SharedFacts,
    SharedKinds, SiteId, SourceName, SpanBounds, Timestamp, TransactionHead, UnroutedChanges, UnroutedRef,
};

use super::{Checked, SealedBlock};
use crate::cbor::wire_map;
use crate::commit::{decode_body, encode_body};
use crate::wire::{check_change, check_table};
use crate::{Error, FRAME_LEN_MIN, HEADER_LEN, ObjectKind, Result, SiteKeys, TRAILER_LEN};

/// Bytes of a segment, at most: beyond it some servers decide less strictly who was first.
pub const SEGMENT_LEN_MAX: u64 = 64 << 20;
/// Bytes of a sealed object with one frame, at least.
const OBJECT_LEN_MIN: u64 = (HEADER_LEN + FRAME_LEN_MIN + TRAILER_LEN) as u64;

/// Which segment it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SegmentName {
    pub source: SourceName,
    pub epoch: EpochId,
    pub number: SegmentNumber,
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, epoch, number } = self;
        write!(f, "source=`{source}`, epoch=`{epoch}`, number=`{number}`")
    }
}

/// What is known of a segment before its blocks are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentHead {
    pub name: SegmentName,
    /// Of the footer: random.
    pub id: ObjectId,
    /// Id of the footer before; of the first segment, the epoch's nonce.
    pub previous: ObjectId,
    pub span: SegmentSpan,
    pub sealed_at: Timestamp,
    /// The epoch that follows, in the last segment of an epoch.
    pub followed_by: Option<EpochId>,
}

/// Which segments a long one stands for: `first` up to its own number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StandsFor {
    pub first: SegmentNumber,
    /// Of the footer of the last one, which the segment after it names.
    pub last_id: ObjectId,
}

struct FooterBody {
    source: SourceName,
    epoch: EpochId,
    number: SegmentNumber,
    previous: ObjectId,
    span: SegmentSpan,
    sealed_at: Timestamp,
    blocks: Vec<BlockRef>,
    shared: Option<ObjectPlace>,
    unrouted: Option<UnroutedRef>,
    followed_by: Option<EpochId>,
    stands_for: Option<StandsFor>,
    shared_kinds: Option<SharedKinds>,
}

wire_map!(FooterBody {
    0: source,
    1: epoch,
    2: number,
    3: previous,
    4: span,
    5: sealed_at,
    6: blocks,
    7: shared,
    8: unrouted,
    9: followed_by,
    10: stands_for,
    11: shared_kinds,
});

/// A segment being put together: its blocks by site, then what belongs to none.
#[derive(Debug)]
pub struct SegmentWriter {
    keys: SiteKeys,
    head: SegmentHead,
    bytes: Vec<u8>,
    blocks: Vec<BlockRef>,
    shared: Option<ObjectPlace>,
    unrouted: Option<UnroutedRef>,
    stands_for: Option<StandsFor>,
    shared_kinds: Option<SharedKinds>,
}

impl SegmentWriter {
    /// `keys` are the repository's own ([`crate::RepositoryKeys::object_keys`]).
    pub fn new(keys: &SiteKeys, head: SegmentHead) -> Self {
        let (blocks, shared, unrouted) = (Vec::new(), None, None);
        let bytes = Vec::new();
        Self { keys: keys.clone(), head, bytes, blocks, shared, unrouted, stands_for: None, shared_kinds: None }
    }

    /// The same for a long segment: of those from `first` to the head's number, the last of which has a footer
    /// of this id. Its span and its `previous` are those of all of them together.
    #[must_use]
    pub fn standing_for(self, first: SegmentNumber, last_id: ObjectId) -> Self {
        Self { stands_for: Some(StandsFor { first, last_id }), ..self }
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Appends a site's block; sites ascend.
    pub fn push_block(&mut self, site: &SiteId, block: SealedBlock) -> Result<()> {
        if self.shared.is_some() || self.unrouted.is_some() {
            return Err(Error::misuse("blocks of sites come first in a segment"));
        }
        let SealedBlock { id, bytes, counts, first, last } = block;
        let place = self.append(id, &bytes)?;
        self.blocks.push(BlockRef { site: site.clone(), place, counts, first, last });
        Ok(())
    }

    pub fn push_shared(&mut self, id: ObjectId, facts: &SharedFacts) -> Result<()> {
        if self.shared.is_some() || self.unrouted.is_some() {
            return Err(Error::misuse("the shared block comes once, before the unrouted one"));
        }
        check_shared(facts).map_err(Error::misuse)?;
        let bytes = encode_body(&self.keys, ObjectKind::SharedBlock, id, facts)?;
        self.shared = Some(self.append(id, &bytes)?);
        Ok(())
    }

    /// The same, and the footer says what it tells beside transactions, so that readers know when they need it. It does
    /// not where the bounds of the head's span are others than those of the transactions.
    pub fn push_shared_with_kinds(&mut self, id: ObjectId, facts: &SharedFacts) -> Result<()> {
        self.push_shared(id, facts)?;
        let heads = facts.transactions.iter().map(|facts| &facts.head);
        let bounds = heads.fold(None, |bounds: Option<SpanBounds>, head| match bounds {
            Some(bounds) => Some(bounds.with(head)),
            None => Some(SpanBounds::of(head)),
        });
        self.shared_kinds = (bounds == self.head.span.bounds).then(|| SharedKinds::of(facts));
        Ok(())
    }

    pub fn push_unrouted(&mut self, id: ObjectId, changes: &UnroutedChanges) -> Result<()> {
        if self.unrouted.is_some() {
            return Err(Error::misuse("the unrouted block comes once"));
        }
        check_unrouted(changes).map_err(Error::misuse)?;
        let bytes = encode_body(&self.keys, ObjectKind::UnroutedBlock, id, changes)?;
        let place = self.append(id, &bytes)?;
        self.unrouted = Some(UnroutedRef { place, changes: changes.changes.len() as u64 });
        Ok(())
    }

    /// The whole segment, and what it says of itself.
    pub fn finish(mut self) -> Result<(Vec<u8>, SegmentFooter)> {
        let SegmentHead { name, id, previous, span, sealed_at, followed_by } = self.head;
        let SegmentName { source, epoch, number } = name;
        let Self { blocks, shared, unrouted, stands_for, shared_kinds, .. } = self;
        let body = FooterBody {
            source,
            epoch,
            number,
            previous,
            span,
            sealed_at,
            blocks,
            shared,
            unrouted,
            followed_by,
            stands_for,
            shared_kinds,
        };
        let offset = self.bytes.len() as u64;
        body.check(offset).map_err(Error::misuse)?;
        let footer = encode_body(&self.keys, ObjectKind::Footer, id, &body)?;
        let tail = SegmentTail {
            footer_offset: offset,
            footer_len: u32::try_from(footer.len()).unwrap_or(u32::MAX),
            blocks: body.count(),
        };
        self.bytes.extend_from_slice(&footer);
        self.bytes.extend_from_slice(&tail.to_bytes());
        check_segment_len(self.bytes.len() as u64)?;
        Ok((self.bytes, body.into_footer(id)))
    }

    fn append(&mut self, id: ObjectId, bytes: &[u8]) -> Result<ObjectPlace> {
        let place = ObjectPlace { id, offset: self.bytes.len() as u64, len: bytes.len() as u64 };
        check_segment_len(place.offset + place.len)?;
        self.bytes.extend_from_slice(bytes);
        Ok(place)
    }
}

fn check_segment_len(len: u64) -> Result<()> {
    match len <= SEGMENT_LEN_MAX {
        true => Ok(()),
        false => Err(Error::TooLarge { what: "segment", len, max: SEGMENT_LEN_MAX }),
    }
}

/// The end of a segment: where its footer is. Not sealed; the footer proves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentTail {
    pub footer_offset: u64,
    pub footer_len: u32,
    /// The shared and the unrouted block included.
    pub blocks: u32,
}

impl SegmentTail {
    pub const LEN: usize = 24;
    const MAGIC: [u8; 8] = *b"LIFEBSEG";

    /// From the last bytes of a segment of `segment_len` bytes.
    pub fn parse(end: &[u8], segment_len: u64) -> Result<Self> {
        let damaged = |detail: String| Error::damaged("segment tail", detail);
        let tail = end
            .last_chunk::<{ Self::LEN }>()
            .ok_or_else(|| damaged(format!("the segment is too short for one: len=`{}`", end.len())))?;
        let (numbers, magic) = tail.split_at(16);
        if magic != Self::MAGIC {
            return Err(damaged("it does not end with the magic bytes of a segment".to_owned()));
        }
        let (offset, rest) = numbers.split_at(8);
        let (len, blocks) = rest.split_at(4);
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        let parsed = Self {
            footer_offset: number(offset),
            footer_len: number(len) as u32, // of four bytes
            blocks: number(blocks) as u32,  // of four bytes
        };
        let end = parsed.footer_offset.checked_add(u64::from(parsed.footer_len) + Self::LEN as u64);
        if end != Some(segment_len) || u64::from(parsed.footer_len) < OBJECT_LEN_MIN {
            let Self { footer_offset, footer_len, .. } = parsed;
            let detail = format!(
                "impossible lengths: footer_offset=`{footer_offset}`, footer_len=`{footer_len}`, len=`{segment_len}`"
            );
            return Err(damaged(detail));
        }
        Ok(parsed)
    }

    fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.footer_offset.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.footer_len.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.blocks.to_le_bytes());
        bytes[16..].copy_from_slice(&Self::MAGIC);
        bytes
    }
}

/// Reads the footer of the segment that is stored under `name`; `footer` are the bytes the tail says.
pub fn decode_footer(keys: &SiteKeys, name: &SegmentName, tail: &SegmentTail, footer: &[u8]) -> Result<SegmentFooter> {
    let (id, body) = decode_any_footer(keys, name, tail, footer)?;
    match body.stands_for {
        None => Ok(body.into_footer(id)),
        Some(_) => Err(Error::damaged("footer", "it is of a long segment")),
    }
}

/// Reads the footer of the long segment that a log commit names. What it gives is like the footer of the last
/// segment it stands for, with that one's id, and spans all of them.
pub fn decode_long_footer(
    keys: &SiteKeys,
    name: &SegmentName,
    long: &LongSegment,
    (tail, footer): (&SegmentTail, &[u8]),
) -> Result<SegmentFooter> {
    let (id, body) = decode_any_footer(keys, name, tail, footer)?;
    match body.stands_for {
        Some(StandsFor { first, last_id }) if (id, first) == (long.id, long.first) => Ok(body.into_footer(last_id)),
        _ => Err(Error::damaged("footer", format!("it is of another segment: found=`{id}`, expected=`{}`", long.id))),
    }
}

fn decode_any_footer(
    keys: &SiteKeys,
    name: &SegmentName,
    tail: &SegmentTail,
    footer: &[u8],
) -> Result<(ObjectId, FooterBody)> {
    let (id, body): (_, FooterBody) = decode_body(keys, ObjectKind::Footer, footer)?;
    let found = SegmentName { source: body.source.clone(), epoch: body.epoch, number: body.number };
    let damaged = |detail: String| Err(Error::damaged("footer", detail));
    if found != *name {
        return damaged(format!("it is of another segment: found=({found}), expected=({name})"));
    }
    if footer.len() as u64 != u64::from(tail.footer_len) || body.count() != tail.blocks {
        return damaged("the tail tells of other blocks".to_owned());
    }
    match body.check(tail.footer_offset) {
        Ok(()) => Ok((id, body)),
        Err(detail) => damaged(detail),
    }
}

/// Reads a shared block from the bytes that its footer says.
pub fn decode_shared(keys: &SiteKeys, place: &ObjectPlace, bytes: &[u8]) -> Result<SharedFacts> {
    let facts: SharedFacts = decode_place(keys, ObjectKind::SharedBlock, place, bytes)?;
    check_shared(&facts).map_err(|detail| Error::damaged("shared block", detail))?;
    Ok(facts)
}

/// Reads an unrouted block from the bytes that its footer says.
pub fn decode_unrouted(keys: &SiteKeys, block: &UnroutedRef, bytes: &[u8]) -> Result<UnroutedChanges> {
    let changes: UnroutedChanges = decode_place(keys, ObjectKind::UnroutedBlock, &block.place, bytes)?;
    check_unrouted(&changes).map_err(|detail| Error::damaged("unrouted block", detail))?;
    match changes.changes.len() as u64 == block.changes {
        true => Ok(changes),
        false => Err(Error::damaged("unrouted block", "it holds other changes than its footer says")),
    }
}

fn decode_place<T: crate::cbor::Wire>(
    keys: &SiteKeys,
    kind: ObjectKind,
    place: &ObjectPlace,
    bytes: &[u8],
) -> Result<T> {
    check_len(kind, place, bytes)?;
    let (id, body) = decode_body(keys, kind, bytes)?;
    match id == place.id {
        true => Ok(body),
        false => Err(Error::damaged(kind.name(), format!("it is another one: found=`{id}`, expected=`{}`", place.id))),
    }
}

pub(super) fn check_len(kind: ObjectKind, place: &ObjectPlace, bytes: &[u8]) -> Result<()> {
    match bytes.len() as u64 == place.len {
        true => Ok(()),
        false => {
            let detail = format!("it has another length: len=`{}`, expected=`{}`", bytes.len(), place.len);
            Err(Error::damaged(kind.name(), detail))
        }
    }
}

impl FooterBody {
    fn count(&self) -> u32 {
        let others = usize::from(self.shared.is_some()) + usize::from(self.unrouted.is_some());
        u32::try_from(self.blocks.len() + others).unwrap_or(u32::MAX)
    }

    /// What must hold for every footer, written or read.
    fn check(&self, offset: u64) -> Checked {
        if !self.blocks.is_sorted_by(|a, b| a.site < b.site) {
            return Err("its blocks do not ascend by site".to_owned());
        }
        let places = self.blocks.iter().map(|block| &block.place);
        let places = places.chain(&self.shared).chain(self.unrouted.as_ref().map(|unrouted| &unrouted.place));
        let mut end = 0u64;
        for ObjectPlace { id, offset, len } in places {
            let next = end.checked_add(*len).filter(|_| *offset == end && *len >= OBJECT_LEN_MIN);
            end = next.ok_or_else(|| {
                format!("a block in no possible place: id=`{id}`, offset=`{offset}`, len=`{len}`, expected=`{end}`")
            })?;
        }
        if end != offset {
            return Err(format!("blocks do not reach to the footer: end=`{end}`, footer=`{offset}`"));
        }
        if self.stands_for.is_some_and(|stands_for| stands_for.first.0 == 0 || stands_for.first > self.number) {
            return Err("it stands for segments that come after it".to_owned());
        }
        if self.shared_kinds.is_some() && self.shared.is_none() {
            return Err("it says what a shared block tells, and there is none".to_owned());
        }
        self.check_span()?;
        self.blocks.iter().try_for_each(|block| self.check_block(block))
    }

    fn check_span(&self) -> Checked {
        let SegmentSpan { from, complete_till, bounds, highest } = self.span;
        let ordered = bounds.is_none_or(|bounds| {
            from < bounds.first_commit
                && bounds.first_commit <= bounds.last_commit
                && bounds.earliest <= bounds.latest
                && bounds.lowest <= bounds.highest
                && highest.is_none_or(|highest| bounds.highest <= highest)
        });
        match from <= complete_till && ordered {
            true => Ok(()),
            false => Err(format!("a span that goes backwards: from=`{from}`, complete_till=`{complete_till}`")),
        }
    }

    fn check_block(&self, block: &BlockRef) -> Checked {
        let BlockRef { place, counts, first, last, .. } = block;
        let within = self
            .span
            .bounds
            .is_some_and(|bounds| bounds.first_commit <= first.commit && last.commit <= bounds.last_commit);
        match within && first <= last && counts.changes() > 0 {
            true => Ok(()),
            false => Err(format!("a block outside of the segment's span: id=`{}`", place.id)),
        }
    }

    fn into_footer(self, id: ObjectId) -> SegmentFooter {
        let Self { source, epoch, number, previous, span, sealed_at, blocks, .. } = self;
        let Self { shared, unrouted, followed_by, shared_kinds, .. } = self;
        SegmentFooter {
            source,
            epoch,
            number,
            id,
            previous,
            span,
            sealed_at,
            blocks,
            shared,
            unrouted,
            followed_by,
            shared_kinds,
        }
    }
}

fn check_shared(facts: &SharedFacts) -> Checked {
    let SharedFacts { sites, tables, transactions, truncations, structure, .. } = facts;
    let is_table = |number: &u32| (*number as usize) < tables.len();
    let counts = transactions.iter().flat_map(|transaction| &transaction.counts);
    for count in counts {
        if count.site as usize >= sites.len() || !is_table(&count.table) {
            return Err(format!("a count of no such site or table: site=`{}`, table=`{}`", count.site, count.table));
        }
    }
    if !truncations.iter().flat_map(|truncation| &truncation.tables).all(is_table) {
        return Err("a truncation of no such table".to_owned());
    }
    if !transactions.is_sorted_by(|a, b| commit_of(&a.head) < commit_of(&b.head)) {
        return Err("transactions do not ascend by commit".to_owned());
    }
    structure.iter().flat_map(|change| change.before.iter().chain([&change.after])).try_for_each(check_table)
}

fn commit_of(head: &TransactionHead) -> Lsn {
    head.commit
}

fn check_unrouted(unrouted: &UnroutedChanges) -> Checked {
    unrouted.tables.iter().try_for_each(check_table)?;
    if !unrouted.changes.is_sorted_by(|a, b| a.place < b.place) {
        return Err("changes do not ascend".to_owned());
    }
    for change in &unrouted.changes {
        let Some(table) = unrouted.tables.get(change.table as usize) else {
            return Err(format!("no such table: number=`{}`, tables=`{}`", change.table, unrouted.tables.len()));
        };
        if let Some(row) = &change.change {
            check_change(table, row)?;
            if row.kind() != change.kind {
                return Err(format!("a change of two kinds: commit=`{}`", change.place.commit));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
