//! An epoch from a base to a cut: which blocks are this site's, and what befell it beside them.

use futures_util::{StreamExt, TryStreamExt, stream};
use lifeboat_model::{
    ChangePlace, Lsn, SegmentFooter, SegmentNumber, SharedFacts, SiteId, Timestamp, TransactionHead, Truncation,
};
use lifeboat_repo::{ListedSegment, SegmentBlock};
use lifeboat_source::postgres::capture::TableColumns;

use super::base::BasePlace;
use super::cut::{AfterEnd, Cut, CutFinder, Moment};
use super::log::SourceLog;
use crate::capture::{COLUMNS, DROPPED, MOVED, STRUCTURE};
use crate::{Engine, Error};

/// Segments that are read ahead.
const AHEAD_MAX: usize = 16;
/// Two clocks may differ by this much before what a base sees is looked for too near.
const CLOCKS_MICROS: i64 = 60 * 1_000_000;

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
    /// Where rows came to the site or left it without a change of their own.
    pub moved: Option<Timestamp>,
    /// Changes whose site nobody could tell.
    pub unrouted: u64,
    /// Of the last transaction that belongs to the moment.
    pub last_commit: Option<Timestamp>,
    pub last_sealed: Timestamp,
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
    AfterEnd(AfterEnd),
}

/// From where to where, and of whom.
pub(super) struct Search<'s> {
    pub log: &'s SourceLog,
    pub site: &'s SiteId,
    pub base: &'s BasePlace,
    /// When the base was read, by the clock of who read it.
    pub base_read: (Timestamp, Timestamp),
    pub moment: Moment,
}

impl Search<'_> {
    /// Reads the footers and shared facts of an epoch from a base on, until the moment is found.
    pub async fn run(&self, engine: &Engine, epoch: lifeboat_model::EpochId) -> Result<Scanned, Error> {
        let last = self.log.last_number(epoch).await?;
        if last == 0 {
            return Ok(Scanned::AfterEnd(AfterEnd(None)));
        }
        let (base_from, base_till) = self.base_read;
        let first = self.log.first_after(epoch, (self.base, base_from), last).await?;
        let segments = self.log.log.segments(epoch, SegmentNumber(first)..=SegmentNumber(last)).await?;
        let read = self.log.log.footers(segments).await?.map_ok(|(segment, footer)| async move {
            let shared = self.log.log.shared(&segment, &footer).await?;
            Ok::<_, lifeboat_repo::Error>((segment, footer, shared))
        });
        let mut read = std::pin::pin!(read.try_buffered(AHEAD_MAX));
        let mut fold = Fold::new(self.moment);
        while let Some((segment, footer, shared)) = read.try_next().await? {
            engine.check_cancelled()?;
            fold.take(self, (segment, &footer), &shared);
            if fold.is_over(base_till) {
                break;
            }
        }
        Ok(fold.finish(self.base))
    }
}

struct Fold {
    finder: Option<CutFinder>,
    scan: Scan,
    sees_later: bool,
}

impl Fold {
    fn new(moment: Moment) -> Self {
        let scan = Scan {
            cut: Cut { till: Lsn(0) },
            blocks: Vec::new(),
            events: Vec::new(),
            altered: Vec::new(),
            moved: None,
            unrouted: 0,
            last_commit: None,
            last_sealed: Timestamp(0),
        };
        Self { finder: Some(CutFinder::new(moment)), scan, sees_later: false }
    }

    /// The cut is found, and nothing that follows can have been seen by a base that was read till then.
    fn is_over(&self, base_till: Timestamp) -> bool {
        let is_past = self.scan.last_sealed.0 > base_till.0.saturating_add(CLOCKS_MICROS);
        self.finder.is_none() && (is_past || self.sees_later)
    }

    fn take(&mut self, search: &Search<'_>, (segment, footer): (ListedSegment, &SegmentFooter), shared: &SharedFacts) {
        self.scan.last_sealed = footer.sealed_at;
        let is_before = self.finder.is_some();
        if let Some(cut) = self.finder.as_mut().and_then(|finder| finder.take(footer, shared)) {
            self.scan.cut = cut;
            self.finder = None;
        }
        let is_found = self.finder.is_none();
        let cut = self.scan.cut;
        let heads = shared.transactions.iter().map(|facts| facts.head);
        self.sees_later |= is_found && heads.clone().any(|head| head.commit > cut.till && search.base.sees(head.id));
        if !is_before {
            return; // only read to know what the base sees
        }
        if let Some(block) = footer.block(search.site) {
            self.scan.blocks.push(SegmentBlock { segment, block: block.clone() });
        }
        let belongs = |commit: Lsn| !is_found || commit <= cut.till;
        self.scan.unrouted += footer.unrouted.map_or(0, |unrouted| unrouted.changes);
        let last = heads.rev().find(|head| belongs(head.commit)).map(|head| head.committed_at);
        self.scan.last_commit = last.or(self.scan.last_commit);
        self.take_facts(search, shared, &belongs);
    }

    fn take_facts(&mut self, search: &Search<'_>, shared: &SharedFacts, belongs: &dyn Fn(Lsn) -> bool) {
        let head_of = |commit: Lsn| -> Option<TransactionHead> {
            shared.transactions.iter().map(|facts| facts.head).find(|head| head.commit == commit)
        };
        // What the base does not see, up to the cut.
        let is_ours = |place: &ChangePlace| {
            belongs(place.commit) && head_of(place.commit).is_none_or(|head| !search.base.sees(head.id))
        };
        for Truncation { place, tables, .. } in shared.truncations.iter().filter(|one| is_ours(&one.place)) {
            let names = tables.iter().filter_map(|table| shared.tables.get(*table as usize).cloned());
            self.scan.events.push((*place, TableEvent::Emptied { tables: names.collect() }));
        }
        for note in shared.notes.iter().filter(|note| is_ours(&note.place)) {
            let text = String::from_utf8_lossy(&note.content);
            match note.prefix.as_str() {
                MOVED if text.lines().any(|site| site == search.site.as_str()) => {
                    let at = head_of(note.place.commit).map(|head| head.committed_at);
                    self.scan.moved = self.scan.moved.or(at).or(Some(Timestamp(0)));
                }
                COLUMNS => {
                    let columns = TableColumns::from_json(&note.content).map(TableEvent::Altered);
                    self.scan.events.extend(columns.map(|columns| (note.place, columns)));
                }
                // With a second line it is a column's, which the note of its table's columns says too.
                DROPPED if !text.contains('\n') => {
                    self.scan.events.push((note.place, TableEvent::Dropped { table: text.into_owned() }));
                }
                STRUCTURE if !self.scan.altered.iter().any(|table| *table == text) => {
                    self.scan.altered.push(text.into_owned());
                }
                _ => {}
            }
        }
    }

    fn finish(mut self, base: &BasePlace) -> Scanned {
        if let Some(finder) = self.finder {
            match finder.finish() {
                Ok(cut) => self.scan.cut = cut,
                Err(after_end) => return Scanned::AfterEnd(after_end),
            }
        }
        self.scan.events.sort_by_key(|(place, _)| *place);
        if self.sees_later || self.scan.cut.till < base.lsn {
            return Scanned::BaseIsLater;
        }
        Scanned::Found(Box::new(self.scan))
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
    let segments = log.log.segments(epoch, SegmentNumber(1)..=SegmentNumber(last)).await?;
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
