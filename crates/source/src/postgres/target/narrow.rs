//! Less than the whole part: some rows of one table, and what they refer to.
//!
//! ```text
//! staged whole, proven by digest ─▶ the chosen rows ─▶ + rows they refer to that are missing now, and so on
//! ```
//!
//! The chosen rows become what they were: inserted, updated, deleted. Rows that they refer to are
//! only added; what is there of them stays. Rows that refer to them stay, and are in the way when
//! they would be left behind.
//!
//! Every table's condition is narrowed with its staged rows, so that the comparison, the writes and
//! the proofs are about these rows alone.

use std::collections::BTreeSet;

use lifeboat_model::RowsDigest;

use super::super::tenancy::SiteTable;
use super::super::{Catalogue, Column, Session, TableName};
use super::fail::{Ask, Outcome};
use super::keys::KeyRange;
use super::scope::Scope;
use super::{Conflict, ConflictKind, RowsTarget, compare, sql, staging};
use crate::Error;

/// One table, or some of its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Narrow {
    pub table: TableName,
    /// `None`: all of the site's rows in it.
    pub keys: Option<KeyRange>,
}

impl Narrow {
    /// Table and key, for a message.
    fn key(&self, key: &[Column]) -> String {
        let columns: Vec<&str> = key.iter().map(|column| column.name.as_str()).collect();
        format!("table=`{}`, key=`{}`", self.table, columns.join(", "))
    }

    fn nowhere(&self, key: &[Column]) -> Error {
        Error::BadKey {
            detail: format!("the site has no row of these keys, neither at the point nor now: {}", self.key(key)),
            hint: "`lifeboat points` lists other moments; the whole table comes back without the brackets".into(),
        }
    }
}

impl RowsTarget {
    /// Restores only these rows, and those that they refer to.
    pub fn only(mut self, narrow: Narrow) -> Result<Self, Error> {
        let Some(live) = self.live.get(&narrow.table) else {
            return Err(Error::BadKey {
                detail: format!("no table of this name holds rows of the site now: table=`{}`", narrow.table),
                hint: "`lifeboat sources inspect` lists them; a dropped table comes back --beside or by --export"
                    .into(),
            });
        };
        if let Some(keys) = &narrow.keys {
            let key = key_of(live);
            keys.check(narrow.table.as_str(), &key)?;
            let query = format!("SELECT FROM {} t WHERE {} LIMIT 0", live.table.from_item(), keys.condition("t", &key));
            let mut session = self.server.connect()?;
            match session.run("cannot look for the keys", &query) {
                Err(fail) if fail.is_refused_value() => {
                    let names: Vec<String> = key.iter().map(|c| format!("{} {}", c.name, c.type_name)).collect();
                    return Err(Error::BadKey {
                        detail: format!("no such keys can be: table=`{}`, key=`{}`", narrow.table, names.join(", ")),
                        hint: "give values of these types".into(),
                    });
                }
                other => other?,
            }
            if let Some(query) = keys.is_forward(&live.table.from_item(), &key)
                && session.rows("cannot compare the keys", &query)?.is_empty()
            {
                return Err(Error::BadKey {
                    detail: format!("the range ends before it begins: {}", narrow.key(&key)),
                    hint: "write the smaller key first; text is ordered by its bytes".into(),
                });
            }
        }
        self.narrow = Some(narrow);
        Ok(self)
    }

    /// Refuses keys of which the live table has no row. To be asked where the point's rows are the live ones.
    pub fn refuse_nowhere(&self) -> Result<(), Error> {
        let Some((narrow, keys)) = self.narrow.as_ref().and_then(|narrow| Some((narrow, narrow.keys.as_ref()?))) else {
            return Ok(());
        };
        let Some(live) = self.live.get(&narrow.table) else { return Ok(()) };
        let (item, key) = (live.table.from_item(), key_of(live));
        let query =
            format!("SELECT FROM {item} t WHERE ({}) AND ({}) LIMIT 1", live.condition, keys.condition("t", &key));
        let mut session = self.server.connect()?;
        match session.rows("cannot look for the keys", &query)?.is_empty() {
            true => Err(narrow.nowhere(&key)),
            false => Ok(()),
        }
    }

