//! An epoch from a base to a cut: which blocks are this site's, and what befell it beside them.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt, stream};
use lifeboat_model::{ChangePlace, Lsn, SegmentFooter, SegmentNumber, SharedFacts, SiteId, Timestamp, Truncation};
use lifeboat_repo::{ListedSegment, SegmentBlock};
use lifeboat_source::postgres::capture::{TableColumns, WITH_ROWS};

use super::base::BasePlace;
use super::cut::{AfterEnd, Cut, CutFinder, Moment};
use super::log::SourceLog;
use crate::capture::{COLUMNS, DROPPED, FOLLOWED, MOVED, OWN_NOTES, PARTLY, STRUCTURE, UNFOLLOWED};
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
    /// Where rows came to the site or left it without a change of their own, or one that is not in the log.
    pub moved: Option<Timestamp>,
    /// The site's own tables that were made, and are not followed yet.
    unfollowed: BTreeMap<String, Timestamp>,
    /// Tables whose changes are not all in the log.
    pub partly: BTreeSet<String>,
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
    /// Of transactions whose heads did not come yet.
    open: Vec<(ChangePlace, Beside)>,
}

/// What stands in a segment beside the changes of rows.
enum Beside {
    Emptied(Vec<String>),
    /// Prefix and content.
    Note(String, String),
}

impl Fold {
    fn new(moment: Moment) -> Self {
        let scan = Scan {
            cut: Cut { till: Lsn(0) },
            blocks: Vec::new(),
            events: Vec::new(),
            altered: Vec::new(),
            moved: None,
            unfollowed: BTreeMap::new(),
            partly: BTreeSet::new(),
            unrouted: 0,
            last_commit: None,
            last_sealed: Timestamp(0),
        };
        Self { finder: Some(CutFinder::new(moment)), scan, sees_later: false, open: Vec::new() }
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

    /// What befell tables and is told beside the changes of rows. Of a transaction that is cut in two the head comes in a
    /// later segment: only then it is known whether the base sees it.
    fn take_facts(&mut self, search: &Search<'_>, shared: &SharedFacts, belongs: &dyn Fn(Lsn) -> bool) {
        let named = |table: &u32| shared.tables.get(*table as usize).cloned();
        let truncations = shared.truncations.iter().map(|Truncation { place, tables, .. }| {
            (*place, Beside::Emptied(tables.iter().filter_map(named).collect()))
        });
        let notes = shared.notes.iter().map(|note| {
            (note.place, Beside::Note(note.prefix.clone(), String::from_utf8_lossy(&note.content).into_owned()))
        });
        let mut open = std::mem::take(&mut self.open);
        open.extend(truncations.chain(notes));
        open.retain(|(place, _)| belongs(place.commit));
        open.sort_by_key(|(place, _)| *place);
        for (place, beside) in open {
            match shared.transactions.iter().map(|facts| facts.head).find(|head| head.commit == place.commit) {
                Some(head) if search.base.sees(head.id) => {}
                Some(head) => self.take_beside(search, (place, head.committed_at), beside),
                None => self.open.push((place, beside)),
            }
        }
    }

    fn take_beside(&mut self, search: &Search<'_>, (place, at): (ChangePlace, Timestamp), beside: Beside) {
        let (prefix, text) = match beside {
            Beside::Emptied(tables) => return self.scan.events.push((place, TableEvent::Emptied { tables })),
            Beside::Note(prefix, text) => (prefix, text),
        };
        match prefix.as_str() {
            MOVED if text.lines().any(|site| site == search.site.as_str()) => {
                self.scan.moved = self.scan.moved.or(Some(at));
            }
            COLUMNS => {
                let columns = TableColumns::from_json(text.as_bytes()).map(TableEvent::Altered);
                self.scan.events.extend(columns.map(|columns| (place, columns)));
            }
            // With a second line it is a column's, which the note of its table's columns says too.
            DROPPED if !text.contains('\n') => {
                self.scan.unfollowed.remove(&text);
                self.scan.events.push((place, TableEvent::Dropped { table: text }));
            }
            STRUCTURE if !self.scan.altered.contains(&text) => self.scan.altered.push(text),
            PARTLY => drop(self.scan.partly.insert(text)),
            UNFOLLOWED | FOLLOWED => self.take_own(search, (&prefix, &text), at),
            MOVED | DROPPED | STRUCTURE => {} // of another site, a column, a table that is known
            // A later version knows what it is that cannot be replayed over.
            other if other.starts_with(OWN_NOTES) => self.scan.moved = self.scan.moved.or(Some(at)),
            _ => {}
        }
    }

    /// Of a table that is the site's own: whether its changes are followed.
    fn take_own(&mut self, search: &Search<'_>, (prefix, text): (&str, &str), at: Timestamp) {
        let mut lines = text.splitn(3, '\n');
        let (Some(site), Some(table)) = (lines.next(), lines.next()) else { return };
        if site != search.site.as_str() {
            return;
        }
        if prefix == UNFOLLOWED {
            self.scan.unfollowed.insert(table.to_owned(), at);
            return;
        }
        self.scan.unfollowed.remove(table);
        if lines.next() == Some(WITH_ROWS) {
            self.scan.moved = self.scan.moved.or(Some(at));
        }
    }

    fn finish(mut self, base: &BasePlace) -> Scanned {
        if let Some(finder) = self.finder {
            match finder.finish() {
                Ok(cut) => self.scan.cut = cut,
                Err(after_end) => return Scanned::AfterEnd(after_end),
            }
        }
        self.scan.moved = self.scan.moved.or(self.scan.unfollowed.values().next().copied());
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
