//! Reading a change log: which segments there are, what each says of itself, and one site's changes.
//!
//!   LIST ─▶ segments ─▶ footers, some at once ─▶ this site's blocks, a few ahead ─▶ changes in order
//!
//! Memory is [`RANGES_MAX`] blocks of one site, and the changes of one frame. Nothing of another site's
//! blocks is requested.

use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};
use lifeboat_format::{
    BlockReader, ObjectHeader, SegmentTail, SiteKeys, decode_footer, decode_long_footer, decode_unrouted, names,
};
use lifeboat_model::{
    BlockRef, ChangePlace, EpochId, Fault, Faulty, LongSegment, Lsn, ObjectId, ObjectPlace, SegmentFooter,
    SegmentNumber, SiteChange, SiteId, TransactionHead, UnroutedChanges,
};

use super::{ChangeLog, ListedSegment, listed_segment};
use crate::Error;
use crate::upload::object_name;

/// Names asked for in one listing: what servers give at once.
const LIST_NAMES_MAX: usize = 1_000;
/// Read of a segment's end in the hope that footer and shared block are in it.
pub(super) const FACTS_BYTES_GUESS: u64 = 64 << 10;
pub(super) const FOOTERS_MAX: usize = 16;
/// Blocks of one site fetched ahead.
const RANGES_MAX: usize = 4;

/// A footer, and the bytes that were read with it.
pub(super) struct ReadFooter {
    pub footer: SegmentFooter,
    /// Bytes of footer and tail.
    pub end_len: usize,
    /// Offset of what was read: the end of the segment, more or less than its footer.
    pub from: u64,
    pub read: Bytes,
}

/// One site's block in one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentBlock {
    pub segment: ListedSegment,
    pub block: BlockRef,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogReadStats {
    pub blocks: u64,
    pub bytes_read: u64,
    pub changes: u64,
}

impl ChangeLog {
    /// The segments of a range, oldest first: long ones where they lie within it, plain ones elsewhere. One that is
    /// missing is damage.
    pub async fn segments(
        &self,
        epoch: EpochId,
        range: RangeInclusive<SegmentNumber>,
    ) -> Result<Vec<ListedSegment>, Error> {
        let (mut from, last) = (range.start().0.max(1), range.end().0);
        let mut found = Vec::new();
        for long in self.long_segments_within(epoch, from, last).await? {
            if from < long.first.0 {
                found.extend(self.plain_segments(epoch, from, long.first.0 - 1).await?);
            }
            found.push(ListedSegment { epoch, number: long.last, len: long.len, long: Some(long) });
            from = long.last.0.saturating_add(1);
        }
        if from <= last {
            found.extend(self.plain_segments(epoch, from, last).await?);
        }
        Ok(found)
    }

