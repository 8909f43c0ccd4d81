//! Only what is missing comes back: what is live stays as it is.
//!
//! ```text
//! staged whole, proven by digest ─▶ compared with all live rows ─▶ the missing ones alone stay staged
//! ```
//!
//! A row is missing when no live row of the site has its primary key. One that is live and differs is
//! kept, counted and named by its key. Without a primary key rows are told apart by all of their
//! content: of three equal rows of which one is live, two are missing.
//!
//! Every table's condition is narrowed to its staged rows, so that the comparison, the writes and the
//! proofs are about these rows alone, and a live row of the same site that holds a value they need is
//! in the way like anybody else's. Without a key there is nothing to narrow by: the live rows are
//! staged with the missing ones.
//!
//! Invariant (nothing-live-is-touched): a restore that keeps later rows inserts, and does nothing else.

use std::collections::BTreeSet;

use lifeboat_model::RowsDigest;

use super::super::{Session, describe};
use super::fail::{Ask, Outcome};
use super::keys::KeyRange;
use super::scope::{Scope, Stays};
use super::{ConflictKind, KeptRows, RowsTarget, TableDiff, compare, sql, staging, unusual};

/// So many keys of a table are named.
const KEYS_MAX: usize = 1000;
/// How the questions begin of which the rows are wanted in place of their number.
const COUNT: &str = "SELECT count(*) ";

/// What one table will hold when a restore that keeps later rows is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftTable {
    pub table: String,
    /// `None`: it cannot be told, for the table has other columns, or another key, than at the point.
    pub digest: Option<RowsDigest>,
}

impl RowsTarget {
    /// Restores only rows that are missing now: nothing live is changed or removed.
    pub fn keep_later(self) -> Self {
        Self { keeps_later: true, ..self }
    }
}

impl Stays {
    /// The counts of the whole table: those of its staged rows say nothing of the others. What was written since
    /// they were chosen the switch notices.
    pub fn laid_over(&self, diff: &TableDiff) -> TableDiff {
        let (unchanged, kept, newer) = (self.equal, self.differing, self.newer);
        TableDiff { insert: diff.insert, unchanged, kept, newer, ..TableDiff::none(&diff.table) }
    }
}

/// Leaves only the missing rows staged. `schema`: where staging is.
pub(super) fn choose(session: &mut Session, target: &RowsTarget, scopes: &mut [Scope], schema: &str) -> Outcome<()> {
    for (at, scope) in scopes.iter_mut().enumerate().filter(|(_, scope)| scope.is_usable()) {
        let diff = compare::count(session, scope)?;
        let differing = diff.update + diff.replace;
        let keys = if differing > 0 { keys_of(session, scope, &sql::differing(scope))? } else { Vec::new() };
        let (missing, equal, newer) = (diff.insert, diff.unchanged, diff.delete);
        scope.stays = Some(Stays { missing, equal, differing, newer, keys, left: None });
        let [chosen, whole] = ["m", "l"].map(|kind| format!("{schema}.{kind}{at}"));
        let action = format!("cannot choose rows of table `{}`", scope.name);
        make(session, &action, &chosen, &sql::missing(scope))?;
        if scope.key.is_empty() {
            find_held_by_own(session, scope, &chosen)?;
            make(session, &action, &whole, &sql::with_live(scope, scope.condition(), &chosen))?;
        }
        if missing > 0 {
            unusual::find(session, scope, &chosen)?;
            note_left(session, target, scope, &chosen)?;
        }
        let new = if scope.key.is_empty() { &whole } else { &chosen };
        let place = scope.stage.rsplit_once('.').map_or(scope.stage.as_str(), |(_, table)| table).to_owned();
        session
            .run(&action, &format!("DROP TABLE {0}; ALTER TABLE {new} RENAME TO {place}; ANALYZE {0}", scope.stage))?;
        let content = staging::digest(session, &action, &sql::select_wanted(scope, &scope.stage, "true"))?;
        (scope.rows, scope.digest) = (content.rows, RowsDigest::InOrder(content.digests.in_order));
        narrow_condition(scope);
    }
    Ok(())
}

fn make(session: &mut Session, action: &str, table: &str, query: &str) -> Outcome<()> {
    let kind = if table.starts_with("pg_temp.") { "TEMPORARY" } else { "UNLOGGED" };
    session.run(action, &format!("CREATE {kind} TABLE {table} AS {query}"))
}

