//! The proofs within the transaction, before COMMIT: each one that fails takes everything back.
//!
//! Invariant (only-this-site): the transaction's own write counters equal the plan, table by table,
//! and are zero everywhere else, the system catalogue included (a trigger that truncates writes there).

use std::collections::BTreeMap;

use lifeboat_model::{Check, Fault};

use super::super::tenancy::SiteTable;
use super::super::{Catalogue, Session};
use super::fail::{Ask, Fail, Outcome};
use super::scope::Scope;
use super::{LiveRows, LiveTable, TableDiff, VerifiedRows, compare, sql, staging};
use crate::Error;
use crate::postgres::describe;

/// Rows inserted, updated and deleted.
pub(super) type Writes = (u64, u64, u64);

/// A table, or partition root, and what the transaction has written to it so far.
pub(super) type Counters = BTreeMap<(u32, String), Writes>;

/// Leaves count for their root; what lies outside a row, for the row's table. Staging is our own.
pub(super) fn counters(session: &mut Session, schema: &str) -> Outcome<Counters> {
    let query = format!(
        "SELECT r.oid, n.nspname::text, r.relname::text, sum(x.n_tup_ins)::int8, sum(x.n_tup_upd)::int8, \
            sum(x.n_tup_del)::int8 \
         FROM pg_stat_xact_all_tables x LEFT JOIN pg_class o ON o.reltoastrelid = x.relid \
         JOIN pg_class r ON r.oid = coalesce(pg_partition_root(coalesce(o.oid, x.relid)), o.oid, x.relid) \
         JOIN pg_namespace n ON n.oid = r.relnamespace \
         WHERE x.n_tup_ins + x.n_tup_upd + x.n_tup_del > 0 AND n.nspname <> '{schema}' AND o.oid IS NULL \
         GROUP BY 1, 2, 3"
    );
    let rows = session.rows("cannot read the transaction's write counters", &query)?;
    let number = |row: &postgres::Row, at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
    let one = |row: &postgres::Row| {
        let name = format!("{}.{}", row.get::<_, String>(1), row.get::<_, String>(2));
        ((row.get(0), name), (number(row, 3), number(row, 4), number(row, 5)))
    };
    Ok(rows.iter().map(one).collect())
}

/// Lets what was put off to the COMMIT fire now, so that it is counted and compared with all the rest.
///
/// A constraint trigger that fires always may be INITIALLY DEFERRED: it would write behind every proof.
pub(super) fn fire_deferred(session: &mut Session) -> Outcome<()> {
    session.run("a trigger that was put off to the end has failed", "SET CONSTRAINTS ALL IMMEDIATE")
}

/// Compares what was written with what was planned; pure.
pub(super) fn check_counters(
    before: &Counters,
    after: &Counters,
    scopes: &[Scope],
    diffs: &[TableDiff],
) -> Result<Check, String> {
    let mut planned: BTreeMap<u32, Writes> = BTreeMap::new();
    for (scope, diff) in scopes.iter().zip(diffs).filter(|(_, diff)| diff.writes() > 0) {
        planned.insert(scope.oid(), (diff.insert + diff.replace, diff.update, diff.delete + diff.replace));
    }
    let (mut total, tables) = (0, planned.len());
    for ((oid, name), now) in after {
        let was = before.get(&(*oid, name.clone())).copied().unwrap_or_default();
        let wrote = (now.0.saturating_sub(was.0), now.1.saturating_sub(was.1), now.2.saturating_sub(was.2));
        let plan = planned.remove(oid).unwrap_or_default();
        if wrote != plan {
            return Err(format!(
                "table=`{name}`: inserted {} of {}, updated {} of {}, deleted {} of {} planned",
                wrote.0, plan.0, wrote.1, plan.1, wrote.2, plan.2
            ));
        }
        total += wrote.0 + wrote.1 + wrote.2;
    }
    if let Some(oid) = planned.keys().next() {
        let name = scopes.iter().find(|scope| scope.oid() == *oid).map(|scope| scope.name.to_string());
        return Err(format!("table=`{}`: nothing was written of what was planned", name.unwrap_or_default()));
    }
    Ok(passed("only this site", format!("{total} writes to {tables} tables, as planned, and none elsewhere")))
}

pub(super) fn passed(name: &str, detail: String) -> Check {
    Check { name: name.into(), passed: true, detail }
}

/// A proof that failed: everything is taken back.
pub(super) fn refuted(session: &Session, what: &str, detail: String, hint: &str) -> Fail {
    let error = Error::Database {
        source_name: session.source_name().to_owned(),
        action: format!("the restore was taken back, nothing is changed: {what}"),
        detail,
        hint: hint.to_owned(),
        fault: Fault::Operator,
    };
    error.into()
}

