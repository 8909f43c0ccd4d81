//! What segments say of themselves and of no site alone: most of the time by one request each.
//!
//!   read of the end ─▶ footer, and before it the shared block         where both are in it, nothing else is read
//!
//! Both are remembered where the caller has a memory for it: sealed, and proven again when they are used.

use futures_util::stream::{self, Stream, StreamExt};
use lifeboat_format::decode_shared;
use lifeboat_model::{ObjectPlace, SegmentFooter, SharedFacts};

use super::read::{FACTS_BYTES_GUESS, FOOTERS_MAX, ReadFooter};
use super::{ChangeLog, ListedSegment};
use crate::Error;

/// A segment, what it says of itself, and of no site alone.
pub type SegmentFacts = (ListedSegment, SegmentFooter, SharedFacts);

impl ChangeLog {
    /// Footers and shared facts of segments in order, some read ahead, each proven to follow from the one before it.
    pub async fn facts(
        &self,
        segments: Vec<ListedSegment>,
    ) -> Result<impl Stream<Item = Result<SegmentFacts, Error>> + Send + '_, Error> {
        let mut before = self.before_first(&segments).await?;
        let reads = segments.into_iter().map(move |segment| async move {
            let (footer, shared) = self.facts_of(&segment).await?;
            Ok::<_, Error>((segment, footer, shared))
        });
        Ok(stream::iter(reads).buffered(FOOTERS_MAX).map(move |read| {
            let (segment, footer, shared) = read?;
            self.check_follows(&segment, &footer, before)?;
            before = Some((footer.number, footer.id, footer.span.complete_till));
            Ok((segment, footer, shared))
        }))
    }

    async fn facts_of(&self, segment: &ListedSegment) -> Result<(SegmentFooter, SharedFacts), Error> {
        if let Some(footer) = self.known_footer(segment) {
            let shared = self.shared(segment, &footer).await?;
            return Ok((footer, shared));
        }
        let ReadFooter { footer, from, read, .. } = self.read_footer(segment, FACTS_BYTES_GUESS).await?;
        let footer = self.keep_footer(segment, footer);
        let Some(place) = &footer.shared else { return Ok((footer, SharedFacts::default())) };
        let offset = place.offset.checked_sub(from).and_then(|offset| usize::try_from(offset).ok());
        let len = usize::try_from(place.len).ok();
        let bytes = offset.zip(len).and_then(|(offset, len)| read.get(offset..offset.checked_add(len)?));
        let shared = match bytes {
            Some(bytes) => self.decode_shared(segment, place, bytes)?,
            None => self.shared(segment, &footer).await?,
        };
        Ok((footer, shared))
    }

    /// What belongs to no site alone in a segment.
    pub async fn shared(&self, segment: &ListedSegment, footer: &SegmentFooter) -> Result<SharedFacts, Error> {
        let Some(place) = &footer.shared else { return Ok(SharedFacts::default()) };
        let own = self.repository.keys().object_keys();
        if let Some(bytes) = self.memory.recall(&self.shared_key(segment))
            && let Ok(facts) = decode_shared(own, place, &bytes)
        {
            return Ok(facts);
        }
        let bytes = self.read_place(segment, place).await?;
        self.decode_shared(segment, place, &bytes)
    }

    /// From the store's bytes, which are remembered.
    fn decode_shared(&self, segment: &ListedSegment, place: &ObjectPlace, bytes: &[u8]) -> Result<SharedFacts, Error> {
        let own = self.repository.keys().object_keys();
        let facts = decode_shared(own, place, bytes).map_err(|error| self.damaged(segment, place, "shared", error))?;
        self.memory.remember(&self.shared_key(segment), bytes);
        Ok(facts)
    }

    /// No object has such a name.
    fn shared_key(&self, segment: &ListedSegment) -> String {
        format!("{}#shared", self.object_of(segment))
    }
}