/// Unique values of missing rows that the site's own live rows hold, in a table without a primary key: a
/// row that was changed since, if the values are what it is known by.
fn find_held_by_own(session: &mut Session, scope: &mut Scope, chosen: &str) -> Outcome<()> {
    let Some(live) = scope.live.clone() else { return Ok(()) };
    let mut own = scope.clone();
    own.stage = chosen.to_owned();
    if let Some(of_others) = &mut own.live {
        of_others.condition = format!("(({}) IS NOT TRUE)", live.condition);
    }
    for unique in &live.table.unique_keys {
        if let Some(query) = sql::unique_taken(&own, &live.table, unique) {
            let detail = format!("unique values that other rows hold now: constraint=`{}`", unique.name);
            scope.found.extend(compare::found(session, &own, &query, (ConflictKind::UniqueTaken, detail))?);
        }
    }
    let missing = scope.stays.as_ref().map_or(0, |stays| stays.missing);
    if missing > 0 {
        scope.notes.push(format!(
            "without a primary key a row is known by all of its content: one that was changed since comes back as it \
             was, beside the changed one: table=`{}`, rows to insert=`{missing}`",
            scope.name
        ));
    }
    Ok(())
}

/// What the whole table will hold, as the next look at it reads it.
fn note_left(session: &mut Session, target: &RowsTarget, scope: &mut Scope, chosen: &str) -> Outcome<()> {
    let Some(live) = target.live.get(&scope.name) else { return Ok(()) };
    let stored = live.table.stored_columns().map(|column| &column.name);
    if !stored.eq(scope.columns.iter().map(|column| &column.name)) {
        return Ok(());
    }
    let action = format!("cannot add up rows of table `{}`", scope.name);
    let condition = format!("({})", live.condition);
    let (both, order) = (sql::with_live(scope, &condition, chosen), describe::order_by(&live.table));
    let query = format!("SELECT {} FROM ({both}) t ORDER BY {order}", sql::list("t", &scope.columns));
    let content = staging::digest(session, &action, &query)?;
    if let Some(stays) = &mut scope.stays {
        stays.left = Some(RowsDigest::InOrder(content.digests.in_order));
    }
    Ok(())
}

/// The rows of the site that are staged: none yet, and those that came back later.
fn narrow_condition(scope: &mut Scope) {
    if scope.key.is_empty() {
        return;
    }
    let is_staged = sql::matched("t", "lifeboat_s", &scope.key);
    let staged = format!("EXISTS (SELECT FROM {} lifeboat_s WHERE {is_staged})", scope.stage);
    if let Some(live) = &mut scope.live {
        live.condition = format!("(({}) AND {staged})", live.condition);
    }
}

/// The primary keys of the staged rows `s` that a query counts, the first of them.
pub(super) fn keys_of(session: &mut Session, scope: &Scope, count: &str) -> Outcome<Vec<String>> {
    let (Some(from), false) = (count.strip_prefix(COUNT), scope.key.is_empty()) else { return Ok(Vec::new()) };
    let columns: Vec<String> = scope.key.iter().map(|column| format!("s.{}::pg_catalog.text", column.quoted)).collect();
    let query =
        format!("SELECT {} {from} ORDER BY {} LIMIT {KEYS_MAX}", columns.join(", "), sql::list("s", &scope.key));
    let rows = session.rows(&format!("cannot read keys of table `{}`", scope.name), &query)?;
    let one = |row: &postgres::Row| {
        let values = (0..scope.key.len()).map(|at| row.get::<_, Option<String>>(at).unwrap_or_default());
        KeyRange::show(&values.collect::<Vec<_>>())
    };
    Ok(rows.iter().map(one).collect())
}

/// The large objects that rows of the site refer to, live or about to come back.
pub(super) fn objects(session: &mut Session, target: &RowsTarget, scopes: &[Scope]) -> Outcome<BTreeSet<u32>> {
    let mut found = super::narrow::objects(session, scopes)?;
    for live in target.live.values() {
        for column in live.table.columns.iter().filter(|column| column.is_large_object) {
            let query = format!(
                "SELECT DISTINCT t.{0}::pg_catalog.oid FROM {1} t WHERE t.{0} IS NOT NULL AND ({2})",
                column.quoted,
                live.table.from_item(),
                live.condition
            );
            let rows = session.rows("cannot look for large objects of live rows", &query)?;
            found.extend(rows.iter().map(|row| row.get::<_, u32>(0)));
        }
    }
    Ok(found)
}

/// The rows that stay although they differ, by table.
pub(super) fn kept(scopes: &[Scope]) -> Vec<KeptRows> {
    let of = |scope: &Scope| {
        let stays = scope.stays.as_ref().filter(|stays| stays.differing > 0)?;
        Some(KeptRows { table: scope.name.clone(), rows: stays.differing, keys: stays.keys.clone() })
    };
    scopes.iter().filter_map(of).collect()
}

/// What the tables will hold to which rows come back.
pub(super) fn left(scopes: &[Scope]) -> Vec<LeftTable> {
    let of = |scope: &Scope| {
        let stays = scope.stays.as_ref().filter(|stays| stays.missing > 0)?;
        Some(LeftTable { table: scope.name.to_string(), digest: stays.left })
    };
    scopes.iter().filter_map(of).collect()
}
