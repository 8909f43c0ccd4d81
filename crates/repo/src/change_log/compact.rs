//! Compaction: many segments written again as one, grouped by site, with every version in it.
//!
//!   segments of a range, read whole ─▶ per site one block of all its changes ─▶ facts joined ─▶ long segment,
//!   durable ─▶ log commit                                         killed before it: an object that nobody names
//!
//! A restore of one site from a day of segments of five seconds reads 17,280 footers; from long ones, some twenty.
//! Memory is what one long segment takes, twice: the segments it is made of, and itself.
//!
//! Invariant (compaction-loses-nothing): what is read through a long segment is what is read from the segments it
//! stands for, for every site; and those stay.
//! What is not here: deleting them (`prune`), and when to run (`engine`).

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};
use lifeboat_format::{
    BlockReader, Compressor, SealedBlock, SealingBlock, SegmentHead, SegmentName, SegmentTail, SegmentWriter,
    decode_shared, decode_unrouted, names,
};
use lifeboat_model::{
    EpochId, KeyNumber, LogCommitNumber, LogEvent, LongSegment, ObjectId, ObjectPlace, SegmentFooter, SegmentNumber,
    SegmentSpan, SiteId, SpanBounds, Timestamp, WriterIdentity,
};

use super::{ChangeLog, ListedSegment};
use crate::upload::object_name;
use crate::{Error, random_id};

mod join;
mod plan;

use join::{SharedJoin, join_unrouted};
use plan::{BYTES_MAX, Item};

/// Segments that are looked at: those of a day. What is older and still plain is so because it is large.
const LOOK_BACK_MAX: u64 = 20_000;

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    pub epoch: EpochId,
    pub long: LongSegment,
}

/// A segment in memory.
struct Loaded {
    segment: ListedSegment,
    footer: SegmentFooter,
    body: Bytes,
}

impl ChangeLog {
    /// Writes again what is due: an hour of segments as one, and a day of those. `None`: nothing is, or another
    /// process did it. Call again after a result: more may be due.
    ///
    /// Must run on a multi-threaded runtime.
    pub async fn compact_due(&self, now: Timestamp, writer: &WriterIdentity) -> Result<Option<Compacted>, Error> {
        self.check_whole()?;
        // Of an epoch that has ended something may be left; of older ones nothing.
        let newest = self.newest_epoch().await?.map_or(0, |epoch| epoch.0);
        for epoch in (newest.saturating_sub(1).max(1)..=newest).map(EpochId) {
            if let Some(range) = self.range_due(epoch, now).await? {
                return self.compact(epoch, range, writer).await;
            }
        }
        Ok(None)
    }

    async fn range_due(&self, epoch: EpochId, now: Timestamp) -> Result<Option<RangeInclusive<SegmentNumber>>, Error> {
        let Some(newest) = self.newest_segment(epoch).await? else { return Ok(None) };
        let state = self.log_state(epoch).await?;
        let longs = &state.long_segments;
        let first = longs.last().map_or(state.first().0, |long| long.last.0.saturating_add(1));
        let first = first.max(newest.number.0.saturating_sub(LOOK_BACK_MAX));
        let mut plain = match first <= newest.number.0 {
            true => self.plain_segments(epoch, first, newest.number.0).await?,
            false => Vec::new(),
        };
        if let Some(last) = plain.last()
            && self.is_end(last).await?
        {
            plain.pop();
        }
        let oldest = match plain.first() {
            Some(oldest) => Some(self.footer(oldest).await?.sealed_at),
            None => None,
        };
        let item = |segment: &ListedSegment| Item { first: segment.number, last: segment.number, len: segment.len };
        let plain: Vec<Item> = plain.iter().map(item).collect();
        let longs: Vec<Item> =
            longs.iter().map(|long| Item { first: long.first, last: long.last, len: long.len }).collect();
        Ok(plan::due(&longs, &plain, oldest.map(|oldest| now.since(oldest))))
    }

    /// Whether a segment ends its epoch: it says nothing of the source, not even till when the log lacks nothing. Joined
    /// with others it would take that from them.
    async fn is_end(&self, segment: &ListedSegment) -> Result<bool, Error> {
        Ok(self.footer(segment).await?.followed_by.is_some())
    }

