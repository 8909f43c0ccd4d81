//! What the connected role must be allowed to do: asked before anything is written, each with the
//! statement that grants it.

use lifeboat_model::Fault;

use super::super::describe::{SequenceState, literal};
use super::super::{Catalogue, Session, TableName};
use super::fail::{Ask, Outcome};
use super::scope::Scope;
use crate::Error;

/// What is missing, and the statement that mends it.
type Missing = Vec<(String, String)>;

/// Refuses a server that cannot take a restore and a role that may not do one; names all that is missing.
pub(super) fn check(
    session: &mut Session,
    catalogue: &Catalogue,
    scopes: &[Scope],
    sequences: &[SequenceState],
) -> Outcome<()> {
    let action = "cannot ask for the role's privileges";
    let rows = session.rows(
        action,
        "SELECT pg_is_in_recovery(), current_setting('track_counts')::bool, quote_ident(current_user), \
         quote_ident(current_database()), has_database_privilege(current_database(), 'CREATE'), \
         current_setting('server_version_num')::int4",
    )?;
    let Some(row) = rows.first() else { return Ok(()) };
    if row.get(0) {
        let hint = "name the primary in the source's `url`";
        return Err(refusal(session, "the server is a standby and takes no writes", hint));
    }
    if !row.get::<_, bool>(1) {
        let hint = "ALTER SYSTEM SET track_counts = on; SELECT pg_reload_conf();";
        let detail = "track_counts is off: what a restore writes could not be counted and proven";
        return Err(refusal(session, detail, hint));
    }
    let (role, database, version): (String, String, i32) = (row.get(2), row.get(3), row.get(5));
    let mut missing = Missing::new();
    if !row.get::<_, bool>(4) {
        missing.push((
            format!("it may not make the staging schema in database `{database}`"),
            format!("GRANT CREATE ON DATABASE {database} TO {role};"),
        ));
    }
    tables(session, catalogue, scopes, &role, &mut missing)?;
    numbers(session, catalogue, sequences, &role, &mut missing)?;
    if session.run(action, "BEGIN; SET LOCAL session_replication_role = replica; ROLLBACK").is_err() {
        session.run(action, "ROLLBACK")?;
        let grant = if version >= 150_000 {
            format!("GRANT SET ON PARAMETER session_replication_role TO {role};")
        } else {
            format!("ALTER ROLE {role} SUPERUSER; -- before PostgreSQL 15 nothing less will do")
        };
        missing.push(("it may not set session_replication_role, so triggers and cascades would fire".into(), grant));
    }
    if missing.is_empty() {
        return Ok(());
    }
    let detail: Vec<&str> = missing.iter().map(|(what, _)| what.as_str()).collect();
    let grants: Vec<&str> = missing.iter().map(|(_, grant)| grant.as_str()).collect();
    Err(refusal(session, &format!("role {role}: {}", detail.join("; ")), &grants.join(" ")))
}

/// Refuses a role that may not make tables of its own session, which a preview needs.
pub(super) fn check_preview(session: &mut Session) -> Outcome<()> {
    let query = "SELECT has_database_privilege(current_database(), 'TEMPORARY'), \
                 format('GRANT TEMPORARY ON DATABASE %I TO %I;', current_database(), current_user)";
    let rows = session.rows("cannot ask for the role's privileges", query)?;
    match rows.first() {
        Some(row) if !row.get::<_, bool>(0) => {
            let hint: String = row.get(1);
            Err(refusal(session, "it may not make temporary tables, to compare rows before they are planned", &hint))
        }
        _ => Ok(()),
    }
}

pub(super) fn refusal(session: &Session, detail: &str, hint: &str) -> super::fail::Fail {
    let error = Error::Database {
        source_name: session.source_name().to_owned(),
        action: "a restore cannot be done by this role on this server".into(),
        detail: detail.to_owned(),
        hint: hint.to_owned(),
        fault: Fault::Operator,
    };
    error.into()
}