    /// Of one number or two nobody has to ask.
    async fn long_segments_within(&self, epoch: EpochId, first: u64, last: u64) -> Result<Vec<LongSegment>, Error> {
        if last <= first.saturating_add(1) {
            return Ok(Vec::new());
        }
        let within = |long: &LongSegment| first <= long.first.0 && long.last.0 <= last;
        match self.log_state(epoch).await {
            Ok(state) => Ok(state.long_segments.into_iter().filter(within).collect()),
            // All that it names is there a second time.
            Err(error) if error.fault() == Fault::Damage => {
                tracing::warn!(%error, source = %self.source, "a log commit is damaged; plain segments are read instead");
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    /// The segments from `first` to `last` as they were appended.
    pub(super) async fn plain_segments(
        &self,
        epoch: EpochId,
        first: u64,
        last: u64,
    ) -> Result<Vec<ListedSegment>, Error> {
        let prefix = names::segments_prefix(&self.source, epoch);
        let object =
            |number| self.object_of(&ListedSegment { epoch, number: SegmentNumber(number), len: 0, long: None });
        // Names are inverted: the listing goes down from the newest.
        let mut after = last.checked_add(1).map(|number| object_name(object(number))).transpose()?;
        let mut found: Vec<ListedSegment> = Vec::new();
        let mut expected = last;
        while expected >= first {
            let limit = usize::try_from(expected - first).unwrap_or(usize::MAX).saturating_add(1).min(LIST_NAMES_MAX);
            let page = self.repository.store().list(&prefix, after.as_ref(), limit).await?;
            let wanted_till = found.len() + limit;
            for listed in &page {
                let segment = listed_segment(listed)?;
                if segment.number.0 != expected {
                    break;
                }
                found.push(segment);
                expected -= 1;
            }
            if found.len() < wanted_till {
                let detail = "a segment is missing in the middle of its change log".to_owned();
                return Err(Error::Damaged { object: object(expected), detail });
            }
            after = page.into_iter().last().map(|listed| listed.name);
        }
        found.reverse();
        Ok(found)
    }

    /// What a segment says of itself: from memory, or by one or two reads of its end.
    pub async fn footer(&self, segment: &ListedSegment) -> Result<SegmentFooter, Error> {
        if let Some(known) = self.known_footer(segment) {
            return Ok(known);
        }
        let footer = self.read_footer(segment, self.footer_share.guess(segment)).await?.footer;
        Ok(self.keep_footer(segment, footer))
    }

    /// A footer that was read already: by others who want blocks of it, or in a memory of the host's.
    pub(super) fn known_footer(&self, segment: &ListedSegment) -> Option<SegmentFooter> {
        let read = self.once.as_ref().and_then(|once| once.footer(&self.object_of(segment)));
        read.or_else(|| self.recall_footer(segment).map(|footer| self.keep_footer(segment, footer)))
    }

    pub(super) fn keep_footer(&self, segment: &ListedSegment, footer: SegmentFooter) -> SegmentFooter {
        match &self.once {
            Some(once) => once.keep(self.object_of(segment), footer),
            None => footer,
        }
    }

    /// What is remembered is proven like what is read; what does not fit is read again.
    pub(super) fn recall_footer(&self, segment: &ListedSegment) -> Option<SegmentFooter> {
        let end = self.memory.recall(&self.object_of(segment))?;
        self.decode_end(segment, &end).ok()
    }

    /// A footer from the store, which is remembered. `guess`: bytes of the segment's end that are read at first; what its
    /// footer has beyond them is read then.
    pub(super) async fn read_footer(&self, segment: &ListedSegment, guess: u64) -> Result<ReadFooter, Error> {
        let name = self.object_name(segment)?;
        let store = self.repository.store();
        let from = segment.len - guess.min(segment.len);
        let read = store.get_range(&name, from..segment.len).await?;
        let tail = SegmentTail::parse(&read, segment.len).map_err(Error::of_object(&name))?;
        let end = match tail.footer_offset.checked_sub(from).and_then(|offset| usize::try_from(offset).ok()) {
            Some(offset) => read.slice(offset..),
            None => {
                let missing = store.get_range(&name, tail.footer_offset..from).await?;
                [missing, read.clone()].concat().into()
            }
        };
        let footer = self.decode_end(segment, &end).map_err(Error::of_object(&name))?;
        self.footer_share.learn(segment, end.len() as u64);
        self.memory.remember(name.as_str(), &end);
        Ok(ReadFooter { footer, end_len: end.len(), from, read })
    }

    /// `end`: footer and tail.
    pub(super) fn decode_end(&self, segment: &ListedSegment, end: &[u8]) -> lifeboat_format::Result<SegmentFooter> {
        let tail = SegmentTail::parse(end, segment.len)?;
        let own = self.repository.keys().object_keys();
        let footer = &end[..end.len() - SegmentTail::LEN]; // `parse` found a tail
        match &segment.long {
            Some(long) => decode_long_footer(own, &self.name_of(segment), long, (&tail, footer)),
            None => decode_footer(own, &self.name_of(segment), &tail, footer),
        }
    }

    /// The footers of segments in order, some read ahead. Each must follow from the one before it; the
    /// first of an epoch from the epoch.
    pub async fn footers(
        &self,
        segments: Vec<ListedSegment>,
    ) -> Result<impl Stream<Item = Result<(ListedSegment, SegmentFooter), Error>> + Send + '_, Error> {
        let mut before = self.before_first(&segments).await?;
        let reads = segments.into_iter().map(move |segment| async move {
            let footer = self.footer(&segment).await?;
            Ok::<_, Error>((segment, footer))
        });
        Ok(stream::iter(reads).buffered(FOOTERS_MAX).map(move |read| {
            let (segment, footer) = read?;
            self.check_follows(&segment, &footer, before)?;
            before = Some((footer.number, footer.id, footer.span.complete_till));
            Ok((segment, footer))
        }))
    }

    /// What the first of these must follow, where that is known: it is the first of its epoch.
    pub(super) async fn before_first(
        &self,
        segments: &[ListedSegment],
    ) -> Result<Option<(SegmentNumber, ObjectId, Lsn)>, Error> {
        match segments.first().filter(|first| first.first() == SegmentNumber(1)) {
            Some(first) => {
                let epoch = self.epoch(first.epoch).await?;
                Ok(Some((SegmentNumber(0), epoch.nonce, epoch.facts.begins)))
            }
            None => Ok(None),
        }
    }

    pub(super) fn check_follows(
        &self,
        segment: &ListedSegment,
        footer: &SegmentFooter,
        before: Option<(SegmentNumber, ObjectId, Lsn)>,
    ) -> Result<(), Error> {
        let Some((number, id, complete_till)) = before else { return Ok(()) };
        let is_next = number.0.checked_add(1) == Some(segment.first().0);
        if is_next && (footer.previous, footer.span.from) != (id, complete_till) {
            let detail = "it does not follow from the segment before it".to_owned();
            return Err(Error::Damaged { object: self.object_of(segment), detail });
        }
        Ok(())
    }

    /// The changes of a segment whose site nobody could tell.
    pub async fn unrouted(&self, segment: &ListedSegment, footer: &SegmentFooter) -> Result<UnroutedChanges, Error> {
        let Some(unrouted) = &footer.unrouted else { return Ok(UnroutedChanges::default()) };
        let bytes = self.read_place(segment, &unrouted.place).await?;
        let own = self.repository.keys().object_keys();
        decode_unrouted(own, unrouted, &bytes)
            .map_err(|error| self.damaged(segment, &unrouted.place, "unrouted", error))
    }

    /// One site's changes in `segments`, in order. An error of `visit` ends it, and is the inner result.
    ///
    /// Must run on a multi-threaded runtime.
    pub async fn read_site<E>(
        &self,
        site: &SiteId,
        segments: Vec<ListedSegment>,
        visit: impl FnMut(&TransactionHead, SiteChange) -> Result<(), E>,
    ) -> Result<Result<LogReadStats, E>, Error> {
        let footers = self.footers(segments).await?;
        let blocks = footers.try_filter_map(|(segment, footer)| {
            std::future::ready(Ok(footer.block(site).cloned().map(|block| SegmentBlock { segment, block })))
        });
        self.visit_blocks(blocks, visit).await
    }

    /// The same from blocks that the caller knows from footers, oldest first.
    pub async fn read_blocks<E>(
        &self,
        blocks: Vec<SegmentBlock>,
        visit: impl FnMut(&TransactionHead, SiteChange) -> Result<(), E>,
    ) -> Result<Result<LogReadStats, E>, Error> {
        self.visit_blocks(stream::iter(blocks.into_iter().map(Ok)), visit).await
    }

    async fn visit_blocks<E>(
        &self,
        blocks: impl Stream<Item = Result<SegmentBlock, Error>>,
        mut visit: impl FnMut(&TransactionHead, SiteChange) -> Result<(), E>,
    ) -> Result<Result<LogReadStats, E>, Error> {
        let mut visitor = Visitor { log: self, stats: LogReadStats::default(), last: None };
        let mut fetched = std::pin::pin!(blocks.map_ok(|block| self.fetch_block(block)).try_buffered(RANGES_MAX));
        while let Some((found, keys, bytes)) = fetched.try_next().await? {
            if let Err(error) = tokio::task::block_in_place(|| visitor.visit(&found, &keys, bytes, &mut visit))? {
                return Ok(Err(error));
            }
        }
        Ok(Ok(visitor.stats))
    }

    /// A block's bytes, and the key its header names.
    async fn fetch_block(&self, found: SegmentBlock) -> Result<(SegmentBlock, SiteKeys, BytesMut), Error> {
        let SegmentBlock { segment, block } = &found;
        let bytes = self.read_block(segment, block).await.map_err(|error| match error.fault() {
            Fault::Damage => self.damaged(segment, &block.place, block.site.as_str(), error),
            _ => error,
        })?;
        let keys = self.keys_of_block(segment, block, &bytes).await?;
        Ok((found, keys, bytes))
    }

    /// The key that a block's header names.
    pub(super) async fn keys_of_block(
        &self,
        segment: &ListedSegment,
        block: &BlockRef,
        bytes: &[u8],
    ) -> Result<SiteKeys, Error> {
        let header = ObjectHeader::parse(bytes)
            .map_err(|error| self.damaged(segment, &block.place, block.site.as_str(), error))?;
        let handle = self.repository.handle_of(&block.site);
        self.repository.site_keys(handle, header.key).await.map_err(|error| match error.fault() {
            // Either the key is lost, or the number is what is damaged: both are named.
            Fault::Damage => self.damaged(segment, &block.place, block.site.as_str(), error),
            _ => error,
        })
    }

    /// A block's bytes: out of what is read for several sites at once, where it lies close to one of theirs.
    async fn read_block(&self, segment: &ListedSegment, block: &BlockRef) -> Result<BytesMut, Error> {
        let Some(once) = &self.once else { return self.read_place(segment, &block.place).await };
        let footer = self.footer(segment).await?;
        let name = self.object_name(segment)?;
        let Some(claim) = once.claim(name.as_str(), &footer, block) else {
            return self.read_place(segment, &block.place).await;
        };
        let read = || self.repository.store().get_range(&name, claim.range.clone());
        let read = claim.bytes.get_or_try_init(read).await.cloned();
        once.release(&claim);
        let from = usize::try_from(block.place.offset - claim.range.start).unwrap_or(usize::MAX);
        let till = from.saturating_add(usize::try_from(block.place.len).unwrap_or(usize::MAX));
        match read.ok().and_then(|read| read.get(from..till).map(BytesMut::from)) {
            Some(own) => Ok(own),
            // What befalls the others is no matter of this site's.
            None => self.read_place(segment, &block.place).await,
        }
    }

    pub(super) async fn read_place(&self, segment: &ListedSegment, place: &ObjectPlace) -> Result<BytesMut, Error> {
        let name = self.object_name(segment)?;
        let range = place.offset..place.offset.saturating_add(place.len);
        let bytes = self.repository.store().get_range(&name, range).await?;
        Ok(bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..])))
    }

    /// Names the segment, the place in it, and whose block it is; what is no damage stays what it is.
    pub(super) fn damaged(
        &self,
        segment: &ListedSegment,
        place: &ObjectPlace,
        site: &str,
        error: impl Faulty + Into<Error>,
    ) -> Error {
        if error.fault() != Fault::Damage {
            return error.into();
        }
        let detail = format!("block of site=`{site}`, offset=`{}`: {error}", place.offset);
        Error::Damaged { object: self.object_of(segment), detail }
    }
}