    /// Whether rows that a restore of these may write can refer to large objects.
    pub fn needs_objects(&self) -> bool {
        let needed = self.needed();
        let tables = self.live.values().filter(|live| needed.contains(&live.table.name));
        tables.into_iter().any(|live| live.table.columns.iter().any(|column| column.is_large_object))
    }

    /// The tables that a restore of these rows may have to write: the table, and all that it refers to.
    pub fn needed(&self) -> BTreeSet<TableName> {
        let Some(narrow) = &self.narrow else { return self.live.keys().cloned().collect() };
        let mut needed = BTreeSet::from([narrow.table.clone()]);
        loop {
            let leads = |name: &TableName| self.live.contains_key(name) && !needed.contains(name);
            let keys = self.catalogue.foreign_keys.iter().filter(|key| needed.contains(&key.child));
            let more: Vec<TableName> = keys.map(|key| key.parent.clone()).filter(leads).collect();
            if more.is_empty() {
                return needed;
            }
            needed.extend(more);
        }
    }
}

/// The large objects that the staged rows refer to.
pub(super) fn objects(session: &mut Session, scopes: &[Scope]) -> Outcome<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    for scope in scopes.iter().filter(|scope| scope.is_usable()) {
        for column in scope.columns.iter().filter(|column| column.is_large_object) {
            let query =
                format!("SELECT s.{0}::pg_catalog.oid FROM {1} s WHERE s.{0} IS NOT NULL", column.quoted, scope.stage);
            let rows = session.rows("cannot look for large objects of the chosen rows", &query)?;
            found.extend(rows.iter().map(|row| row.get::<_, u32>(0)));
        }
    }
    Ok(found)
}

fn key_of(live: &SiteTable) -> Vec<Column> {
    let key = live.table.primary_key.iter().flatten();
    key.filter_map(|at| live.table.columns.get(*at)).cloned().collect()
}

/// Narrows staging, and the conditions with it. `schema`: where staging is.
pub(super) fn narrow(
    session: &mut Session,
    catalogue: &Catalogue,
    scopes: &mut [Scope],
    narrow: &Narrow,
    schema: &str,
) -> Outcome<()> {
    let names: Vec<String> = (0..scopes.len()).map(|at| format!("{schema}.n{at}")).collect();
    choose(session, scopes, narrow, &names)?;
    refuse_nowhere(session, scopes, narrow, &names)?;
    let left = close(session, catalogue, scopes, &names)?;
    for (at, scope) in scopes.iter_mut().enumerate().filter(|(_, scope)| scope.is_usable()) {
        let action = format!("cannot choose rows of table `{}`", scope.name);
        let place = scope.stage.rsplit_once('.').map_or(scope.stage.as_str(), |(_, table)| table).to_owned();
        let new = &names[at];
        session.run(
            &action,
            &format!("DROP TABLE {}; ALTER TABLE {new} RENAME TO {place}; ANALYZE {}", scope.stage, scope.stage),
        )?;
        let content = staging::digest(session, &action, &sql::select_wanted(scope, &scope.stage, "true"))?;
        (scope.rows, scope.digest) = (content.rows, RowsDigest::InOrder(content.digests.in_order));
        narrow_condition(scope, narrow);
    }
    for conflict in left {
        let scope = scopes.iter_mut().find(|scope| scope.name == conflict.table);
        scope.into_iter().for_each(|scope| scope.found.push(conflict.clone()));
    }
    Ok(())
}

