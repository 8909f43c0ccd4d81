//! What goes into the next segment, collected change by change: by site, and counted.
//!
//! A draft is plain bytes in memory, about [`SegmentDraft::len`] of them; whoever fills it appends it
//! before that is too much.

use std::collections::HashMap;
use std::sync::Arc;

use lifeboat_format::BlockWriter;
use lifeboat_model::{
    ChangeCounts, ChangeKind, ChangePlace, ChangedTable, ChangedValue, LogNote, RowChange, RowKeyHash, SharedFacts,
    SiteCount, SiteId, SpanBounds, StructureChange, TransactionFacts, TransactionHead, TransactionId, Truncation,
    UnroutedChange, UnroutedChanges,
};

use crate::Error;

/// About what one fact takes, beside its texts.
const FACT_BYTES: usize = 64;
/// A change whose site nobody can tell is kept up to this size; a larger one is counted.
const UNROUTED_BYTES_MAX: usize = 16 << 20;
/// Tables that are looked for one by one.
const KNOWN_MAX: usize = 32;

/// Changes that are not in a segment yet. Transactions come in the order of their commits.
#[derive(Debug, Default)]
pub struct SegmentDraft {
    /// Of the shared facts' sites, by their numbers.
    blocks: Vec<BlockWriter>,
    pub(super) shared: SharedFacts,
    pub(super) unrouted: UnroutedChanges,
    pub(super) bounds: Option<SpanBounds>,
    /// The highest number of those that have begun.
    begun: Option<TransactionId>,
    sites: HashMap<SiteId, u32>,
    /// The one that was pushed last.
    site: u32,
    tables: HashMap<String, u32>,
    /// Tables that were pushed, as they are in memory: the next change is of one of them, mostly.
    known: Vec<(Arc<ChangedTable>, u32)>,
    /// Place of a count in the open transaction, by site and table.
    counted: HashMap<(u32, u32), usize>,
    len: usize,
}

/// A change whose site nobody could tell.
#[derive(Debug, Clone)]
pub struct Unrouted<'c> {
    pub table: &'c Arc<ChangedTable>,
    pub kind: ChangeKind,
    pub key: RowKeyHash,
    pub change: Option<RowChange>,
}

impl SegmentDraft {
    pub fn new() -> Self {
        Self::default()
    }

    /// About how many plain bytes it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Between which bounds its whole transactions lie; `None`: it has none.
    pub fn bounds(&self) -> Option<SpanBounds> {
        self.bounds
    }

    /// A transaction begins, of which something may come: what is told of its structure comes before its head.
    pub fn begin(&mut self, id: TransactionId) {
        self.begun = self.begun.max(Some(id));
    }

    /// The highest number of a transaction of which it has anything.
    pub(super) fn highest(&self) -> TransactionId {
        self.bounds.map(|bounds| bounds.highest).max(self.begun).unwrap_or(TransactionId(0))
    }

    /// Whether it holds nothing: no change, and no transaction either.
    pub fn is_empty(&self) -> bool {
        self.bounds.is_none() && self.shared.is_empty()
    }

    /// A transaction that changed nothing is noted too: its time and number are part of the history.
    pub fn note_transaction(&mut self, head: &TransactionHead) -> Result<(), Error> {
        self.open(head).map(|_| ())
    }

    /// A row of one site was changed. One that no block can hold ([`Error::is_too_large`]) is left out, and only that.
    pub fn push(
        &mut self,
        site: &SiteId,
        (head, sequence): (&TransactionHead, u64),
        table: &Arc<ChangedTable>,
        change: &RowChange,
    ) -> Result<(), Error> {
        self.open(head)?;
        let (site, table_number) = (self.site_number(site), self.number_of(table));
        if let Some(block) = self.blocks.get_mut(site as usize) {
            let before = block.len();
            block.push(head, sequence, table, change)?;
            self.len += block.len() - before;
        }
        self.count(site, table_number, change.kind());
        Ok(())
    }

    /// What becomes segments: sites that have changes, in their order, and their blocks.
    pub(super) fn take_blocks(&mut self) -> Vec<(SiteId, BlockWriter)> {
        let sites = self.shared.sites.iter().cloned();
        let mut blocks: Vec<_> = sites.zip(std::mem::take(&mut self.blocks)).collect();
        blocks.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        blocks
    }

    /// A row was changed, and nobody can tell whose it is.
    pub fn push_unrouted(
        &mut self,
        (head, sequence): (&TransactionHead, u64),
        unrouted: Unrouted<'_>,
    ) -> Result<(), Error> {
        let Unrouted { table, kind, key, change } = unrouted;
        self.open(head)?.unrouted += 1;
        let change = change.filter(|change| change_bytes(change) <= UNROUTED_BYTES_MAX);
        let known = self.unrouted.tables.iter().position(|known| known == table.as_ref());
        let place = known.unwrap_or_else(|| {
            self.unrouted.tables.push(ChangedTable::clone(table));
            self.unrouted.tables.len() - 1
        });
        self.len += FACT_BYTES + change.as_ref().map_or(0, change_bytes);
        let place_in_log = ChangePlace { commit: head.commit, sequence };
        self.unrouted.changes.push(UnroutedChange { place: place_in_log, table: place as u32, kind, key, change });
        Ok(())
    }

