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
mod shape;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use lifeboat_model::{ChangedTable, ChangedValue, RowChange, SiteId};

use crate::Error;
use rules::Rules;
use shape::Shape;

pub use index::{IndexKey, MemoryIndex, RoutingIndex};
pub use load::IndexQuery;

/// Changes that wait for their transaction's end, at most; further ones are nobody's.
const WAITING_MAX: usize = 10_000;

/// Tells whose changes are.
pub struct Router {
    rules: Rules,
    /// Of the tables that changes were of, by name.
    shapes: HashMap<String, Arc<Shape>>,
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
        Self { rules, shapes: HashMap::new(), waiting: Vec::new() }
    }

    /// Whether changes of the table are any site's.
    pub fn knows(&self, table: &str) -> bool {
        self.rules.of(table).is_some()
    }

    /// Tells whose a change is; nothing yet, if that shows only at the end of its transaction.
    pub fn route(&mut self, arrived: Arrived, index: &mut dyn RoutingIndex) -> Result<Vec<Routed>, Error> {
        if self.waiting.is_empty() {
            let Some(shape) = self.shape_of(&arrived.table) else { return Ok(Vec::new()) };
            let told = tell(&shape, &arrived, index)?;
            // Of a deletion there is no more to be learned.
            if is_deletion(&arrived) || told.is_known() {
                return Ok(told.routed(&shape, arrived));
            }
        }
        self.waiting.push(arrived);
        if self.waiting.len() < WAITING_MAX { Ok(Vec::new()) } else { self.end_transaction(index) }
    }

    /// `None`: its rows are no site's.
    fn shape_of(&mut self, table: &Arc<ChangedTable>) -> Option<Arc<Shape>> {
        match self.shapes.get(&table.name) {
            Some(shape) if Arc::ptr_eq(&shape.table, table) => Some(Arc::clone(shape)),
            _ => {
                self.rules.learn(&table.name);
                let shape = Arc::new(Shape::new(&self.rules, table)?);
                self.shapes.insert(table.name.clone(), Arc::clone(&shape));
                Some(shape)
            }
        }
    }

    /// The transaction is over: what waited is told now, or is nobody's.
    pub fn end_transaction(&mut self, index: &mut dyn RoutingIndex) -> Result<Vec<Routed>, Error> {
        let (mut routed, mut open) = (Vec::new(), std::mem::take(&mut self.waiting));
        // A child may have come before its parent, and that before its own: each round tells some more.
        while !open.is_empty() {
            let (before, mut held, mut still) = (open.len(), Held::default(), Vec::new());
            for arrived in open {
                let Some(shape) = self.shape_of(&arrived.table) else { continue };
                let now = if held.has(&arrived) { None } else { Some(tell(&shape, &arrived, index)?) };
                match now.filter(|told| is_deletion(&arrived) || told.is_known()) {
                    Some(told) => routed.extend(told.routed(&shape, arrived)),
                    None => {
                        held.add(&arrived);
                        still.push(arrived);
                    }
                }
            }
            open = still;
            if open.len() == before {
                // It learns no more; those behind it may pass.
                routed.extend(self.route_at_last(open.remove(0), index)?);
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
    fn route_at_last(&mut self, arrived: Arrived, index: &mut dyn RoutingIndex) -> Result<Vec<Routed>, Error> {
        let Some(shape) = self.shape_of(&arrived.table) else { return Ok(Vec::new()) };
        let before = match &arrived.change {
            RowChange::Update { row, key_before } => {
                let key = key_before.as_ref().map_or_else(|| shape.key_in(row), |key| key.iter().collect());
                shape.site_before(&arrived, &key, index)?
            }
            _ => None,
        };
        let mut told = tell(&shape, &arrived, index)?;
        if let (Told::One(site @ None), RowChange::Update { row, .. }) = (&mut told, &arrived.change) {
            site.clone_from(&before);
            shape.note(row, before.as_ref(), index)?;
        }
        Ok(told.routed(&shape, arrived))
    }
}

/// Whose a change is.
enum Told {
    /// `None`: nobody can tell.
    One(Option<SiteId>),
    /// The row went to another site.
    Moved { left: SiteId, joined: SiteId },
    /// No server sends it.
    Nothing,
}

impl Told {
    fn is_known(&self) -> bool {
        !matches!(self, Told::One(None))
    }

    fn routed(self, shape: &Shape, arrived: Arrived) -> Vec<Routed> {
        let Arrived { table, sequence, change, .. } = arrived;
        match (self, change) {
            (Told::One(site), change) => vec![Routed { site, table, sequence, change, breaks: None }],
            (Told::Moved { left, joined }, RowChange::Update { row, key_before }) => {
                let key = key_before.unwrap_or_else(|| shape.key_in(&row).into_iter().cloned().collect());
                let breaks = shape.has_children.then(|| (left.clone(), joined.clone()));
                let (leaves, comes) = (RowChange::Delete { key }, RowChange::Insert { row });
                vec![
                    Routed { site: Some(left), table: table.clone(), sequence, change: leaves, breaks: None },
                    Routed { site: Some(joined), table, sequence, change: comes, breaks },
                ]
            }
            (Told::Moved { .. } | Told::Nothing, _) => Vec::new(),
        }
    }
}

/// Tells what can be told now, and keeps the index true.
fn tell(shape: &Shape, arrived: &Arrived, index: &mut dyn RoutingIndex) -> Result<Told, Error> {
    match &arrived.change {
        RowChange::Insert { row } => {
            let site = shape.site_of_row(|at| row.get(at), index)?;
            shape.note(row, site.as_ref(), index)?;
            Ok(Told::One(site))
        }
        RowChange::Delete { key } => {
            let key: Vec<&ChangedValue> = key.iter().collect();
            let site = shape.site_before(arrived, &key, index)?;
            shape.forget(&key, index)?;
            Ok(Told::One(site))
        }
        RowChange::Update { row, key_before } => {
            let key = key_before.as_ref().map_or_else(|| shape.key_in(row), |key| key.iter().collect());
            let before = shape.site_before(arrived, &key, index)?;
            let now = match shape.site_of_row(|at| row.get(at), index)? {
                Some(site) => Some(site),
                // What says it is stored apart and was not changed.
                None if row.contains(&ChangedValue::Unchanged) => before.clone(),
                None => None,
            };
            if key_before.is_some() {
                shape.forget(&key, index)?;
            }
            shape.note(row, now.as_ref(), index)?;
            Ok(match (before, now) {
                (Some(left), Some(joined)) if left != joined => Told::Moved { left, joined },
                (_, now) => Told::One(now),
            })
        }
        RowChange::Pages(_) => Ok(Told::Nothing), // of a database file
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

/// The key's values as a row has them; of a table without a key the whole row.
fn key_in_row(table: &ChangedTable, row: &[ChangedValue]) -> Vec<ChangedValue> {
    match table.key.is_empty() {
        true => row.to_vec(),
        false => table.key.iter().filter_map(|at| row.get(*at)).cloned().collect(),
    }
}

fn site_of_text(value: &ChangedValue) -> Option<SiteId> {
    let ChangedValue::Text(text) = value else { return None };
    SiteId::new(std::str::from_utf8(text).ok()?).ok()
}
