//! What segments say, one after another, as one: the cut, the site's blocks, and what befell it. Pure.
//!
//! Invariant (lazy-as-full): a fold that is given only the shared blocks it needs comes to what one comes to that is given
//! all of them.
//! What is not here: reading (`scan`), and the rule of the cut (`cut`).

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_model::{ChangePlace, Lsn, SegmentFooter, SharedFacts, SharedKinds, SiteId, Timestamp, Truncation};
use lifeboat_repo::{ListedSegment, SegmentBlock};
use lifeboat_source::postgres::capture::{OtherObject, TableColumns, WITH_ROWS};

use super::super::base::BasePlace;
use super::super::cut::{Cut, CutFinder, Moment};
use super::super::objects::OtherObjects;
use super::{Scan, Scanned, TableEvent};
use crate::capture::{
    AS_PARTITION, COLUMNS, DROPPED, FOLLOWED, MOVED, OBJECT, OWN_NOTES, PARTLY, STRUCTURE, UNFOLLOWED,
};

#[cfg(test)]
mod tests;

/// What befalls a site beside the changes of its rows.
pub(super) const TOLD: SharedKinds = SharedKinds::TRUNCATIONS.and(SharedKinds::OWN_NOTES);
/// Two clocks may differ by this much before what a base sees is looked for too near.
const CLOCKS_MICROS: i64 = 60 * 1_000_000;

/// A search's state, segment by segment.
pub(super) struct Fold<'s> {
    site: &'s SiteId,
    base: &'s BasePlace,
    moment: Moment,
    finder: Option<CutFinder>,
    scan: Scan,
    sees_later: bool,
    /// Of transactions whose heads did not come yet.
    open: Vec<(ChangePlace, Beside)>,
    /// Where the last transaction of the moment is, if the shared block there was not needed before.
    last: Option<LastSegment>,
}

/// What stands in a segment beside the changes of rows.
enum Beside {
    Emptied(Vec<String>),
    /// Prefix and content.
    Note(String, String),
}

/// A segment whose last transaction, up to a commit, is the last one of the moment.
struct LastSegment {
    segment: ListedSegment,
    footer: SegmentFooter,
    /// `None`: each belongs to it.
    till: Option<Lsn>,
}

impl LastSegment {
    fn commit_in(&self, shared: &SharedFacts) -> Option<Timestamp> {
        let mut heads = shared.transactions.iter().rev().map(|facts| facts.head);
        heads.find(|head| self.till.is_none_or(|till| head.commit <= till)).map(|head| head.committed_at)
    }
}

impl<'s> Fold<'s> {
    pub fn new(moment: Moment, (site, base): (&'s SiteId, &'s BasePlace)) -> Self {
        let scan = Scan {
            cut: Cut { till: Lsn(0) },
            blocks: Vec::new(),
            events: Vec::new(),
            altered: Vec::new(),
            objects: OtherObjects::default(),
            moved: None,
            unfollowed: BTreeMap::new(),
            partly: BTreeSet::new(),
            unrouted: 0,
            last_commit: None,
            last_sealed: Timestamp(0),
        };
        let finder = Some(CutFinder::new(moment));
        Self { site, base, moment, finder, scan, sees_later: false, open: Vec::new(), last: None }
    }

    /// The cut is found, and nothing that follows can have been seen by a base that was read till then.
    pub fn is_over(&self, base_till: Timestamp) -> bool {
        let is_past = self.scan.last_sealed.0 > base_till.0.saturating_add(CLOCKS_MICROS);
        self.finder.is_none() && (is_past || self.sees_later)
    }

    /// Whether the next segment must not be taken without its shared block.
    ///
    /// Each transaction of it lies within the bounds, and each bound is one's: where a bound says that none matters, none
    /// does. A footer that does not say what the block tells may be of a version whose bounds say less.
    pub fn needs(&self, footer: &SegmentFooter) -> bool {
        if footer.may_tell(TOLD) {
            return true;
        }
        let Some(bounds) = &footer.span.bounds else { return false };
        let is_within =
            |(place, _): &(ChangePlace, Beside)| (bounds.first_commit..=bounds.last_commit).contains(&place.commit);
        // Where this segment has the cut of a position, it is decided as where it was found before.
        let is_cut_here = self.finder.as_ref().is_none_or(|finder| finder.may_cut(footer));
        self.finder.as_ref().is_some_and(|finder| finder.needs(bounds))
            || self.open.iter().any(is_within)
            || (is_cut_here && self.base.may_see(bounds))
    }

    /// Takes the next segment; without its shared block only where that is not needed.
    pub fn take(&mut self, (segment, footer): (ListedSegment, SegmentFooter), shared: Option<&SharedFacts>) {
        self.scan.last_sealed = footer.sealed_at;
        let is_before = self.finder.is_some();
        if let Some(cut) = self.finder.as_mut().and_then(|finder| finder.take(&footer, shared)) {
            self.scan.cut = cut;
            self.finder = None;
        }
        let till = self.finder.is_none().then_some(self.scan.cut.till);
        let heads = shared.iter().flat_map(|shared| &shared.transactions).map(|facts| facts.head);
        self.sees_later |=
            till.is_some_and(|till| heads.clone().any(|head| head.commit > till && self.base.sees(head.id)));
        if !is_before {
            return; // only read to know what the base sees
        }
        if let Some(block) = footer.block(self.site) {
            self.scan.blocks.push(SegmentBlock { segment, block: block.clone() });
        }
        self.scan.unrouted += footer.unrouted.map_or(0, |unrouted| unrouted.changes);
        let belongs = |commit: Lsn| till.is_none_or(|till| commit <= till);
        let has_last = footer.shared.is_some() && footer.span.bounds.is_some_and(|bounds| belongs(bounds.first_commit));
        let here = LastSegment { segment, footer, till };
        match shared {
            Some(shared) => {
                if let Some(committed_at) = here.commit_in(shared) {
                    (self.scan.last_commit, self.last) = (Some(committed_at), None);
                }
                self.take_facts(shared, &belongs);
            }
            None if has_last => self.last = Some(here),
            None => {}
        }
    }

