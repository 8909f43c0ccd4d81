//! Extending a change log: one writer an epoch, and it stops when there is another.
//!
//!   seal blocks ─▶ footer names the one before ─▶ create n+1 ─▶ read back ─▶ durable
//!
//! A segment that was created and not confirmed is found when the log is opened again: whoever
//! captures asks [`Appender::complete_till`] and [`Appender::newest`] where to go on.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use lifeboat_format::{
    BlockWriter, Compressor, SegmentHead, SegmentName, SegmentWriter, SiteKeys, encode_epoch, names,
};
use lifeboat_model::{
    Epoch, EpochFacts, EpochId, Fault, Faulty, Lsn, ObjectId, SegmentFooter, SegmentNumber, SegmentSpan, SiteHandle,
    SiteId, Timestamp, TransactionId, WriterIdentity,
};
use lifeboat_store::ObjectName;

use super::{ChangeLog, KnownLog, SegmentDraft};
use crate::upload::{object_name, read_back};
use crate::{Error, random_id};

/// Keys of sites fetched or made at once.
const KEY_REQUESTS_MAX: usize = 16;

/// The end of an epoch, where segments are appended.
pub struct Appender {
    log: ChangeLog,
    epoch: Epoch,
    newest: Option<SegmentFooter>,
}

impl ChangeLog {
    /// Begins the next epoch; fenced when somebody else does so at the same time.
    ///
    /// The epoch before is ended by a last segment, so that a process that still writes it stops.
    pub async fn begin_epoch(&self, facts: EpochFacts, writer: &WriterIdentity) -> Result<Appender, Error> {
        if facts.source != self.source {
            return Err(Error::Bug(format!("an epoch of another source: source=`{}`", facts.source)));
        }
        let newest = self.newest_epoch().await?;
        let id = newest.map_or(EpochId(1), EpochId::next);
        if let Some(newest) = newest {
            self.end_epoch(newest, id).await?;
        }
        let epoch = Epoch { id, nonce: ObjectId(random_id()?), writer: writer.clone(), facts };
        let body: Bytes = encode_epoch(self.repository.keys().object_keys(), &epoch)?.into();
        let name = object_name(names::epoch(&self.source, id))?;
        self.create_own(&name, body, (id, SegmentNumber(0))).await?;
        Ok(Appender { log: self.clone(), epoch, newest: None })
    }

    /// Where the newest epoch is extended; `None` when there is none, or when it has ended.
    pub async fn appender(&self) -> Result<Option<Appender>, Error> {
        let Some(epoch) = self.newest_epoch().await? else { return Ok(None) };
        let appender = self.appender_of(epoch).await?;
        Ok(Some(appender).filter(|appender| !appender.has_ended()))
    }

    async fn appender_of(&self, epoch: EpochId) -> Result<Appender, Error> {
        let newest = match self.newest_segment(epoch).await? {
            Some(segment) => Some(self.footer(&segment).await?),
            None => None,
        };
        Ok(Appender { log: self.clone(), epoch: self.epoch(epoch).await?, newest })
    }

    /// Appends the last segment of an epoch, after whatever others still append.
    async fn end_epoch(&self, epoch: EpochId, next: EpochId) -> Result<(), Error> {
        loop {
            let mut appender = match self.appender_of(epoch).await {
                // A new epoch is what one begins when the old one is broken: it must not be in the way.
                Err(error) if error.fault() == Fault::Damage => {
                    tracing::warn!(%error, %epoch, source = %self.source, "an epoch is damaged, and was left without an end");
                    return Ok(());
                }
                other => other?,
            };
            if appender.has_ended() {
                return Ok(());
            }
            let till = appender.complete_till();
            match appender.append_segment(SegmentDraft::new(), (till, Timestamp::now()), Some(next)).await {
                Err(Error::LogFenced { .. }) => {}
                other => return other.map(|_| ()),
            }
        }
    }

    /// Creates an object that only one can create, and reads it back. Whoever finds another's there is
    /// fenced; after an unclear failure, what is there tells ours from another's.
    pub(super) async fn create_own(
        &self,
        name: &ObjectName,
        body: Bytes,
        (epoch, number): (EpochId, SegmentNumber),
    ) -> Result<(), Error> {
        let store = self.repository.store();
        let Err(error) = store.create(name, body.clone()).await else {
            return read_back(store.as_ref(), name, &body).await;
        };
        let is_taken = matches!(error, lifeboat_store::Error::AlreadyExists { .. });
        if !is_taken && error.fault() != Fault::Retry {
            return Err(error.into());
        }
        match store.get(name).await {
            Ok(there) if there == body => Ok(()),
            Ok(_) => Err(Error::LogFenced { log: self.source.clone(), epoch, number }),
            Err(lifeboat_store::Error::NotFound { .. }) => Err(error.into()),
            Err(other) => Err(other.into()),
        }
    }
}