/// The site's rows as the session's snapshot has them.
pub(super) fn live_rows<'a>(session: &mut Session, tables: impl Iterator<Item = &'a SiteTable>) -> Outcome<LiveRows> {
    let mut live = Vec::new();
    for site_table in tables {
        let action = format!("cannot read table `{}`", site_table.table.name);
        let query = describe::select_rows(&site_table.table, &format!("({})", site_table.condition));
        let content = staging::digest(session, &action, &query)?;
        let (name, rule) = (site_table.table.name.clone(), site_table.rule.clone());
        live.push(LiveTable { name, rows: content.rows, digests: content.digests, rule });
    }
    let is_present = live.iter().any(|table| table.rows > 0);
    Ok(LiveRows { is_present, tables: live, ..LiveRows::default() })
}

impl LiveRows {
    /// These tables' rows as the session's snapshot has them.
    pub(in crate::postgres) fn read(session: &mut Session, tables: &[SiteTable]) -> Result<Self, Error> {
        Ok(live_rows(session, tables.iter())?)
    }
}

/// The restored tables hold what the snapshot says.
pub(super) fn content(session: &mut Session, scopes: &[Scope]) -> Outcome<Check> {
    let mut rows = 0;
    for scope in scopes {
        let action = format!("cannot read table `{}` back", scope.name);
        let query = sql::select_wanted(scope, &scope.live_item(), &format!("({})", scope.condition()));
        let content = staging::digest(session, &action, &query)?;
        if !content.digests.are(&scope.digest) || content.rows != scope.rows {
            let detail = format!("table=`{}`, rows=`{}`, of the snapshot=`{}`", scope.name, content.rows, scope.rows);
            let hint = "a trigger or rule that fires always may change rows as they are written: `lifeboat sources \
                        inspect` lists them; or rows of the snapshot belong to the site only by rows that are not \
                        restored with them";
            return Err(refuted(session, "the rows written are not the snapshot's", detail, hint));
        }
        rows += content.rows;
    }
    Ok(passed("rows equal the snapshot", format!("{rows} rows in {} tables, compared by digest", scopes.len())))
}

/// No foreign key refers to nothing that did not before; no late unique key is held twice.
pub(super) fn references(
    session: &mut Session,
    catalogue: &Catalogue,
    scopes: &[Scope],
    verified: &VerifiedRows,
) -> Outcome<Vec<Check>> {
    let diff_of = |scope: &Scope| verified.diffs.iter().find(|diff| diff.table == scope.name);
    let links = compare::links(catalogue, scopes);
    let touched = links.iter().zip(&verified.orphans_allowed).filter(|(link, _)| link.is_touched(&verified.diffs));
    for (link, allowed) in touched {
        let key = link.key;
        let action = format!("cannot check foreign key `{}` of `{}`", key.name, key.child);
        let mut orphans = 0;
        if let Some(child) = link.child {
            orphans = session.number(&action, &link.staged_orphans(&child.stage))?;
        }
        let goes = link.parent.filter(|parent| diff_of(parent).is_some_and(|diff| diff.delete + diff.replace > 0));
        if let Some(parent) = goes {
            orphans = orphans.max(session.number(&action, &link.left_behind_now(parent))?);
        }
        if orphans > *allowed {
            let detail =
                format!("table=`{}`, foreign key=`{}`, rows=`{orphans}`, before=`{allowed}`", key.child, key.name);
            let hint = "restore the tables they refer to as well, or wait until nobody writes to them";
            return Err(refuted(session, "rows would refer to rows that are not there", detail, hint));
        }
    }
    let mut late = 0;
    let written = |scope: &&Scope| diff_of(scope).is_some_and(|diff| diff.writes() > 0);
    for scope in scopes.iter().filter(written) {
        for key in &scope.deferrable {
            late += 1;
            let action = format!("cannot check the unique keys of `{}`", scope.name);
            if session.number(&action, &sql::duplicates(scope, key))? > 0 {
                let columns: Vec<&str> = key.iter().map(|(column, _)| column.as_str()).collect();
                let detail = format!("table=`{}`, columns=`{}`", scope.name, columns.join(", "));
                return Err(refuted(session, "a unique value would be held twice", detail, "free the value first"));
            }
        }
    }
    let mut checks = vec![passed("foreign keys", format!("{} of them have no new orphans", links.len()))];
    if late > 0 {
        checks.push(passed("deferrable unique keys", format!("{late} of them hold no value twice")));
    }
    Ok(checks)
}