    /// Writes a range of segments again as one. What is too large for one is halved until it fits.
    ///
    /// Must run on a multi-threaded runtime.
    pub async fn compact(
        &self,
        epoch: EpochId,
        range: RangeInclusive<SegmentNumber>,
        writer: &WriterIdentity,
    ) -> Result<Option<Compacted>, Error> {
        self.check_whole()?;
        let (first, mut last) = (*range.start(), *range.end());
        if let Some(segment) = self.segments(epoch, last..=last).await?.first()
            && self.is_end(segment).await?
        {
            last = SegmentNumber(last.0 - 1);
        }
        loop {
            let wanted = LongSegment { id: ObjectId([0; ObjectId::LEN]), len: 0, first, last };
            let state = self.log_state(epoch).await?;
            if first >= last || state.after(&LogEvent::Compacted(wanted), LogCommitNumber(0)).is_none() {
                return Ok(None);
            }
            match self.compact_as_one(epoch, (first, last), writer).await {
                Err(Error::Format(lifeboat_format::Error::TooLarge { .. })) => {
                    last = SegmentNumber(first.0 + (last.0 - first.0) / 2);
                }
                other => return other,
            }
        }
    }

    async fn compact_as_one(
        &self,
        epoch: EpochId,
        (first, last): (SegmentNumber, SegmentNumber),
        writer: &WriterIdentity,
    ) -> Result<Option<Compacted>, Error> {
        let segments = self.segments(epoch, first..=last).await?;
        let all: u64 = segments.iter().map(|segment| segment.len).sum();
        if all > BYTES_MAX {
            return Err(lifeboat_format::Error::TooLarge { what: "long segment", len: all, max: BYTES_MAX }.into());
        }
        let loaded = self.load(segments).await?;
        let id = ObjectId(random_id()?);
        let body = self.write_long(id, &loaded).await?;
        drop(loaded);
        let long = LongSegment { id, len: body.len() as u64, first, last };
        let name = object_name(names::long_segment(&self.source, epoch, &id))?;
        self.create_own(&name, body, (epoch, last)).await?;
        // A host that slept for days finds it gone, as an upload that nobody named.
        let publish = (Some(&name), |_: &lifeboat_model::LogState| Some(LogEvent::Compacted(long)));
        let is_published = self.commit_log_of(epoch, writer, publish).await?;
        Ok(is_published.then_some(Compacted { epoch, long }))
    }

    /// Reads segments whole; each must follow from the one before it.
    async fn load(&self, segments: Vec<ListedSegment>) -> Result<Vec<Loaded>, Error> {
        let mut loaded: Vec<Loaded> = Vec::with_capacity(segments.len());
        for segment in segments {
            let name = object_name(self.object_of(&segment))?;
            let body = self.repository.store().get(&name).await?;
            let tail = SegmentTail::parse(&body, segment.len).map_err(Error::of_object(&name))?;
            let end = usize::try_from(tail.footer_offset).ok().and_then(|from| body.get(from..)).unwrap_or_default();
            let footer = self.decode_end(&segment, end).map_err(Error::of_object(&name))?;
            let before = loaded.last().map(|last| &last.footer);
            let before = before.map(|before| (before.number, before.id, before.span.complete_till));
            self.check_follows(&segment, &footer, before)?;
            loaded.push(Loaded { segment, footer, body });
        }
        Ok(loaded)
    }

    /// The bytes of the long segment.
    async fn write_long(&self, id: ObjectId, loaded: &[Loaded]) -> Result<Bytes, Error> {
        let (Some(first), Some(last)) = (loaded.first(), loaded.last()) else {
            return Err(Error::Bug("a long segment of no segments".into()));
        };
        let bounds = loaded.iter().filter_map(|one| one.footer.span.bounds).reduce(join_bounds);
        let head = SegmentHead {
            name: SegmentName { source: self.source.clone(), epoch: last.footer.epoch, number: last.footer.number },
            id,
            previous: first.footer.previous,
            span: SegmentSpan { from: first.footer.span.from, bounds, ..last.footer.span },
            sealed_at: last.footer.sealed_at,
            followed_by: last.footer.followed_by,
        };
        let own = self.repository.keys().object_keys();
        let mut writer = SegmentWriter::new(own, head).standing_for(first.segment.first(), last.footer.id);
        let sites: BTreeSet<&SiteId> =
            loaded.iter().flat_map(|one| &one.footer.blocks).map(|block| &block.site).collect();
        let mut compressor = Compressor::new()?;
        for site in sites {
            if let Some(block) = self.join_blocks(site, loaded, &mut compressor).await? {
                writer.push_block(site, block)?;
            }
        }
        tokio::task::block_in_place(|| self.push_facts(&mut writer, loaded))?;
        let (bytes, _) = tokio::task::block_in_place(|| writer.finish())?;
        Ok(bytes.into())
    }