impl Appender {
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// The newest segment's footer; `None` before the first.
    pub fn newest(&self) -> Option<&SegmentFooter> {
        self.newest.as_ref()
    }

    /// Every transaction whose commit is not after this is wholly in the log.
    pub fn complete_till(&self) -> Lsn {
        self.newest.as_ref().map_or(self.epoch.facts.begins, |newest| newest.span.complete_till)
    }

    /// What to remember, so that a store that loses segments is found out.
    pub fn known(&self) -> KnownLog {
        let (number, id) = match &self.newest {
            Some(newest) => (newest.number, newest.id),
            None => (SegmentNumber(0), self.epoch.nonce),
        };
        KnownLog { epoch: self.epoch.id, number, id }
    }

    /// Of all transactions of the epoch so far; `None`: a version that did not tell it has written to it.
    fn highest(&self) -> Option<TransactionId> {
        self.newest.as_ref().map_or(Some(TransactionId(0)), |newest| newest.span.highest)
    }

    fn has_ended(&self) -> bool {
        self.newest.as_ref().is_some_and(|newest| newest.followed_by.is_some())
    }

    /// Seals a draft and appends it as the next segment: when this returns, it is durable and read back.
    ///
    /// `complete_till`: every transaction whose commit is not after it is wholly in the log then. After
    /// any failure the log is to be opened again: the segment may be there.
    pub async fn append(&mut self, draft: SegmentDraft, complete_till: Lsn) -> Result<&SegmentFooter, Error> {
        self.append_as_of(draft, complete_till, Timestamp::now()).await
    }

    /// The same by a capture that catches up: `sealed_at` is till when it knows that nothing is missing.
    pub async fn append_as_of(
        &mut self,
        draft: SegmentDraft,
        complete_till: Lsn,
        sealed_at: Timestamp,
    ) -> Result<&SegmentFooter, Error> {
        self.append_segment(draft, (complete_till, sealed_at), None).await
    }

    async fn append_segment(
        &mut self,
        draft: SegmentDraft,
        (complete_till, sealed_at): (Lsn, Timestamp),
        followed_by: Option<EpochId>,
    ) -> Result<&SegmentFooter, Error> {
        let number = self.newest.as_ref().map_or(SegmentNumber(1), |newest| newest.number.next());
        if self.has_ended() {
            return Err(Error::LogFenced { log: self.log.source.clone(), epoch: self.epoch.id, number });
        }
        let span = SegmentSpan {
            from: self.complete_till(),
            complete_till,
            bounds: draft.bounds,
            highest: self.highest().map(|highest| highest.max(draft.highest())),
        };
        let head = SegmentHead {
            name: SegmentName { source: self.log.source.clone(), epoch: self.epoch.id, number },
            id: ObjectId(random_id()?),
            previous: self.known().id,
            span,
            sealed_at,
            followed_by,
        };
        let name = object_name(names::segment(&head.name))?;
        let (mut draft, own) = (draft, self.log.repository.keys().object_keys());
        let blocks = draft.take_blocks();
        let keys = self.keys_of(&blocks, sealed_at.max(Timestamp::now())).await?;
        let (bytes, footer) = tokio::task::block_in_place(|| seal((own, head), draft, blocks, keys))?;
        self.log.create_own(&name, bytes.into(), (self.epoch.id, number)).await?;
        Ok(self.newest.insert(footer))
    }

    /// The keys of every site that has a block, in their order.
    async fn keys_of(&self, blocks: &[(SiteId, BlockWriter)], now: Timestamp) -> Result<Vec<SiteKeys>, Error> {
        let repository = &self.log.repository;
        let handles: Vec<SiteHandle> = blocks.iter().map(|(site, _)| repository.handle_of(site)).collect();
        let keys = handles.into_iter().map(|handle| {
            let repository = repository.clone();
            async move { repository.newest_site_keys(handle, now).await }
        });
        futures_util::stream::iter(keys).buffered(KEY_REQUESTS_MAX).try_collect().await
    }
}

fn seal(
    (own, head): (&SiteKeys, SegmentHead),
    draft: SegmentDraft,
    blocks: Vec<(SiteId, BlockWriter)>,
    keys: Vec<SiteKeys>,
) -> Result<(Vec<u8>, SegmentFooter), Error> {
    let mut compressor = Compressor::new()?;
    let mut segment = SegmentWriter::new(own, head);
    let SegmentDraft { shared, unrouted, .. } = draft;
    for ((site, block), keys) in blocks.into_iter().zip(&keys) {
        if let Some(block) = block.seal(keys, ObjectId(random_id()?), &mut compressor)? {
            segment.push_block(&site, block)?;
        }
    }
    if !shared.is_empty() {
        segment.push_shared_with_kinds(ObjectId(random_id()?), &shared)?;
    }
    if !unrouted.changes.is_empty() {
        segment.push_unrouted(ObjectId(random_id()?), &unrouted)?;
    }
    Ok(segment.finish()?)
}
