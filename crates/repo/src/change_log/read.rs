//! Reading a change log: which segments there are, and what each says of itself.
//!
//!   LIST ─▶ segments ─▶ footers, some at once
//!
//! A store may remember what it answered. What cannot be true of that is forgotten, and read once more.
//! What is not here: one site's changes (`blocks`).

use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, Stream, StreamExt};
use lifeboat_format::{SegmentTail, decode_footer, decode_long_footer, decode_unrouted, names};
use lifeboat_model::{
    EpochId, Fault, Faulty, LogState, LongSegment, Lsn, ObjectId, ObjectPlace, SegmentFooter, SegmentNumber,
    UnroutedChanges,
};

use super::{ChangeLog, ListedSegment, listed_segment};
use crate::Error;
use crate::upload::object_name;

/// Names asked for in one listing: what servers give at once.
const LIST_NAMES_MAX: usize = 1_000;
/// Read of a segment's end in the hope that footer and shared block are in it.
pub(super) const FACTS_BYTES_GUESS: u64 = 64 << 10;
pub(super) const FOOTERS_MAX: usize = 16;

/// A footer, and the bytes that were read with it.
pub(super) struct ReadFooter {
    pub footer: SegmentFooter,
    /// Bytes of footer and tail.
    pub end_len: usize,
    /// Offset of what was read: the end of the segment, more or less than its footer.
    pub from: u64,
    pub read: Bytes,
}

impl ChangeLog {
    /// Reads; where that finds damage, what the store remembers of names that begin so is forgotten, and it is read once
    /// more: an answer that was spoiled on its way, or lacked a name, is not to stay for as long as others remember it.
    pub(super) async fn read_afresh<T, R>(&self, prefix: &str, read: impl Fn() -> R + Send) -> Result<T, Error>
    where
        T: Send,
        R: Future<Output = Result<T, Error>> + Send,
    {
        match read().await {
            Err(error) if error.fault() == Fault::Damage && self.repository.store().forget(prefix) => {
                tracing::warn!(%error, source = %self.source, "what is damaged of a log is read once more");
                read().await
            }
            other => other,
        }
    }

    /// What is remembered of a segment's epoch, and of itself, may be why it is damaged.
    fn forget(&self, segment: &ListedSegment) {
        self.repository.store().forget(&names::epoch_prefix(&self.source, segment.epoch));
        if let Some(once) = &self.once {
            once.forget(&self.object_of(segment));
        }
    }

    /// The segments of a range, oldest first: long ones where they lie within it, plain ones elsewhere. One that is
    /// missing is damage.
    pub async fn segments(
        &self,
        epoch: EpochId,
        range: RangeInclusive<SegmentNumber>,
    ) -> Result<Vec<ListedSegment>, Error> {
        // Of one number or two nobody has to ask what stands for them.
        let kept = match range.end().0 <= range.start().0.saturating_add(1) {
            true => LogState::new(self.source.clone(), epoch),
            false => self.kept(epoch).await?,
        };
        self.segments_kept(&kept, range).await
    }

    /// The same by a state of the epoch that is known.
    pub async fn segments_kept(
        &self,
        kept: &LogState,
        range: RangeInclusive<SegmentNumber>,
    ) -> Result<Vec<ListedSegment>, Error> {
        let (epoch, mut from, last) = (kept.epoch, range.start().0.max(1), range.end().0);
        let mut found = Vec::new();
        let is_within = |long: &&LongSegment| range.start().0 <= long.first.0 && long.last.0 <= last;
        for long in kept.long_segments.iter().filter(is_within) {
            if from < long.first.0 {
                found.extend(self.plain_segments(epoch, from, long.first.0 - 1).await?);
            }
            found.push(ListedSegment { epoch, number: long.last, len: long.len, long: Some(*long) });
            from = long.last.0.saturating_add(1);
        }
        if from <= last {
            found.extend(self.plain_segments(epoch, from, last).await?);
        }
        Ok(found)
    }

    /// The segments from `first` to `last` as they were appended.
    pub(super) async fn plain_segments(
        &self,
        epoch: EpochId,
        first: u64,
        last: u64,
    ) -> Result<Vec<ListedSegment>, Error> {
        let prefix = names::segments_prefix(&self.source, epoch);
        self.read_afresh(&prefix, || self.list_segments(epoch, first, last)).await
    }

    async fn list_segments(&self, epoch: EpochId, first: u64, last: u64) -> Result<Vec<ListedSegment>, Error> {
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
        read.map(Arc::unwrap_or_clone)
            .or_else(|| self.recall_footer(segment).map(|footer| self.keep_footer(segment, footer)))
    }

    pub(super) fn keep_footer(&self, segment: &ListedSegment, footer: SegmentFooter) -> SegmentFooter {
        match &self.once {
            Some(once) => Arc::unwrap_or_clone(once.keep(self.object_of(segment), footer)),
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
        let read = self.read_end(segment, guess).await;
        // Where the segment ends was listed.
        read.inspect_err(|error| {
            if error.fault() == Fault::Damage {
                self.forget(segment);
            }
        })
    }

    async fn read_end(&self, segment: &ListedSegment, guess: u64) -> Result<ReadFooter, Error> {
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
            self.forget(segment);
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
