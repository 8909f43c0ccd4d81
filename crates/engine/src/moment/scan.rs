//! An epoch from a base to a cut: which blocks are this site's, and what befell it beside them.
//!
//!   footers ─▶ needed: which shared blocks? ─▶ fold, segment by segment ─▶ cut, blocks, events
//!
//! A shared block tells of every site's transactions, so it is only read where a footer cannot decide (`fold`).

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt, stream};
use lifeboat_model::{ChangePlace, LogState, SegmentFooter, SegmentNumber, SharedFacts, SiteId, Timestamp};
use lifeboat_repo::SegmentBlock;
use lifeboat_source::postgres::capture::TableColumns;

use super::cut::{AfterEnd, Cut, Moment};
use super::locate::Base;
use super::log::SourceLog;
use super::objects::OtherObjects;
use crate::{Engine, Error};

mod fold;

use fold::{Fold, TOLD};

/// Segments that are read ahead.
const AHEAD_MAX: usize = 16;

/// What is needed of an epoch to replay one part.
#[derive(Debug)]
pub(super) struct Scan {
    pub cut: Cut,
    /// Oldest first.
    pub blocks: Vec<SegmentBlock>,
    /// In order: what befell whole tables.
    pub events: Vec<(ChangePlace, TableEvent)>,
    /// Tables whose structure was changed.
    pub altered: Vec<String>,
    /// What of the site's own schema is no table and became another.
    pub objects: OtherObjects,
    /// Where rows came to the site or left it without a change of their own, or one that is not in the log.
    pub moved: Option<Timestamp>,
    /// The site's own tables that were made, and are not followed yet; and whether the base sees that they were made.
    unfollowed: BTreeMap<String, (Timestamp, bool)>,
    /// Tables whose changes are not all in the log.
    pub partly: BTreeSet<String>,
    /// Changes whose site nobody could tell.
    pub unrouted: u64,
    /// Of the last transaction that belongs to the moment.
    pub last_commit: Option<Timestamp>,
    pub last_sealed: Timestamp,
}

impl Scan {
    /// Whether any table was dropped.
    pub fn has_dropped(&self) -> bool {
        self.events.iter().any(|(_, event)| matches!(event, TableEvent::Dropped { .. }))
    }
}

/// What befalls a table beside the changes of its rows.
#[derive(Debug, Clone)]
pub(super) enum TableEvent {
    Emptied { tables: Vec<String> },
    Altered(TableColumns),
    Dropped { table: String },
}

/// What a search from one base has come to.
#[derive(Debug)]
pub(super) enum Scanned {
    Found(Box<Scan>),
    /// The base sees transactions that are after the moment.
    BaseIsLater,
    /// What the base does not see may be in segments that are kept no more.
    LogIsGone,
    AfterEnd(AfterEnd),
}

/// From where to where, and of whom.
pub(super) struct Search<'s> {
    pub log: &'s SourceLog,
    pub site: &'s SiteId,
    pub base: &'s Base,
    pub moment: Moment,
}

impl Search<'_> {
    /// Reads the footers of an epoch from a base on, and shared blocks where they are needed, until the moment is found.
    pub async fn run(&self, engine: &Engine, kept: &LogState) -> Result<Scanned, Error> {
        self.log.log.check_asked(self.site)?;
        let last = self.log.last_number(kept.epoch).await?;
        if last == 0 {
            return Ok(Scanned::AfterEnd(AfterEnd(None)));
        }
        let (_, base_till) = self.base.read;
        let Some(first) = self.log.first_after(kept, self.base, last).await? else {
            return Ok(Scanned::LogIsGone);
        };
        let segments = self.log.log.segments_kept(kept, SegmentNumber(first)..=SegmentNumber(last)).await?;
        let read = self.log.log.footers(segments).await?.map_ok(|(segment, footer)| async move {
            // Ahead, what is needed wherever it lies; what depends on the segments before it, when they are known.
            let shared = match footer.may_tell(TOLD) {
                true => Some(self.log.log.shared(&segment, &footer).await?),
                false => None,
            };
            Ok::<_, lifeboat_repo::Error>((segment, footer, shared))
        });
        let mut read = std::pin::pin!(read.try_buffered(AHEAD_MAX));
        let mut fold = Fold::new(self.moment, (self.site, &self.base.place));
        while let Some((segment, footer, mut shared)) = read.try_next().await? {
            engine.check_cancelled()?;
            if shared.is_none() && fold.needs(&footer) {
                shared = Some(self.log.log.shared(&segment, &footer).await?);
            }
            fold.take((segment, footer), shared.as_ref());
            if fold.is_over(base_till) {
                break;
            }
        }
        if let Some((segment, footer)) = fold.last_segment() {
            let shared = self.log.log.shared(segment, footer).await?;
            fold.take_last(&shared);
        }
        Ok(fold.finish(base_till))
    }
}

/// Where a transaction, or a note, is in an epoch: looked for from its end.
pub(super) async fn find_back<T>(
    log: &SourceLog,
    epoch: lifeboat_model::EpochId,
    is_possible: &(dyn Fn(&SegmentFooter) -> bool + Sync),
    find: &(dyn Fn(&SharedFacts) -> Option<T> + Sync),
) -> Result<Option<T>, Error> {
    let last = log.last_number(epoch).await?;
    if last == 0 {
        return Ok(None);
    }
    let kept = log.log.kept(epoch).await?;
    let segments = log.log.segments_kept(&kept, kept.first()..=SegmentNumber(last)).await?;
    let reads = stream::iter(segments.into_iter().rev()).map(|segment| async move {
        let footer = log.log.footer(&segment).await?;
        let shared = match is_possible(&footer) {
            true => Some(log.log.shared(&segment, &footer).await?),
            false => None,
        };
        Ok::<_, lifeboat_repo::Error>(shared)
    });
    let mut reads = std::pin::pin!(reads.buffered(AHEAD_MAX));
    while let Some(shared) = reads.try_next().await? {
        if let Some(found) = shared.as_ref().and_then(find) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
