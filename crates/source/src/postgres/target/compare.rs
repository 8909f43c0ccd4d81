//! The diff: what the switch would do to each table, and what is in its way. Reads only.

use super::super::{Catalogue, Session, TableName};
use super::fail::{Ask, Outcome};
use super::scope::Scope;
use super::sql::{self, Link};
use super::{Conflict, ConflictKind, TableDiff, later};

/// What comparing has shown.
pub(super) struct Compared {
    pub diffs: Vec<TableDiff>,
    pub conflicts: Vec<Conflict>,
    pub notes: Vec<String>,
    /// For each foreign key (by its place in [`links`]) how many staged rows refer to nothing as the
    /// snapshot itself had it, or as the site has it now.
    pub orphans_allowed: Vec<u64>,
}

/// The foreign keys that touch the restored tables.
pub(super) fn links<'a>(catalogue: &'a Catalogue, scopes: &'a [Scope]) -> Vec<Link<'a>> {
    let scope_of = |name: &TableName| scopes.iter().find(|scope| scope.is_usable() && scope.name == *name);
    let mut links = Vec::new();
    for key in &catalogue.foreign_keys {
        let (child, parent) = (scope_of(&key.child), scope_of(&key.parent));
        let tables = (catalogue.tables.get(&key.child), catalogue.tables.get(&key.parent));
        let (Some(child_table), Some(parent_table)) = tables else { continue };
        if child.is_none() && parent.is_none() {
            continue;
        }
        let equals = key.parent_columns.iter().map(|name| {
            let column = parent_table.columns.iter().find(|column| column.quoted == *name);
            column.map_or_else(|| "=".to_owned(), |column| column.equals.clone())
        });
        links.push(Link {
            key,
            equals: equals.collect(),
            // An inherited table's rows do not count for a foreign key: with ONLY, or the partitions.
            parent_item: parent_table.from_item(),
            child_item: child_table.from_item(),
            child,
            parent,
        });
    }
    links
}

/// Compares staging with the live rows, within one read-only transaction of `session`.
pub(super) fn compare(session: &mut Session, catalogue: &Catalogue, scopes: &[Scope]) -> Outcome<Compared> {
    let mut compared =
        Compared { diffs: Vec::new(), conflicts: Vec::new(), notes: Vec::new(), orphans_allowed: Vec::new() };
    session.run(
        "cannot begin to compare",
        &format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {}", sql::PLANNING),
    )?;
    for scope in scopes {
        let mut diff = if scope.is_usable() { count(session, scope)? } else { TableDiff::none(&scope.name) };
        if let Some(stays) = &scope.stays {
            diff = stays.laid_over(&diff);
        }
        if scope.is_usable() && diff.writes() > 0 {
            find_taken(session, scope, &diff, &mut compared)?;
        }
        compared.diffs.push(diff);
        compared.notes.extend(scope.notes.iter().cloned());
        compared.conflicts.extend(scope.conflicts.iter().chain(&scope.found).cloned());
    }
    for link in links(catalogue, scopes) {
        let is_touched = link.is_touched(&compared.diffs);
        let allowed = if is_touched { look_at_link(session, &link, scopes, &mut compared)? } else { 0 };
        compared.orphans_allowed.push(allowed);
    }
    session.run("cannot end the comparison", "COMMIT")?;
    Ok(compared)
}

pub(super) fn count(session: &mut Session, scope: &Scope) -> Outcome<TableDiff> {
    let rows = session.rows(&format!("cannot compare table `{}`", scope.name), &sql::counts(scope))?;
    let number = |at: usize| -> u64 {
        let value: Option<i64> = rows.first().map(|row| row.get(at));
        value.and_then(|value| u64::try_from(value).ok()).unwrap_or(0)
    };
    Ok(TableDiff {
        insert: number(0),
        delete: number(1),
        unchanged: number(2),
        update: number(3),
        replace: number(4),
        ..TableDiff::none(&scope.name)
    })
}

