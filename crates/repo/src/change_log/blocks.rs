//! Reading a change log: one site's changes.
//!
//!   footers ─▶ this site's blocks, a few ahead ─▶ changes in order
//!
//! Memory is [`RANGES_MAX`] blocks of one site, and the changes of one frame. Nothing of another site's blocks is
//! requested; where several sites are read together, nothing of one that is not asked for but what lies in a gap between
//! two of theirs, which nobody is handed (`once`).

use bytes::BytesMut;
use futures_util::stream::{self, Stream, TryStreamExt};
use lifeboat_format::{BlockReader, ObjectHeader, SiteKeys};
use lifeboat_model::{BlockRef, ChangePlace, Fault, Faulty, SiteChange, SiteId, TransactionHead};

use super::{ChangeLog, ListedSegment};
use crate::Error;

/// Blocks of one site fetched ahead.
const RANGES_MAX: usize = 4;

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

/// A block's bytes, and the key its header names.
struct Fetched {
    found: SegmentBlock,
    keys: SiteKeys,
    bytes: BytesMut,
    /// It came with those of others.
    is_shared: bool,
}

impl ChangeLog {
    /// One site's changes in `segments`, in order. An error of `visit` ends it, and is the inner result.
    ///
    /// Must run on a multi-threaded runtime.
    pub async fn read_site<E>(
        &self,
        site: &SiteId,
        segments: Vec<ListedSegment>,
        visit: impl FnMut(&TransactionHead, SiteChange) -> Result<(), E>,
    ) -> Result<Result<LogReadStats, E>, Error> {
        self.check_asked(site)?;
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
        for found in &blocks {
            self.check_asked(&found.block.site)?;
        }
        self.visit_blocks(stream::iter(blocks.into_iter().map(Ok)), visit).await
    }

    async fn visit_blocks<E>(
        &self,
        blocks: impl Stream<Item = Result<SegmentBlock, Error>>,
        mut visit: impl FnMut(&TransactionHead, SiteChange) -> Result<(), E>,
    ) -> Result<Result<LogReadStats, E>, Error> {
        let mut visitor = Visitor { log: self, stats: LogReadStats::default(), last: None };
        let mut fetched = std::pin::pin!(blocks.map_ok(|block| self.fetch_block(block)).try_buffered(RANGES_MAX));
        while let Some(mut fetched) = fetched.try_next().await? {
            visitor.begin(&fetched)?;
            let mut frames = 0;
            let mut visited = tokio::task::block_in_place(|| visitor.visit(&mut fetched, &mut frames, &mut visit));
            if fetched.is_shared && visited.as_ref().is_err_and(|error| error.fault() == Fault::Damage) {
                let mut alone = self.fetch_alone(fetched.found).await?;
                visited = tokio::task::block_in_place(|| visitor.visit(&mut alone, &mut frames, &mut visit));
            }
            if let Err(error) = visited? {
                return Ok(Err(error));
            }
        }
        Ok(Ok(visitor.stats))
    }

    /// Out of what is read for several sites at once, where it lies close to a block of one of theirs. What befalls the
    /// others is no matter of this site's: then it is read alone.
    async fn fetch_block(&self, found: SegmentBlock) -> Result<Fetched, Error> {
        if let Some(bytes) = self.read_shared(&found).await
            && let Ok(keys) = self.keys_of_block(&found.segment, &found.block, &bytes).await
        {
            return Ok(Fetched { found, keys, bytes, is_shared: true });
        }
        self.fetch_alone(found).await
    }

    async fn fetch_alone(&self, found: SegmentBlock) -> Result<Fetched, Error> {
        let SegmentBlock { segment, block } = &found;
        let bytes = self.read_place(segment, &block.place).await.map_err(|error| match error.fault() {
            Fault::Damage => self.damaged(segment, &block.place, block.site.as_str(), error),
            _ => error,
        })?;
        let keys = self.keys_of_block(segment, block, &bytes).await?;
        Ok(Fetched { found, keys, bytes, is_shared: false })
    }

    /// `None`: it is to be read alone. No request is made for that, not even for a footer that is not held any more.
    async fn read_shared(&self, SegmentBlock { segment, block }: &SegmentBlock) -> Option<BytesMut> {
        let once = self.once.as_ref()?;
        let name = self.object_name(segment).ok()?;
        let footer = once.footer(name.as_str())?;
        let claim = once.claim(name.as_str(), &footer, block)?;
        let read = || self.repository.store().get_range(&name, claim.range.clone());
        let read = claim.bytes.get_or_try_init(read).await.cloned();
        once.release(&claim, &block.site);
        let from = usize::try_from(block.place.offset - claim.range.start).ok()?;
        let till = from.checked_add(usize::try_from(block.place.len).ok()?)?;
        read.ok()?.get(from..till).map(BytesMut::from)
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
        match self.repository.site_keys(handle, header.key).await {
            Err(error) if self.repository.is_erased(handle, header.key, &error).await? => {
                Err(Error::Erased { site: block.site.clone(), object: self.object_of(segment) })
            }
            // Either the key is lost, or the number is what is damaged: both are named.
            Err(error) if error.fault() == Fault::Damage => {
                Err(self.damaged(segment, &block.place, block.site.as_str(), error))
            }
            other => other,
        }
    }

    /// What is read together is of some sites alone: of another one it would look as if nothing had changed.
    pub fn check_asked(&self, site: &SiteId) -> Result<(), Error> {
        match &self.once {
            Some(once) if !once.is_asked(site) => {
                Err(Error::Bug(format!("a log is read for a site that nobody has asked for: site=`{site}`")))
            }
            _ => Ok(()),
        }
    }

    /// For whoever needs the blocks of all sites.
    pub(super) fn check_whole(&self) -> Result<(), Error> {
        match &self.once {
            Some(_) => Err(Error::Bug(format!("a log is read for some sites alone: source=`{}`", self.source))),
            None => Ok(()),
        }
    }
}

/// Hands on the changes of one block after another.
struct Visitor<'l> {
    log: &'l ChangeLog,
    stats: LogReadStats,
    last: Option<ChangePlace>,
}

impl Visitor<'_> {
    fn begin(&mut self, fetched: &Fetched) -> Result<(), Error> {
        let SegmentBlock { segment, block } = &fetched.found;
        if self.last.is_some_and(|last| last >= block.first) {
            let detail = format!("block of site=`{}` repeats changes that were before it", block.site);
            return Err(Error::Damaged { object: self.log.object_of(segment), detail });
        }
        self.last = Some(block.last);
        self.stats.blocks += 1;
        self.stats.bytes_read += fetched.bytes.len() as u64;
        Ok(())
    }

    /// `frames`: so many were handed on already, and are not again; after an error, one may go on behind them.
    fn visit<E>(
        &mut self,
        Fetched { found: SegmentBlock { segment, block }, keys, bytes, .. }: &mut Fetched,
        frames: &mut usize,
        visit: &mut impl FnMut(&TransactionHead, SiteChange) -> Result<(), E>,
    ) -> Result<Result<(), E>, Error> {
        let log = self.log;
        let damaged = |error| log.damaged(segment, &block.place, block.site.as_str(), error);
        let mut reader = BlockReader::new(keys, block, bytes).map_err(damaged)?;
        let mut at = 0;
        while let Some(frame) = reader.next_frame().map_err(damaged)? {
            at += 1;
            if at <= *frames {
                continue;
            }
            *frames = at;
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
