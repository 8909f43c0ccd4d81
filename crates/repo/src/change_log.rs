//! A source's change log in the store: found by two listings, read by ranges, extended by one writer.
//!
//!   LIST epochs ─▶ newest epoch ─▶ LIST segments ─▶ newest segment       newest first, by their names
//!   footers ─▶ this site's ranges ─▶ changes in order                    a restore reads nothing else
//!   draft ─▶ seal ─▶ create n+1 ─ lost ─▶ fenced                         of two writers one stops
//!   many segments ─▶ one long segment ─▶ log commit                      nothing is lost, less is read
//!
//! Invariant (one-log): segment n+1 of an epoch is created once, names segment n, and goes on exactly
//! where that one ended; whoever finds it taken by another stops.
//! What is not here: following a source (`lifeboat-source`), when a segment is full, and where what is kept begins
//! (`lifeboat-engine`). Segments stay beside the long one that stands for them.

mod append;
mod blocks;
mod check;
mod commits;
mod compact;
mod draft;
mod facts;
mod once;
mod prune;
mod read;
mod share;

use std::sync::Arc;

use lifeboat_format::{SegmentName, decode_epoch, names};
use lifeboat_model::{Epoch, EpochId, LongSegment, ObjectId, SegmentNumber, SourceName};
use lifeboat_store::ObjectName;

use crate::upload::object_name;
use crate::{Error, Repository};

use share::FooterShare;

pub use append::Appender;
pub use blocks::{LogReadStats, SegmentBlock};
pub use check::{LogCheckReport, LogFinding};
pub use compact::Compacted;
pub use draft::{SegmentDraft, Unrouted};
pub use facts::SegmentFacts;
pub use once::ReadOnce;
pub use prune::{EpochPrune, EpochPruned, Going, LogWanted};

/// The change log of one source; cheap to clone.
#[derive(Clone)]
pub struct ChangeLog {
    repository: Repository,
    source: SourceName,
    memory: Arc<dyn FooterMemory>,
    footer_share: Arc<FooterShare>,
    once: Option<Arc<ReadOnce>>,
    newest: Option<NewestEpoch>,
}

/// The newest epoch, as it was when the log was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewestEpoch {
    pub epoch: EpochId,
    /// `None`: it has no segment yet.
    pub segment: Option<ListedSegment>,
}

/// A segment that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedSegment {
    pub epoch: EpochId,
    /// Of a long segment, that of the last one it stands for.
    pub number: SegmentNumber,
    /// Bytes of the object.
    pub len: u64,
    /// It stands for several, as a log commit says.
    pub long: Option<LongSegment>,
}

impl ListedSegment {
    /// The first number that it stands for.
    pub fn first(&self) -> SegmentNumber {
        self.long.map_or(self.number, |long| long.first)
    }
}

/// What a caller remembers of a log: a store that has less has lost segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownLog {
    pub epoch: EpochId,
    /// 0: the epoch had no segment yet.
    pub number: SegmentNumber,
    /// Of that segment's footer; of an epoch without segments, its nonce.
    pub id: ObjectId,
}

/// Where a caller keeps footers and shared blocks, so that each is read from the store once: sealed, as they are there.
pub trait FooterMemory: Send + Sync {
    fn recall(&self, object: &str) -> Option<Vec<u8>>;
    /// `object`: of a footer its segment's; `bytes` are the last ones of it, from where its footer begins. Of a
    /// shared block, the segment's with `#shared` behind it.
    fn remember(&self, object: &str, bytes: &[u8]);
}

/// Remembers nothing.
#[derive(Debug, Clone, Copy)]
pub struct NoFooterMemory;

impl FooterMemory for NoFooterMemory {
    fn recall(&self, _: &str) -> Option<Vec<u8>> {
        None
    }

    fn remember(&self, _: &str, _: &[u8]) {}
}

impl Repository {
    /// Every source that has a change log, by one listing of one name each.
    pub async fn captured_sources(&self) -> Result<Vec<SourceName>, Error> {
        let mut sources = Vec::new();
        let mut after: Option<ObjectName> = None;
        while let Some(found) = self.store().list(names::LOG_PREFIX, after.as_ref(), 1).await?.into_iter().next() {
            let source = source_of(found.name.as_str()).ok_or_else(|| foreign(&found.name))?;
            // `zz` sorts behind every number.
            after = Some(object_name(format!("{}zz", names::log_prefix(&source)))?);
            sources.push(source);
        }
        sources.sort_unstable();
        Ok(sources)
    }
}

fn source_of(name: &str) -> Option<SourceName> {
    match names::parse_object_name(name)? {
        names::ParsedName::Epoch(source, _)
        | names::ParsedName::LogCommit(source, ..)
        | names::ParsedName::LongSegment(source, ..)
        | names::ParsedName::Segment(SegmentName { source, .. }) => Some(source),
        _ => None,
    }
}