/// Keys and unique values that belong to somebody else now; columns that must have a value and get none.
fn find_taken(session: &mut Session, scope: &Scope, diff: &TableDiff, compared: &mut Compared) -> Outcome<()> {
    let Some(live) = &scope.live else { return Ok(()) };
    let action = format!("cannot look for values of table `{}` that others hold", scope.name);
    if let Some(query) = sql::keys_elsewhere(scope) {
        let detail = "primary keys that are rows outside the site now".to_owned();
        compared.conflicts.extend(found(session, scope, &query, (ConflictKind::KeyElsewhere, detail))?);
    }
    for unique in &live.table.unique_keys {
        if let Some(query) = sql::unique_taken(scope, &live.table, unique) {
            let others = if scope.stays.is_some() { "other rows" } else { "rows outside the site" };
            let detail = format!("unique values that {others} hold now: constraint=`{}`", unique.name);
            compared.conflicts.extend(found(session, scope, &query, (ConflictKind::UniqueTaken, detail))?);
        }
    }
    if diff.insert > 0 && scope.has_added {
        let query = format!(
            "SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = {} AND a.attnum > 0 AND NOT a.attisdropped \
             AND a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = ''",
            scope.oid()
        );
        for row in session.rows(&action, &query)? {
            let name: String = row.get(0);
            if !scope.columns.iter().any(|column| column.name == name) {
                let detail = format!("a newer column must have a value and has no default: column=`{name}`");
                let kind = ConflictKind::ColumnRequired;
                compared.conflicts.push(Conflict::new(&scope.name, kind, diff.insert, detail));
            }
        }
    }
    Ok(())
}

/// A conflict of the staged rows that a query counts; `None`: it counts none.
pub(super) fn found(
    session: &mut Session,
    scope: &Scope,
    query: &str,
    (kind, detail): (ConflictKind, String),
) -> Outcome<Option<Conflict>> {
    let action = format!("cannot look for what is in the way of rows of table `{}`", scope.name);
    let rows = session.number(&action, query)?;
    if rows == 0 {
        return Ok(None);
    }
    let keys = match &scope.stays {
        Some(_) => later::keys_of(session, scope, query)?,
        None => Vec::new(),
    };
    Ok(Some(Conflict { keys, ..Conflict::new(&scope.name, kind, rows, detail) }))
}

/// How many staged rows may refer to nothing; adds the conflicts of one foreign key.
fn look_at_link(session: &mut Session, link: &Link<'_>, scopes: &[Scope], compared: &mut Compared) -> Outcome<u64> {
    let key = link.key;
    let action = format!("cannot check foreign key `{}` of `{}`", key.name, key.child);
    let diff_of =
        |scope: &Scope| scopes.iter().position(|other| other.name == scope.name).and_then(|at| compared.diffs.get(at));
    let takes_away = link.parent.and_then(diff_of).is_some_and(|diff| diff.delete + diff.replace + diff.update > 0);
    let adds = link.child.and_then(diff_of).is_some_and(|diff| diff.writes() > 0);
    if let Some(parent) = link.parent.filter(|_| takes_away) {
        let rows = session.number(&action, &link.left_behind(parent))?;
        if rows > 0 {
            let detail = format!(
                "rows that are not restored refer to rows that the restore takes away: from=`{}`, foreign key=`{}`",
                key.child, key.name
            );
            compared.conflicts.push(Conflict::new(&key.parent, ConflictKind::StillReferred, rows, detail));
        }
    }
    let Some(child) = link.child else { return Ok(0) };
    match link.parent {
        Some(parent) => {
            let query = link.orphans_of_snapshot(&child.stage, parent);
            let own = session.number(&action, &query)?;
            // Where the key is enforced, a row without the one it refers to was none then: that row was another
            // site's, or has gone. Only what the site has of that kind already may stay.
            let before = if own > 0 { session.number(&action, &link.live_orphans(child))? } else { 0 };
            if key.is_validated && own > before {
                let detail = format!(
                    "rows that the restored ones refer to are missing, in no row of this site at the point: in=`{}`, \
                     foreign key=`{}`",
                    key.parent, key.name
                );
                let found = found(session, child, &query, (ConflictKind::SharedMissing, detail))?;
                compared.conflicts.extend(found.map(|found| Conflict { rows: own - before, ..found }));
            } else if own > 0 {
                compared.notes.push(format!(
                    "rows referred to nothing in the snapshot already: table=`{}`, foreign key=`{}`, rows=`{own}`",
                    key.child, key.name
                ));
            }
            Ok(own)
        }
        None => {
            let before = session.number(&action, &link.live_orphans(child))?;
            let query = link.staged_orphans(&child.stage);
            let after = if adds { session.number(&action, &query)? } else { before };
            if after > before {
                let detail = format!(
                    "rows that the restored ones refer to are missing: in=`{}`, foreign key=`{}`",
                    key.parent, key.name
                );
                let found = found(session, child, &query, (ConflictKind::SharedMissing, detail))?;
                compared.conflicts.extend(found.map(|found| Conflict { rows: after - before, ..found }));
            }
            Ok(before)
        }
    }
}