/// Makes the new staging tables: the chosen rows in the table's own, none in the others.
fn choose(session: &mut Session, scopes: &[Scope], narrow: &Narrow, names: &[String]) -> Outcome<()> {
    for (scope, new) in scopes.iter().zip(names).filter(|(scope, _)| scope.is_usable()) {
        let chosen = match (scope.name == narrow.table, &narrow.keys) {
            (false, _) => "false".to_owned(),
            (true, None) => "true".to_owned(),
            (true, Some(keys)) => keys.condition("s", &scope.key),
        };
        let kind = if new.starts_with("pg_temp.") { "TEMPORARY" } else { "UNLOGGED" };
        let action = format!("cannot choose rows of table `{}`", scope.name);
        let columns = sql::list("s", &scope.columns);
        session.run(
            &action,
            &format!("CREATE {kind} TABLE {new} AS SELECT {columns} FROM {} s WHERE {chosen}", scope.stage),
        )?;
    }
    Ok(())
}

/// Keys of which neither staging nor the live table has a row are a slip of the hand.
fn refuse_nowhere(session: &mut Session, scopes: &[Scope], narrow: &Narrow, names: &[String]) -> Outcome<()> {
    let of_table = scopes.iter().zip(names).find(|(scope, _)| scope.name == narrow.table && scope.is_usable());
    let (Some((scope, new)), Some(keys)) = (of_table, &narrow.keys) else { return Ok(()) };
    let query = format!(
        "SELECT FROM {new} UNION ALL SELECT FROM {} t WHERE ({}) AND ({}) LIMIT 1",
        scope.live_item(),
        scope.condition(),
        keys.condition("t", &scope.key)
    );
    match session.rows("cannot look for the keys", &query)?.is_empty() {
        true => Err(narrow.nowhere(&scope.key).into()),
        false => Ok(()),
    }
}

/// Adds the rows that chosen ones refer to and that are missing now, until there are no more. Gives
/// the references that stay open although the snapshot had a row for them.
fn close(session: &mut Session, catalogue: &Catalogue, scopes: &[Scope], names: &[String]) -> Outcome<Vec<Conflict>> {
    let links = compare::links(catalogue, scopes);
    let name_of = |scope: &Scope| scopes.iter().position(|other| other.name == scope.name).and_then(|at| names.get(at));
    loop {
        let mut added = 0;
        for link in &links {
            let (Some(child), Some(parent)) = (link.child, link.parent) else { continue };
            let (Some(chosen), Some(new)) = (name_of(child), name_of(parent)) else { continue };
            let action = format!("cannot follow foreign key `{}` of `{}`", link.key.name, link.key.child);
            if let Some(statement) = link.missing_parents(chosen, parent, new) {
                added += session.touch(&action, &statement)?;
            }
        }
        if added == 0 {
            break;
        }
    }
    let mut left = Vec::new();
    for link in &links {
        let (Some(child), Some(parent)) = (link.child, link.parent) else { continue };
        let (Some(chosen), Some(new)) = (name_of(child), name_of(parent)) else { continue };
        let action = format!("cannot follow foreign key `{}` of `{}`", link.key.name, link.key.child);
        let rows = session.number(&action, &link.open_references(chosen, parent, new))?;
        if rows > 0 {
            let detail = format!(
                "rows that the chosen ones refer to are there now under another value: in=`{}`, foreign key=`{}`",
                link.key.parent, link.key.name
            );
            left.push(Conflict::new(&child.name, ConflictKind::SharedMissing, rows, detail));
        }
    }
    Ok(left)
}

/// Rows of the site that are in the range, or staged.
fn narrow_condition(scope: &mut Scope, narrow: &Narrow) {
    let is_chosen = scope.name == narrow.table;
    let in_range = match (&narrow.keys, is_chosen) {
        (None, true) => return,
        (Some(keys), true) => keys.condition("t", &scope.key),
        (_, false) => "false".to_owned(),
    };
    let staged = match scope.key.is_empty() {
        true => "false".to_owned(),
        false => format!(
            "EXISTS (SELECT FROM {} lifeboat_s WHERE {})",
            scope.stage,
            sql::matched("t", "lifeboat_s", &scope.key)
        ),
    };
    if let Some(live) = &mut scope.live {
        live.condition = format!("(({}) AND ({in_range} OR {staged}))", live.condition);
    }
}