    /// Tables were emptied as a whole.
    pub fn truncate(
        &mut self,
        (head, sequence): (&TransactionHead, u64),
        tables: &[&str],
        cascades: bool,
        restarts_sequences: bool,
    ) -> Result<(), Error> {
        self.open(head)?;
        let tables = tables.iter().map(|table| self.table_number(table)).collect();
        let place = ChangePlace { commit: head.commit, sequence };
        self.len += FACT_BYTES;
        self.shared.truncations.push(Truncation { place, tables, cascades, restarts_sequences });
        Ok(())
    }

    /// A table has another structure from here on.
    pub fn restructure(
        &mut self,
        (head, sequence): (&TransactionHead, u64),
        before: Option<&ChangedTable>,
        after: &ChangedTable,
    ) -> Result<(), Error> {
        self.open(head)?;
        self.len += FACT_BYTES * (1 + after.columns.len());
        let place = ChangePlace { commit: head.commit, sequence };
        self.shared.structure.push(StructureChange { place, before: before.cloned(), after: after.clone() });
        Ok(())
    }

    /// An application wrote something into the log.
    pub fn note(&mut self, place: ChangePlace, prefix: String, content: Vec<u8>) {
        self.len += FACT_BYTES + prefix.len() + content.len();
        self.shared.notes.push(LogNote { place, prefix, content });
    }

    /// The facts of a transaction, which are the last ones until another begins.
    fn open(&mut self, head: &TransactionHead) -> Result<&mut TransactionFacts, Error> {
        let last = self.shared.transactions.last().map(|facts| facts.head);
        if last.is_none_or(|last| last.commit < head.commit) {
            self.bounds = Some(self.bounds.map_or_else(|| SpanBounds::of(head), |bounds| bounds.with(head)));
            self.counted.clear();
            self.len += FACT_BYTES;
            self.shared.transactions.push(TransactionFacts { head: *head, counts: Vec::new(), unrouted: 0 });
        } else if last != Some(*head) {
            let detail = format!("transactions come in the order of their commits: commit=`{}`", head.commit);
            return Err(Error::Bug(detail));
        }
        self.shared.transactions.last_mut().ok_or_else(|| Error::Bug("a transaction that was there is gone".into()))
    }

    /// Counts a change of a site's table in the transaction that is open.
    fn count(&mut self, site: u32, table: u32, kind: ChangeKind) {
        if let Some(facts) = self.shared.transactions.last_mut() {
            let at = *self.counted.entry((site, table)).or_insert_with(|| {
                facts.counts.push(SiteCount { site, table, counts: ChangeCounts::default() });
                facts.counts.len() - 1
            });
            facts.counts[at].counts.count(kind);
        }
    }

    fn site_number(&mut self, site: &SiteId) -> u32 {
        if self.shared.sites.get(self.site as usize) == Some(site) {
            return self.site;
        }
        if let Some(number) = self.sites.get(site) {
            self.site = *number;
            return *number;
        }
        let number = self.shared.sites.len() as u32; // 2^32 sites are more than memory holds
        self.len += site.as_str().len();
        self.shared.sites.push(site.clone());
        self.sites.insert(site.clone(), number);
        self.blocks.push(BlockWriter::new());
        self.site = number;
        number
    }

    fn number_of(&mut self, table: &Arc<ChangedTable>) -> u32 {
        if let Some((_, number)) = self.known.iter().find(|(known, _)| Arc::ptr_eq(known, table)) {
            return *number;
        }
        let number = self.table_number(&table.name);
        if self.known.len() < KNOWN_MAX {
            self.known.push((Arc::clone(table), number));
        }
        number
    }

    fn table_number(&mut self, table: &str) -> u32 {
        if let Some(number) = self.tables.get(table) {
            return *number;
        }
        let number = self.shared.tables.len() as u32; // 2^32 tables are more than PostgreSQL can have
        self.shared.tables.push(table.to_owned());
        self.tables.insert(table.to_owned(), number);
        number
    }
}

fn change_bytes(change: &RowChange) -> usize {
    let bytes = |values: &Vec<ChangedValue>| -> usize {
        let len = |value: &ChangedValue| match value {
            ChangedValue::Text(text) => text.len() + 8,
            _ => 1,
        };
        values.iter().map(len).sum()
    };
    match change {
        RowChange::Insert { row } => bytes(row),
        RowChange::Update { row, key_before } => bytes(row) + key_before.as_ref().map_or(0, bytes),
        RowChange::Delete { key } => bytes(key),
        RowChange::Pages(change) => change.pages.iter().map(|page| page.bytes.len()).sum(),
    }
}