impl ChangeLog {
    /// Finds the newest epoch and its newest segment, by two listings of one name.
    pub async fn open(repository: &Repository, source: &SourceName) -> Result<Self, Error> {
        let mut log = Self {
            repository: repository.clone(),
            source: source.clone(),
            memory: Arc::new(NoFooterMemory),
            footer_share: Arc::default(),
            once: None,
            newest: None,
        };
        if let Some(epoch) = log.newest_epoch().await? {
            log.newest = Some(NewestEpoch { epoch, segment: log.newest_segment(epoch).await? });
        }
        Ok(log)
    }

    /// The same log, which asks `memory` for a footer before it asks the store.
    #[must_use]
    pub fn with_memory(self, memory: Arc<dyn FooterMemory>) -> Self {
        Self { memory, ..self }
    }

    /// The same log, read together with others who want blocks of the same segments. Of footers it gives the blocks of
    /// their sites alone.
    #[must_use]
    pub fn with_once(self, once: Option<Arc<ReadOnce>>) -> Self {
        Self { once, ..self }
    }

    pub fn source(&self) -> &SourceName {
        &self.source
    }

    /// What was newest when the log was opened; `None` when nothing was ever captured.
    pub fn newest(&self) -> Option<NewestEpoch> {
        self.newest
    }

    /// Fails when the store has less than `known`, or another segment in its place.
    pub async fn check_known(&self, known: &KnownLog) -> Result<(), Error> {
        let found = self.newest.map(|newest| (newest.epoch, newest.segment.map_or(0, |segment| segment.number.0)));
        let lost = |found: String| {
            let known = format!("epoch {}, segment {}", known.epoch, known.number);
            Err(Error::LogRolledBack { log: self.source.clone(), found, known })
        };
        let Some((epoch, number)) = found else { return lost("nothing".to_owned()) };
        if (epoch, number) < (known.epoch, known.number.0) {
            return lost(format!("epoch {epoch}, segment {number}"));
        }
        let id = match known.number {
            SegmentNumber(0) => self.epoch(known.epoch).await?.nonce,
            // It was let go of meanwhile, as the log itself says.
            number if number < self.kept(known.epoch).await?.first() => return Ok(()),
            number => {
                let listed = self.segments(known.epoch, number..=number).await?;
                match listed.first() {
                    Some(segment) => self.footer(segment).await?.id,
                    None => return lost(format!("epoch {epoch}, segment {number}")),
                }
            }
        };
        match id == known.id {
            true => Ok(()),
            false => lost(format!("another segment {} of epoch {}", known.number, known.epoch)),
        }
    }

    /// What an epoch follows and where it begins.
    pub async fn epoch(&self, id: EpochId) -> Result<Epoch, Error> {
        let name = object_name(names::epoch(&self.source, id))?;
        let read = || async {
            let body = self.repository.store().get(&name).await?;
            decode_epoch(self.repository.keys().object_keys(), &self.source, id, &body).map_err(Error::of_object(&name))
        };
        self.read_afresh(name.as_str(), read).await
    }

    /// The object of a segment.
    pub fn object_of(&self, segment: &ListedSegment) -> String {
        match &segment.long {
            Some(long) => names::long_segment(&self.source, segment.epoch, &long.id),
            None => names::segment(&self.name_of(segment)),
        }
    }

    fn name_of(&self, segment: &ListedSegment) -> SegmentName {
        SegmentName { source: self.source.clone(), epoch: segment.epoch, number: segment.number }
    }

    fn object_name(&self, segment: &ListedSegment) -> Result<ObjectName, Error> {
        object_name(self.object_of(segment))
    }

    async fn newest_epoch(&self) -> Result<Option<EpochId>, Error> {
        let prefix = names::log_prefix(&self.source);
        let Some(listed) = self.repository.store().list(&prefix, None, 1).await?.into_iter().next() else {
            return Ok(None);
        };
        match names::parse_object_name(listed.name.as_str()) {
            Some(
                names::ParsedName::Epoch(_, epoch)
                | names::ParsedName::LogCommit(_, epoch, _)
                | names::ParsedName::LongSegment(_, epoch, _)
                | names::ParsedName::Segment(SegmentName { epoch, .. }),
            ) => Ok(Some(epoch)),
            _ => Err(foreign(&listed.name)),
        }
    }

    /// The newest segment of an epoch, by one listing of one name.
    pub async fn newest_segment(&self, epoch: EpochId) -> Result<Option<ListedSegment>, Error> {
        let prefix = names::segments_prefix(&self.source, epoch);
        let read = || async {
            let listed = self.repository.store().list(&prefix, None, 1).await?;
            listed.iter().map(listed_segment).next().transpose()
        };
        self.read_afresh(&prefix, read).await
    }
}

fn listed_segment(listed: &lifeboat_store::Listed) -> Result<ListedSegment, Error> {
    match names::parse_object_name(listed.name.as_str()) {
        Some(names::ParsedName::Segment(SegmentName { epoch, number, .. })) => {
            Ok(ListedSegment { epoch, number, len: listed.len, long: None })
        }
        _ => Err(foreign(&listed.name)),
    }
}

fn foreign(name: &ObjectName) -> Error {
    Error::Damaged { object: name.to_string(), detail: "no object of a change log has such a name".into() }
}

#[cfg(test)]
mod tests;
