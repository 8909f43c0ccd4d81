//! From the facts of segments to the transactions that took something: bounded, and pure.
//!
//! A log of a day has millions of transactions. Kept are those that removed or rewrote most, so many that
//! what belongs to an incident is among them; of each, counts by site and table.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lifeboat_model::{
    ChangeCounts, EpochId, LogNote, Lsn, SegmentFooter, SharedFacts, Timestamp, TransactionFacts, TransactionHead,
};

use super::{BySite, TableName};
use crate::capture::{DROPPED, OWN_NOTES, STRUCTURE};

/// Counts that are kept at once, of all transactions together: about 100 MB.
const COUNTS_MAX: usize = 1_000_000;
/// Applications' notes that are kept, the newest ones.
const NOTES_MAX: usize = 10_000;
/// Bytes of a note that are shown.
const NOTE_BYTES_MAX: usize = 200;

/// A transaction that removed or rewrote something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Suspect {
    pub epoch: EpochId,
    pub head: TransactionHead,
    pub sites: BySite<BTreeMap<TableName, ChangeCounts>>,
    /// Changes whose site nobody could tell.
    pub unrouted: u64,
    /// Tables that were emptied as a whole.
    pub emptied: BTreeSet<TableName>,
    /// Tables, and columns as `table.column`, that are no more.
    pub dropped: BTreeSet<String>,
    /// Tables with another structure since.
    pub altered: BTreeSet<String>,
    /// Of sites with tables of their own: those that were emptied or dropped, which are nobody else's loss.
    pub own: BySite<BTreeSet<String>>,
}

/// What an application said in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    pub epoch: EpochId,
    pub commit: Lsn,
    /// Of its transaction; where it has none, about when.
    pub at: Timestamp,
    pub prefix: String,
    pub text: String,
}

impl Suspect {
    fn new(epoch: EpochId, head: TransactionHead) -> Self {
        Self {
            epoch,
            head,
            sites: BySite::new(),
            unrouted: 0,
            emptied: BTreeSet::new(),
            dropped: BTreeSet::new(),
            altered: BTreeSet::new(),
            own: BySite::new(),
        }
    }

    /// Tables that were emptied or dropped become their site's, as `site_of` says; what is no site's is no damage.
    pub fn tell_owners(&mut self, site_of: &dyn Fn(&str) -> Option<lifeboat_model::SiteId>) {
        let emptied = std::mem::take(&mut self.emptied).into_iter().map(|table| table.to_string());
        for table in emptied.chain(std::mem::take(&mut self.dropped)) {
            if let Some(site) = site_of(&table) {
                self.own.entry(site).or_default().insert(table);
            }
        }
    }

    pub fn counts(&self) -> ChangeCounts {
        let mut sum = ChangeCounts::default();
        for counts in self.sites.values().flat_map(BTreeMap::values) {
            add(&mut sum, counts);
        }
        sum
    }

    /// What took something from every site at once comes before any number of rows.
    pub fn rank(&self) -> (bool, u64) {
        let takes_all = !self.emptied.is_empty() || !self.dropped.is_empty() || !self.own.is_empty();
        rank_of(takes_all, &self.counts(), self.unrouted)
    }

    fn size(&self) -> usize {
        1 + self.sites.values().map(BTreeMap::len).sum::<usize>()
    }
}

/// A row that is gone counts as four that were rewritten: rewriting rows is what applications do all day.
pub(super) fn rank_of(takes_all: bool, counts: &ChangeCounts, unrouted: u64) -> (bool, u64) {
    let removed = counts.deletes.saturating_add(unrouted);
    (takes_all, removed.saturating_mul(4).saturating_add(counts.updates))
}

pub(super) fn add(sum: &mut ChangeCounts, more: &ChangeCounts) {
    sum.inserts = sum.inserts.saturating_add(more.inserts);
    sum.updates = sum.updates.saturating_add(more.updates);
    sum.deletes = sum.deletes.saturating_add(more.deletes);
}

pub(super) struct Collector {
    since: Timestamp,
    /// By place in the history; a transaction may come in several segments.
    suspects: BTreeMap<(EpochId, Lsn), Suspect>,
    /// Those whose end is not in the log yet count as soon as it is.
    complete_till: Lsn,
    notes: Vec<Note>,
    /// Commit, whether it is a drop, and what: of transactions that have not ended yet.
    structure: Vec<(Lsn, bool, String)>,
    tables: BTreeSet<TableName>,
    transactions: u64,
    counts: usize,
    counts_max: usize,
}

impl Collector {
    pub fn new(since: Timestamp) -> Self {
        Self {
            since,
            suspects: BTreeMap::new(),
            complete_till: Lsn(0),
            notes: Vec::new(),
            structure: Vec::new(),
            tables: BTreeSet::new(),
            transactions: 0,
            counts: 0,
            counts_max: COUNTS_MAX,
        }
    }

    /// Transactions that were seen; one that lies in several segments counts in each.
    pub fn transactions(&self) -> u64 {
        self.transactions
    }