    /// The segment whose shared block still has to be taken, once no other segment follows.
    pub fn last_segment(&self) -> Option<(&ListedSegment, &SegmentFooter)> {
        self.last.as_ref().map(|last| (&last.segment, &last.footer))
    }

    pub fn take_last(&mut self, shared: &SharedFacts) {
        let last = self.last.take().and_then(|last| last.commit_in(shared));
        self.scan.last_commit = last.or(self.scan.last_commit);
    }

    /// What befell tables and is told beside the changes of rows. Of a transaction that is cut in two the head comes in a
    /// later segment: only then it is known whether the base sees it.
    fn take_facts(&mut self, shared: &SharedFacts, belongs: &dyn Fn(Lsn) -> bool) {
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
                Some(head) if self.base.sees(head.id) => self.take_seen(head.committed_at, beside),
                Some(head) => self.take_beside((place, head.committed_at), beside),
                None => self.open.push((place, beside)),
            }
        }
    }

    fn take_beside(&mut self, (place, at): (ChangePlace, Timestamp), beside: Beside) {
        let (prefix, text) = match beside {
            Beside::Emptied(tables) => return self.scan.events.push((place, TableEvent::Emptied { tables })),
            Beside::Note(prefix, text) => (prefix, text),
        };
        match prefix.as_str() {
            MOVED if text.lines().any(|site| site == self.site.as_str()) => {
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
            OBJECT => match text.split_once('\n') {
                Some((site, object)) if site == self.site.as_str() => {
                    OtherObject::from_json(object).into_iter().for_each(|object| self.scan.objects.take(object));
                }
                _ => {} // another site's
            },
            UNFOLLOWED | FOLLOWED => self.take_own((&prefix, &text), (place, at)),
            MOVED | DROPPED | STRUCTURE => {} // of another site, a column, a table that is known
            // A later version knows what it is that cannot be replayed over.
            other if other.starts_with(OWN_NOTES) => self.scan.moved = self.scan.moved.or(Some(at)),
            _ => {}
        }
    }

    /// What a base sees is in it, but for one thing: of a table that was not followed yet, what came after the base is in no
    /// change of a row.
    fn take_seen(&mut self, at: Timestamp, beside: Beside) {
        let Beside::Note(prefix, text) = beside else { return };
        let table = text.strip_prefix(self.site.as_str()).and_then(|rest| rest.strip_prefix('\n'));
        match (prefix.as_str(), table.and_then(|rest| rest.lines().next())) {
            (UNFOLLOWED, Some(table)) => drop(self.scan.unfollowed.insert(table.to_owned(), (at, true))),
            (FOLLOWED, Some(table)) => drop(self.scan.unfollowed.remove(table)),
            (DROPPED, _) => drop(self.scan.unfollowed.remove(&text)),
            _ => {}
        }
    }

    /// Of a table that is the site's own: whether its changes are followed.
    fn take_own(&mut self, (prefix, text): (&str, &str), (place, at): (ChangePlace, Timestamp)) {
        let mut lines = text.splitn(3, '\n');
        let (Some(site), Some(table)) = (lines.next(), lines.next()) else { return };
        if site != self.site.as_str() {
            return;
        }
        if prefix == UNFOLLOWED {
            self.scan.unfollowed.insert(table.to_owned(), (at, false));
            return;
        }
        let made = self.scan.unfollowed.remove(table);
        match (lines.next(), made) {
            (Some(WITH_ROWS), _) => self.scan.moved = self.scan.moved.or(Some(at)),
            (Some(AS_PARTITION), _) => {}
            // The base may have rows of it, and by now there is none.
            (_, Some((_, true))) => {
                self.scan.events.push((place, TableEvent::Emptied { tables: vec![table.to_owned()] }));
            }
            _ => {}
        }
    }

    /// `base_till`: when the base had been read, by the clock of who read it.
    pub fn finish(mut self, base_till: Timestamp) -> Scanned {
        if let Some(finder) = self.finder {
            match finder.finish() {
                Ok(cut) => self.scan.cut = cut,
                Err(after_end) => return Scanned::AfterEnd(after_end),
            }
        }
        self.scan.moved = self.scan.moved.or(self.scan.unfollowed.values().next().map(|(at, _)| *at));
        self.scan.events.sort_by_key(|(place, _)| *place);
        // All that a base sees was committed before it was read: it is of any later time, however far the log's positions
        // have come where nothing is written. Of a position it has to be told by the position.
        let is_later = matches!(self.moment, Moment::Time(time) if time >= base_till);
        if self.sees_later || (!is_later && self.scan.cut.till < self.base.lsn) {
            return Scanned::BaseIsLater;
        }
        Scanned::Found(Box::new(self.scan))
    }
}