/// Hands on the changes of one block after another.
struct Visitor<'l> {
    log: &'l ChangeLog,
    stats: LogReadStats,
    last: Option<ChangePlace>,
}

impl Visitor<'_> {
    fn visit<E>(
        &mut self,
        found: &SegmentBlock,
        keys: &SiteKeys,
        mut bytes: BytesMut,
        visit: &mut impl FnMut(&TransactionHead, SiteChange) -> Result<(), E>,
    ) -> Result<Result<(), E>, Error> {
        let SegmentBlock { segment, block } = found;
        let damaged = |error| self.log.damaged(segment, &block.place, block.site.as_str(), error);
        if self.last.is_some_and(|last| last >= block.first) {
            let detail = format!("block of site=`{}` repeats changes that were before it", block.site);
            return Err(Error::Damaged { object: self.log.object_of(segment), detail });
        }
        self.last = Some(block.last);
        self.stats.blocks += 1;
        self.stats.bytes_read += bytes.len() as u64;
        let mut reader = BlockReader::new(keys, block, &mut bytes).map_err(damaged)?;
        while let Some(frame) = reader.next_frame().map_err(damaged)? {
            for transaction in frame {
                for change in transaction.changes {
                    self.stats.changes += 1;
                    if let Err(error) = visit(&transaction.head, change) {
                        return Ok(Err(error));
                    }
                }
            }
        }
        Ok(Ok(()))
    }
}