    /// Takes the facts of the next segment.
    pub fn take(&mut self, epoch: EpochId, footer: &SegmentFooter, shared: &SharedFacts) {
        self.complete_till = footer.span.complete_till;
        let heads: BTreeMap<Lsn, TransactionHead> =
            shared.transactions.iter().map(|facts| (facts.head.commit, facts.head)).collect();
        for facts in &shared.transactions {
            if facts.head.committed_at >= self.since {
                self.transactions += 1;
                self.take_counts(epoch, facts, shared);
            }
        }
        for truncation in &shared.truncations {
            let Some(head) = heads.get(&truncation.place.commit).filter(|head| head.committed_at >= self.since) else {
                continue;
            };
            for table in truncation.tables.iter().filter_map(|table| shared.tables.get(*table as usize)) {
                let table = self.table(table);
                self.suspect(epoch, *head).emptied.insert(table);
            }
        }
        for note in &shared.notes {
            self.take_note(epoch, heads.get(&note.place.commit), (footer, note));
        }
        self.take_structure(epoch, &heads);
        if self.counts > self.counts_max {
            self.forget_least();
        }
    }

    /// What has no end in an ended epoch never happened.
    pub fn end_epoch(&mut self, epoch: EpochId) {
        let complete_till = self.complete_till;
        self.suspects.retain(|(of, commit), _| *of != epoch || *commit <= complete_till);
        self.complete_till = Lsn(0);
        self.structure.clear();
    }

    /// In the order of the history.
    pub fn finish(self) -> (Vec<Suspect>, Vec<Note>) {
        (self.suspects.into_values().collect(), self.notes)
    }

    fn take_counts(&mut self, epoch: EpochId, facts: &TransactionFacts, shared: &SharedFacts) {
        let takes = |counts: &ChangeCounts| counts.deletes > 0 || counts.updates > 0;
        for count in facts.counts.iter().filter(|count| takes(&count.counts)) {
            let place = (shared.sites.get(count.site as usize), shared.tables.get(count.table as usize));
            let (Some(site), Some(table)) = place else { continue };
            let table = self.table(table);
            let tables = self.suspect(epoch, facts.head).sites.entry(site.clone()).or_default();
            let is_new = !tables.contains_key(&table);
            add(tables.entry(table).or_default(), &count.counts);
            self.counts += usize::from(is_new);
        }
        if facts.unrouted > 0 {
            self.suspect(epoch, facts.head).unrouted += facts.unrouted;
        }
    }

    fn take_note(
        &mut self,
        epoch: EpochId,
        head: Option<&TransactionHead>,
        (footer, note): (&SegmentFooter, &LogNote),
    ) {
        let at = head.map_or(footer.sealed_at, |head| head.committed_at);
        if at < self.since {
            return;
        }
        let text = || String::from_utf8_lossy(&note.content).into_owned();
        match note.prefix.as_str() {
            DROPPED => self.structure.push((note.place.commit, true, text().replace('\n', "."))),
            STRUCTURE => self.structure.push((note.place.commit, false, text())),
            prefix if prefix.starts_with(OWN_NOTES) => {}
            prefix => {
                let (prefix, text) = (shown(prefix.as_bytes()), shown(&note.content));
                self.notes.push(Note { epoch, commit: note.place.commit, at, prefix, text });
                if self.notes.len() > 2 * NOTES_MAX {
                    self.notes.drain(..NOTES_MAX);
                }
            }
        }
    }

    /// Changes of structure whose transaction is known by now: it may end in a later segment than they come in.
    fn take_structure(&mut self, epoch: EpochId, heads: &BTreeMap<Lsn, TransactionHead>) {
        for (commit, is_drop, what) in std::mem::take(&mut self.structure) {
            match heads.get(&commit) {
                Some(head) if head.committed_at < self.since => {}
                Some(head) if is_drop => {
                    self.suspect(epoch, *head).dropped.insert(what);
                }
                Some(head) => {
                    self.suspect(epoch, *head).altered.insert(what);
                }
                None if commit > self.complete_till => self.structure.push((commit, is_drop, what)),
                None => {}
            }
        }
    }

    fn suspect(&mut self, epoch: EpochId, head: TransactionHead) -> &mut Suspect {
        self.suspects.entry((epoch, head.commit)).or_insert_with(|| {
            self.counts += 1;
            Suspect::new(epoch, head)
        })
    }

    fn table(&mut self, name: &str) -> TableName {
        if let Some(known) = self.tables.get(name) {
            return Arc::clone(known);
        }
        let name: TableName = Arc::from(name);
        self.tables.insert(Arc::clone(&name));
        name
    }

    /// Forgets the lesser half of what is kept.
    fn forget_least(&mut self) {
        let mut by_rank: Vec<_> = self.suspects.iter().map(|(place, one)| (one.rank(), one.size(), *place)).collect();
        by_rank.sort_unstable_by(|a, b| b.cmp(a));
        let mut kept = 0;
        for (_, size, place) in by_rank {
            kept += size;
            if kept > self.counts_max / 2 {
                self.suspects.remove(&place);
                kept -= size;
            }
        }
        self.counts = kept;
    }
}

/// Bytes that a stranger wrote, for a terminal: one line of plain characters, not too long.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(NOTE_BYTES_MAX)]);
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let text = text.trim().to_owned();
    if bytes.len() > NOTE_BYTES_MAX { format!("{text}…") } else { text }
}

#[cfg(test)]
mod tests;