    /// All of a site's changes as one block, sealed by the oldest key that any of them has and that is to stay: of what an
    /// erasure takes meanwhile nothing is left.
    async fn join_blocks(
        &self,
        site: &SiteId,
        loaded: &[Loaded],
        compressor: &mut Compressor,
    ) -> Result<Option<SealedBlock>, Error> {
        let mut blocks = Vec::new();
        for one in loaded {
            let Some(block) = one.footer.block(site) else { continue };
            match self.keys_of_block(&one.segment, block, one.slice(&block.place)).await {
                // Nobody can read it any more: it need not be kept.
                Err(Error::Erased { .. }) => {}
                opened_by => blocks.push((one, block, opened_by?)),
            }
        }
        let numbers: BTreeSet<KeyNumber> = blocks.iter().map(|(.., opened_by)| opened_by.number()).collect();
        if numbers.len() > 1 {
            // What the state's key is older than is about to be destroyed. A newer one is of an erasure that came to nothing,
            // or has not come yet: then all of it goes with the older one.
            let valid = self.repository.site(site, None).await?.map_or(KeyNumber(1), |site| site.state().key);
            blocks.retain(|(.., opened_by)| opened_by.number() >= valid);
        }
        let Some(keys) = blocks.iter().map(|(.., keys)| keys).min_by_key(|keys| keys.number()).cloned() else {
            return Ok(None);
        };
        let mut joined = SealingBlock::new(&keys, ObjectId(random_id()?))?;
        for (one, block, opened_by) in blocks {
            let mut bytes = BytesMut::from(one.slice(&block.place));
            let damaged = |error| self.damaged(&one.segment, &block.place, site.as_str(), error);
            tokio::task::block_in_place(|| {
                let mut reader = BlockReader::new(&opened_by, block, &mut bytes).map_err(damaged)?;
                while let Some(frame) = reader.next_frame().map_err(damaged)? {
                    for transaction in frame {
                        for change in transaction.changes {
                            let place = (&transaction.head, change.sequence);
                            joined.push(place, &change.table, &change.change, compressor)?;
                        }
                    }
                }
                Ok::<(), Error>(())
            })?;
        }
        Ok(joined.finish(compressor)?)
    }

    /// What belongs to no site alone.
    fn push_facts(&self, writer: &mut SegmentWriter, loaded: &[Loaded]) -> Result<(), Error> {
        let own = self.repository.keys().object_keys();
        let (mut shared, mut unrouted) = (SharedJoin::default(), Vec::new());
        for one in loaded {
            if let Some(place) = &one.footer.shared {
                let facts = decode_shared(own, place, one.slice(place));
                shared.push(facts.map_err(|error| self.damaged(&one.segment, place, "shared", error))?);
            }
            if let Some(block) = &one.footer.unrouted {
                let changes = decode_unrouted(own, block, one.slice(&block.place));
                unrouted.push(changes.map_err(|error| self.damaged(&one.segment, &block.place, "unrouted", error))?);
            }
        }
        let (shared, unrouted) = (shared.finish(), join_unrouted(unrouted));
        if !shared.is_empty() {
            writer.push_shared_with_kinds(ObjectId(random_id()?), &shared)?;
        }
        if !unrouted.changes.is_empty() {
            writer.push_unrouted(ObjectId(random_id()?), &unrouted)?;
        }
        Ok(())
    }
}

impl Loaded {
    /// The bytes of a block; its footer proved that they are there.
    fn slice(&self, place: &ObjectPlace) -> &[u8] {
        let from = usize::try_from(place.offset).ok();
        let till = usize::try_from(place.offset.saturating_add(place.len)).ok();
        from.zip(till).and_then(|(from, till)| self.body.get(from..till)).unwrap_or_default()
    }
}

fn join_bounds(one: SpanBounds, other: SpanBounds) -> SpanBounds {
    SpanBounds {
        first_commit: one.first_commit.min(other.first_commit),
        last_commit: one.last_commit.max(other.last_commit),
        earliest: one.earliest.min(other.earliest),
        latest: one.latest.max(other.latest),
        lowest: one.lowest.min(other.lowest),
        highest: one.highest.max(other.highest),
    }
}

#[cfg(test)]
mod tests;
