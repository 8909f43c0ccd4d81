//! Routing: whose is a change? Told when it comes, from the row itself or from an index of the rows there are.
//!
//! ```text
//! inserted, updated    the row says it: its tenant column, or the row it refers to (index)
//! deleted              only the key came: the index says whose row had it
//! moved                to another site: deleted there, put here
//! a row before its parent, in one transaction      waits for the transaction's end, and all behind it too
//! ```
//!
//! The index holds the site of each row by its primary key, and by the columns that other rows refer to it by. It
//! is filled from the database when an epoch begins, and follows every change from there.
//!
//! Invariant (one-order): changes come out in the order in which they came in.
//! What is not here: where the index is kept (`lifeboat-control`), the log.

mod index;
mod load;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use lifeboat_model::{ChangedTable, ChangedValue, RowChange, SiteId};

use crate::Error;
use index::{key_in_row, key_of};
use rules::{Reference, Rule, Rules};

pub use index::{IndexKey, MemoryIndex, RoutingIndex};
pub use load::IndexQuery;

/// Changes that wait for their transaction's end, at most; further ones are nobody's.
const WAITING_MAX: usize = 10_000;

/// Tells whose changes are.
pub struct Router {
    rules: Rules,
    /// From the first change of a transaction on whose site is not known yet.
    waiting: Vec<Arrived>,
}

/// Rows whose changes wait for another round, by their table and key.
#[derive(Default)]
struct Held(HashSet<(String, Vec<ChangedValue>)>);

impl Held {
    fn has(&self, arrived: &Arrived) -> bool {
        !self.0.is_empty() && rows_of(arrived).any(|row| self.0.contains(&row))
    }

    fn add(&mut self, arrived: &Arrived) {
        self.0.extend(rows_of(arrived));
    }
}

/// A change as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    pub table: Arc<ChangedTable>,
    /// Its place in its transaction.
    pub sequence: u64,
    pub change: RowChange,
    /// What else is known of the row before: places of columns and their values.
    pub identity: Vec<(usize, ChangedValue)>,
}

/// A change and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// `None`: nobody can tell.
    pub site: Option<SiteId>,
    pub table: Arc<ChangedTable>,
    pub sequence: u64,
    pub change: RowChange,
    /// Rows that refer to this one went with it to another site, without a change of their own: what the
    /// log says of these two sites is not whole from here on.
    pub breaks: Option<(SiteId, SiteId)>,
}

impl Router {
    fn new(rules: Rules) -> Self {
        Self { rules, waiting: Vec::new() }
    }

    /// Whether changes of the table are any site's.
    pub fn knows(&self, table: &str) -> bool {
        self.rules.of(table).is_some()
    }

    /// Tells whose a change is; nothing yet, if that shows only at the end of its transaction.
    pub fn route(&mut self, arrived: Arrived, index: &mut dyn RoutingIndex) -> Result<Vec<Routed>, Error> {
        self.rules.learn(&arrived.table.name);
        if self.waiting.is_empty() {
            let routed = self.route_now(&arrived, index)?;
            // Of a deletion there is no more to be learned.
            if is_deletion(&arrived) || routed.iter().all(|routed| routed.site.is_some()) {
                return Ok(routed);
            }
        }
        self.waiting.push(arrived);
        if self.waiting.len() < WAITING_MAX { Ok(Vec::new()) } else { self.end_transaction(index) }
    }

    /// The transaction is over: what waited is told now, or is nobody's.
    pub fn end_transaction(&mut self, index: &mut dyn RoutingIndex) -> Result<Vec<Routed>, Error> {
        let (mut routed, mut open) = (Vec::new(), std::mem::take(&mut self.waiting));
        // A child may have come before its parent, and that before its own: each round tells some more.
        while !open.is_empty() {
            let (before, mut held, mut still) = (open.len(), Held::default(), Vec::new());
            for arrived in open {
                let now = if held.has(&arrived) { None } else { Some(self.route_now(&arrived, index)?) };
                let is_known = |now: &Vec<Routed>| is_deletion(&arrived) || now.iter().all(|one| one.site.is_some());
                match now.filter(is_known) {
                    Some(now) => routed.extend(now),
                    None => {
                        held.add(&arrived);
                        still.push(arrived);
                    }
                }
            }
            open = still;
            if open.len() == before {
                // It learns no more; those behind it may pass.
                routed.extend(self.route_at_last(&open.remove(0), index)?);
            }
        }
        routed.sort_by_key(|routed| routed.sequence); // stable: a move is a deletion, then an insert
        Ok(routed)
    }

