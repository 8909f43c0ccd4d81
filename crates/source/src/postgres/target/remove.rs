//! A schema or a database of the site's own that was not there at the point: dropped, after everything
//! in it was kept for the undo.

use super::super::Session;
use super::fail::{Ask, Fail, Outcome};
use super::{Ready, RowsTarget, SwitchedRows, TableDiff, Work, apply, large_objects, prove};
use crate::Error;
use crate::postgres::describe::literal;
use crate::postgres::structure::ident;

/// Drops the schema within a transaction that is left open.
pub(super) fn schema(target: &RowsTarget, work: &Work, name: &str) -> Outcome<Ready> {
    let (session, switched) = apply::watched(target, |session| {
        apply::begin_alone(session, target)?;
        let tables: Vec<&str> = target.live.keys().map(super::TableName::as_str).collect();
        if !tables.is_empty() {
            let lock = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", tables.join(", "));
            session.run("cannot lock the site's tables", &lock)?;
        }
        let checks = vec![apply::unchanged(session, target, work)?];
        refuse_ties(session, target, name)?;
        session.run("cannot drop the schema", &format!("DROP SCHEMA {} CASCADE", ident(name)))?;
        let notes =
            large_objects::left_over(work, &large_objects::Steps::default(), &work.kept.objects).into_iter().collect();
        Ok(SwitchedRows { tables: gone(work), checks, sequences: Vec::new(), notes, transaction: None })
    })?;
    Ok(Ready::Transaction { session: Box::new(session), switched })
}

/// Looks at the database once more; the switch takes its name away, and what is left is staging.
pub(super) fn database(target: &RowsTarget, work: &Work) -> Outcome<Ready> {
    if target.live()? != work.kept {
        return Err(apply::written_to(target.home.server.source_name(), "a table"));
    }
    let checks = vec![prove::passed("live rows were those kept for the undo", "the whole database".into())];
    Ok(Ready::Dropping {
        switched: SwitchedRows {
            tables: gone(work),
            checks,
            sequences: Vec::new(),
            notes: Vec::new(),
            transaction: None,
        },
    })
}

fn gone(work: &Work) -> Vec<TableDiff> {
    let gone = work.kept.tables.iter();
    gone.map(|table| TableDiff { delete: table.rows, ..TableDiff::none(&table.name) }).collect()
}

/// What lies outside the schema and hangs on it would go with it.
fn refuse_ties(session: &mut Session, target: &RowsTarget, name: &str) -> Outcome<()> {
    let key = target
        .catalogue
        .foreign_keys
        .iter()
        .find(|key| target.live.contains_key(&key.parent) && !target.live.contains_key(&key.child));
    let views = format!(
        "SELECT format('%I.%I', n.nspname, v.relname) FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid \
         JOIN pg_class v ON v.oid = r.ev_class JOIN pg_namespace n ON n.oid = v.relnamespace \
         JOIN pg_class t ON t.oid = d.refobjid AND d.refclassid = 'pg_class'::regclass \
         JOIN pg_namespace s ON s.oid = t.relnamespace \
         WHERE d.classid = 'pg_rewrite'::regclass AND s.nspname = {} AND n.oid <> s.oid LIMIT 1",
        literal(name)
    );
    let view = session.rows("cannot look for what hangs on the schema", &views)?;
    let tie = match (key, view.first()) {
        (Some(key), _) => format!("foreign key `{}` of `{}`", key.name, key.child),
        (None, Some(row)) => format!("view `{}`", row.get::<_, String>(0)),
        (None, None) => return Ok(()),
    };
    Err(Fail::from(Error::Conflict {
        path: name.to_owned(),
        detail: format!("something outside the schema hangs on it, nothing is changed: {tie}"),
        hint: "drop that by hand if it may go, then run the same command again".into(),
    }))
}