/// Tables that are written, and those that are only looked at because foreign keys lead there.
fn tables(
    session: &mut Session,
    catalogue: &Catalogue,
    scopes: &[Scope],
    role: &str,
    missing: &mut Missing,
) -> Outcome<()> {
    let written: Vec<&TableName> =
        scopes.iter().filter(|scope| scope.live.is_some()).map(|scope| &scope.name).collect();
    for name in &written {
        table(session, name, &["SELECT", "INSERT", "UPDATE", "DELETE"], role, missing)?;
    }
    let mut looked_at: Vec<&TableName> = Vec::new();
    for key in &catalogue.foreign_keys {
        let leads = [(&key.child, &key.parent), (&key.parent, &key.child)];
        looked_at
            .extend(leads.iter().filter(|(one, other)| written.contains(one) && !written.contains(other)).map(|l| l.1));
    }
    looked_at.sort();
    looked_at.dedup();
    for name in looked_at {
        table(session, name, &["SELECT"], role, missing)?;
    }
    Ok(())
}

fn table(session: &mut Session, name: &TableName, wanted: &[&str], role: &str, missing: &mut Missing) -> Outcome<()> {
    let asked: Vec<String> =
        wanted.iter().map(|privilege| format!("has_table_privilege(c.oid, '{privilege}')")).collect();
    // Not by casting the name: that needs the very privilege which may be missing.
    let query = format!(
        "SELECT has_schema_privilege(n.oid, 'USAGE'), quote_ident(n.nspname), row_security_active(c.oid), {} \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE format('%I.%I', n.nspname, c.relname) = {}",
        asked.join(", "),
        literal(name.as_str())
    );
    let rows = session.rows("cannot ask for the role's privileges", &query)?;
    let Some(row) = rows.first() else { return Ok(()) };
    if !row.get::<_, bool>(0) {
        let schema: String = row.get(1);
        let grant = format!("GRANT USAGE ON SCHEMA {schema} TO {role};");
        if !missing.iter().any(|(_, known)| *known == grant) {
            missing.push((format!("it may not use schema `{schema}`"), grant));
        }
    }
    let lacks: Vec<&str> = wanted
        .iter()
        .enumerate()
        .filter(|(at, _)| !row.get::<_, bool>(at + 3))
        .map(|(_, privilege)| *privilege)
        .collect();
    if !lacks.is_empty() {
        let lacks = lacks.join(", ");
        missing.push((format!("it may not {lacks} in `{name}`"), format!("GRANT {lacks} ON {name} TO {role};")));
    }
    if row.get(2) {
        let grant = format!("ALTER ROLE {role} BYPASSRLS;");
        let detail = format!("row-level security hides rows of `{name}` from it");
        if !missing.iter().any(|(_, known)| *known == grant) {
            missing.push((detail, grant));
        }
    }
    Ok(())
}

fn numbers(
    session: &mut Session,
    catalogue: &Catalogue,
    sequences: &[SequenceState],
    role: &str,
    missing: &mut Missing,
) -> Outcome<()> {
    for state in sequences {
        if !catalogue.sequences.iter().any(|known| known.name.as_str() == state.name) {
            continue;
        }
        let query = format!(
            "SELECT has_sequence_privilege(c.oid, 'SELECT'), has_sequence_privilege(c.oid, 'UPDATE') FROM pg_class c \
             JOIN pg_namespace n ON n.oid = c.relnamespace WHERE format('%I.%I', n.nspname, c.relname) = {}",
            literal(&state.name)
        );
        let rows = session.rows("cannot ask for the role's privileges", &query)?;
        if rows.first().is_some_and(|row| !row.get::<_, bool>(0) || !row.get::<_, bool>(1)) {
            let grant = format!("GRANT SELECT, UPDATE ON SEQUENCE {} TO {role};", state.name);
            missing.push((format!("it may not raise sequence `{}`", state.name), grant));
        }
    }
    Ok(())
}
