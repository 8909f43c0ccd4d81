//! Joining what segments say of no site alone: as if one segment had held it all. Pure.

use std::collections::HashMap;

use lifeboat_model::{
    ChangeCounts, ChangedTable, SharedFacts, SiteCount, SiteId, TransactionFacts, Truncation, UnroutedChanges,
};

/// Shared facts of segments one after another.
#[derive(Default)]
pub(super) struct SharedJoin {
    facts: SharedFacts,
    sites: HashMap<SiteId, u32>,
    tables: HashMap<String, u32>,
}

impl SharedJoin {
    /// Takes the next segment's.
    pub fn push(&mut self, more: SharedFacts) {
        let SharedFacts { sites, tables, transactions, truncations, structure, notes } = more;
        let sites: Vec<u32> = sites.into_iter().map(|site| self.site(site)).collect();
        let tables: Vec<u32> = tables.into_iter().map(|table| self.table(table)).collect();
        // Whoever read the facts has checked that every number has its name.
        let renumber = |numbers: &[u32], number: u32| numbers.get(number as usize).copied().unwrap_or(u32::MAX);
        for mut facts in transactions {
            for count in &mut facts.counts {
                (count.site, count.table) = (renumber(&sites, count.site), renumber(&tables, count.table));
            }
            match self.facts.transactions.last_mut() {
                // It went on from the segment before.
                Some(last) if last.head == facts.head => join_counts(last, facts),
                _ => self.facts.transactions.push(facts),
            }
        }
        for Truncation { place, tables: of, cascades, restarts_sequences } in truncations {
            let of = of.into_iter().map(|table| renumber(&tables, table)).collect();
            self.facts.truncations.push(Truncation { place, tables: of, cascades, restarts_sequences });
        }
        self.facts.structure.extend(structure);
        self.facts.notes.extend(notes);
    }

    pub fn finish(self) -> SharedFacts {
        self.facts
    }

    fn site(&mut self, site: SiteId) -> u32 {
        *self.sites.entry(site).or_insert_with_key(|site| {
            self.facts.sites.push(site.clone());
            self.facts.sites.len() as u32 - 1 // 2^32 sites are more than memory holds
        })
    }

    fn table(&mut self, table: String) -> u32 {
        *self.tables.entry(table).or_insert_with_key(|table| {
            self.facts.tables.push(table.clone());
            self.facts.tables.len() as u32 - 1 // 2^32 tables are more than PostgreSQL can have
        })
    }
}

fn join_counts(known: &mut TransactionFacts, more: TransactionFacts) {
    known.unrouted = known.unrouted.saturating_add(more.unrouted);
    let mut at: HashMap<(u32, u32), usize> =
        known.counts.iter().enumerate().map(|(at, count)| ((count.site, count.table), at)).collect();
    for SiteCount { site, table, counts } in more.counts {
        let at = *at.entry((site, table)).or_insert_with(|| {
            known.counts.push(SiteCount { site, table, counts: ChangeCounts::default() });
            known.counts.len() - 1
        });
        let sum = &mut known.counts[at].counts;
        sum.inserts = sum.inserts.saturating_add(counts.inserts);
        sum.updates = sum.updates.saturating_add(counts.updates);
        sum.deletes = sum.deletes.saturating_add(counts.deletes);
    }
}

/// Unrouted changes of segments one after another.
pub(super) fn join_unrouted(all: Vec<UnroutedChanges>) -> UnroutedChanges {
    let mut joined = UnroutedChanges::default();
    let mut known: HashMap<ChangedTable, u32> = HashMap::new();
    for UnroutedChanges { tables, changes } in all {
        let numbers: Vec<u32> = tables
            .into_iter()
            .map(|table| {
                *known.entry(table).or_insert_with_key(|table| {
                    joined.tables.push(table.clone());
                    joined.tables.len() as u32 - 1 // 2^32 tables are more than PostgreSQL can have
                })
            })
            .collect();
        joined.changes.extend(changes.into_iter().map(|mut change| {
            change.table = numbers.get(change.table as usize).copied().unwrap_or(u32::MAX);
            change
        }));
    }
    // One that waited for its site may stand in a later segment than those after it.
    joined.changes.sort_by_key(|change| change.place);
    joined
}