    /// Every row of the table is gone.
    pub fn truncate(&mut self, table: &str, index: &mut dyn RoutingIndex) -> Result<(), Error> {
        index.forget_table(table)
    }

    /// What no parent tells of at the end of a transaction: a row whose parent has gone is whose it was.
    fn route_at_last(&self, arrived: &Arrived, index: &mut dyn RoutingIndex) -> Result<Vec<Routed>, Error> {
        let before = match (self.rules.of(&arrived.table.name), &arrived.change) {
            (Some(rule), RowChange::Update { row, key_before }) => {
                let key = key_before.clone().unwrap_or_else(|| key_in_row(&arrived.table, row));
                self.site_before(rule, arrived, &key, index)?
            }
            _ => None,
        };
        let mut routed = self.route_now(arrived, index)?;
        for one in routed.iter_mut().filter(|one| one.site.is_none()) {
            one.site.clone_from(&before);
            if let RowChange::Update { row, .. } = &one.change {
                self.note(&arrived.table, row, before.as_ref(), index)?;
            }
        }
        Ok(routed)
    }

    fn route_now(&self, arrived: &Arrived, index: &mut dyn RoutingIndex) -> Result<Vec<Routed>, Error> {
        let Arrived { table, sequence, change, .. } = arrived;
        let Some(rule) = self.rules.of(&table.name) else { return Ok(Vec::new()) };
        let routed = |site, change| Routed { site, table: table.clone(), sequence: *sequence, change, breaks: None };
        match change {
            RowChange::Insert { row } => {
                let site = self.site_of_row(rule, table, row, index)?;
                self.note(table, row, site.as_ref(), index)?;
                Ok(vec![routed(site, change.clone())])
            }
            RowChange::Delete { key } => {
                let site = self.site_before(rule, arrived, key, index)?;
                self.forget(table, key, index)?;
                Ok(vec![routed(site, change.clone())])
            }
            RowChange::Update { row, key_before } => {
                let key = key_before.clone().unwrap_or_else(|| key_in_row(table, row));
                let before = self.site_before(rule, arrived, &key, index)?;
                let now = match self.site_of_row(rule, table, row, index)? {
                    Some(site) => Some(site),
                    // What says it is stored apart and was not changed.
                    None if row.contains(&ChangedValue::Unchanged) => before.clone(),
                    None => None,
                };
                if key_before.is_some() {
                    self.forget(table, &key, index)?;
                }
                self.note(table, row, now.as_ref(), index)?;
                let Some((before, now)) = before.zip(now.clone()).filter(|(before, now)| before != now) else {
                    return Ok(vec![routed(now, change.clone())]);
                };
                let breaks = self.rules.has_children(&table.name).then(|| (before.clone(), now.clone()));
                let leaves = routed(Some(before), RowChange::Delete { key });
                let comes = routed(Some(now), RowChange::Insert { row: row.clone() });
                Ok(vec![leaves, Routed { breaks, ..comes }])
            }
            RowChange::Pages(_) => Ok(Vec::new()), // of a database file: no server sends any
        }
    }

    fn site_of_row(
        &self,
        rule: &Rule,
        table: &ChangedTable,
        row: &[ChangedValue],
        index: &mut dyn RoutingIndex,
    ) -> Result<Option<SiteId>, Error> {
        let value = |name: &String| {
            let at = table.columns.iter().position(|column| column.name == *name)?;
            row.get(at)
        };
        let referred = |reference: &Reference| -> Option<IndexKey> {
            let values: Option<Vec<&ChangedValue>> = reference.child.iter().map(value).collect();
            key_of(&reference.parent, &reference.parent_columns, &values?)
        };
        let is_filled = |reference: &Reference| {
            reference.child.iter().all(|name| value(name).is_some_and(|value| *value != ChangedValue::Null))
        };
        let reference = match rule {
            Rule::One(site) => return Ok(Some(site.clone())),
            Rule::Tenant(column) => return Ok(value(column).and_then(site_of_text)),
            Rule::Via(references) => references.iter().find(|reference| is_filled(reference)),
            Rule::Kinds(kind, targets) => {
                let kind = value(kind);
                let is_kind = |text: &String| matches!(kind, Some(ChangedValue::Text(kind)) if kind == text.as_bytes());
                targets.iter().find(|(text, _)| is_kind(text)).map(|(_, reference)| reference)
            }
        };
        match reference.and_then(referred) {
            Some(key) => index.site_of(&key),
            None => Ok(None),
        }
    }

    /// Whose the row was that had this key.
    fn site_before(
        &self,
        rule: &Rule,
        arrived: &Arrived,
        key: &[ChangedValue],
        index: &mut dyn RoutingIndex,
    ) -> Result<Option<SiteId>, Error> {
        let table = &arrived.table;
        match rule {
            Rule::One(site) => return Ok(Some(site.clone())),
            Rule::Tenant(column) => {
                let at = table.columns.iter().position(|known| known.name == *column);
                let in_identity = arrived.identity.iter().find(|(place, _)| Some(*place) == at).map(|(_, value)| value);
                let in_key = table.key.iter().position(|place| Some(*place) == at).and_then(|place| key.get(place));
                // Without a primary key the key is the whole row.
                let in_row = if table.key.is_empty() { at.and_then(|at| key.get(at)) } else { None };
                if let Some(site) = in_identity.or(in_key).or(in_row).and_then(site_of_text) {
                    return Ok(Some(site));
                }
            }
            Rule::Via(_) | Rule::Kinds(..) if table.key.is_empty() => {
                return self.site_of_row(rule, table, key, index);
            }
            Rule::Via(_) | Rule::Kinds(..) => {}
        }
        match index::primary(table, key) {
            Some(key) => index.site_of(&key),
            None => Ok(None),
        }
    }

    /// Remembers whose the row is, by everything that it may be asked for by.
    fn note(
        &self,
        table: &ChangedTable,
        row: &[ChangedValue],
        site: Option<&SiteId>,
        index: &mut dyn RoutingIndex,
    ) -> Result<(), Error> {
        let Some(site) = site else { return Ok(()) };
        for columns in self.rules.sets_of(table) {
            let value = |name: &String| row.get(table.columns.iter().position(|column| column.name == *name)?);
            let values: Option<Vec<&ChangedValue>> = columns.iter().map(value).collect();
            if let Some(key) = values.and_then(|values| key_of(&table.name, &columns, &values)) {
                index.put(&table.name, &key, site)?;
            }
        }
        Ok(())
    }

    fn forget(&self, table: &ChangedTable, key: &[ChangedValue], index: &mut dyn RoutingIndex) -> Result<(), Error> {
        index::primary(table, key).map_or(Ok(()), |key| index.remove(&key))
    }
}

fn is_deletion(arrived: &Arrived) -> bool {
    matches!(arrived.change, RowChange::Delete { .. })
}

/// The row that a change is of; two, if its key changes.
fn rows_of(Arrived { table, change, .. }: &Arrived) -> impl Iterator<Item = (String, Vec<ChangedValue>)> {
    let (before, now) = match change {
        RowChange::Insert { row } => (None, Some(key_in_row(table, row))),
        RowChange::Update { row, key_before } => (key_before.clone(), Some(key_in_row(table, row))),
        RowChange::Delete { key } => (Some(key.clone()), None),
        RowChange::Pages(_) => (None, None),
    };
    let table = table.name.clone();
    before.into_iter().chain(now).map(move |key| (table.clone(), key))
}

fn site_of_text(value: &ChangedValue) -> Option<SiteId> {
    let ChangedValue::Text(text) = value else { return None };
    SiteId::new(std::str::from_utf8(text).ok()?).ok()
}
