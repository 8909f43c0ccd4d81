//! A schema or a database of the site's own that is gone: made again whole, with its structure.
//!
//! ```text
//! schema     one transaction: structure ▸ rows ▸ indexes, keys, triggers ▸ prove ▸ (switch) commit
//! database   the same in a database of another name, which the switch renames
//! ```
//!
//! Nobody sees anything of it before the switch.

use std::collections::BTreeMap;

use lifeboat_model::{Check, RowsDigest};
use postgres::error::SqlState;

use super::super::describe::SequenceState;
use super::super::structure::{DatabaseProperties, Structure};
use super::super::tenancy::Owners;
use super::super::{Catalogue, Session, TableName};
use super::fail::{Ask, Fail, Outcome};
use super::scope::{self, Scope};
use super::sequences::{raise, set};
use super::{
    Conflict, Ready, RowsTarget, SwitchedRows, TableDiff, WantedRows, WantedTable, Work, apply, large_objects, prove,
    staging,
};
use crate::Error;
use crate::postgres::capture::CAPTURE_PREFIX;
use crate::postgres::describe::literal;
use crate::postgres::structure::ident;

/// Settings whose value is a list of names.
const LISTS: &[&str] = &["search_path", "temp_tablespaces", "session_preload_libraries", "local_preload_libraries"];

/// Makes the schema within a transaction that is left open.
pub(super) fn schema(target: &RowsTarget, work: &Work, structure: &Structure) -> Outcome<Ready> {
    let (session, switched) = apply::watched(target, |session| {
        apply::begin_alone(session, target)?;
        let mut switched = fill(session, target, work, structure)?;
        switched.checks.push(nobody_else(session, target)?);
        Ok(switched)
    })?;
    Ok(Ready::Transaction { session: Box::new(session), switched })
}

/// Makes the database under the staging name.
pub(super) fn database(target: &RowsTarget, work: &Work, structure: &Structure) -> Outcome<Ready> {
    let properties = structure.database.clone().unwrap_or_default();
    let mut door = staging::connect(&target.home.door)?;
    drop_database(&mut door, &target.schema)?;
    let action = "cannot make the database again";
    door.run(action, &properties.create(&target.schema)).map_err(|fail| explained(&door, fail))?;
    let stage = target.home.door.with_database(&target.schema);
    let mut session = staging::connect(&stage)?;
    let switched = fill(&mut session, target, work, structure)?;
    drop(session);
    for statement in properties.after(&target.schema) {
        door.run(action, &statement).map_err(|fail| explained(&door, fail))?;
    }
    Ok(Ready::Renaming { switched })
}

/// Gives a database another name. Was the answer lost, the names that there are tell what became of it.
pub(super) fn rename(target: &RowsTarget, from: &str, to: &str) -> Outcome<()> {
    let mut door = staging::connect(&target.home.door)?;
    let statement = format!("ALTER DATABASE {} RENAME TO {}", ident(from), ident(to));
    match door.run("cannot give the database its name", &statement) {
        Err(fail) if fail.is_lost() => {
            let is_renamed = apply::fate(&target.home.door, |session| {
                Ok(Some(has_database(session, to)? && !has_database(session, from)?))
            });
            apply::told(&target.home.door, is_renamed, fail)
        }
        other => other,
    }
}

/// Drops a database, whoever is connected to it: nobody but us knows one of this name.
pub(super) fn drop_database(door: &mut Session, name: &str) -> Outcome<()> {
    door.run("cannot remove the staging database", &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", ident(name)))
}

pub(super) fn has_database(door: &mut Session, name: &str) -> Outcome<bool> {
    let query = format!("SELECT count(*) FROM pg_database WHERE datname = {}", literal(name));
    Ok(door.number("cannot look for the database", &query)? > 0)
}

/// Structure, rows, and what goes over the rows; then everything is read back.
fn fill(session: &mut Session, target: &RowsTarget, work: &Work, structure: &Structure) -> Outcome<SwitchedRows> {
    let again = "cannot make the structure again";
    session.run(again, &structure.pre_data).map_err(|fail| explained(session, fail))?;
    let schema = target.home.schema.as_deref();
    let catalogue = Catalogue::read(&mut **session, schema).map_err(|error| Fail::new(session, again, &error))?;
    let scopes = scopes(target, &work.wanted, &catalogue)?;
    let (steps, conflicts) = large_objects::decide(session, target, work, (&[], None))?;
    if let Some(conflict) = conflicts.first() {
        return Err(in_the_way(conflict));
    }
    large_objects::check_role(session, target, work, &steps)?;
    large_objects::write(session, work, &steps)?;
    for (at, scope) in scopes.iter().enumerate().filter(|(_, scope)| scope.rows > 0) {
        staging::copy_in(session, scope, scope.name.as_str(), at, &work.spool)?;
    }
    session.run(again, &structure.post_data).map_err(|fail| explained(session, fail))?;
    session.run("cannot set the search path", "SET search_path = ''")?;
    let mut sequences = set(session, &catalogue, &work.wanted.sequences)?;
    // Of a table that was replayed, the rows are newer than what is known of its sequence.
    let replayed = |state: &&SequenceState| {
        let of = |table: &WantedTable| state.owner.as_ref().is_some_and(|(owner, _)| owner == table.name.as_str());
        work.wanted.tables.iter().any(|table| of(table) && matches!(table.digest, RowsDigest::AnyOrder(_)))
    };
    let states: Vec<SequenceState> = work.wanted.sequences.iter().filter(replayed).cloned().collect();
    sequences.extend(raise(session, &catalogue, &states, &scopes, &|scope| scope.name.to_string())?);
    let mut notes = without_event_triggers(session, schema, |session| fill_views(session, schema, structure))?;
    let lines = of_others(&structure.publications);
    if !lines.is_empty() {
        let lines = lines.join(" ");
        notes.push(format!("it is in no publication any more; put it back into those it was in, by hand: {lines}"));
    }
    let tables = scopes.iter().map(|scope| TableDiff { insert: scope.rows, ..TableDiff::none(&scope.name) });
    let tables: Vec<TableDiff> = tables.chain(steps.diff()).collect();
    let mut checks = vec![prove::content(session, &scopes)?, made(&scopes)];
    checks.extend(large_objects::content(session, work, &steps)?);
    notes.extend(large_objects::give(session, work, &steps)?);
    Ok(SwitchedRows { tables, checks, sequences, notes, transaction: None })
}

/// Without publications of our own captures: those let the tables join by themselves.
fn of_others(publications: &[String]) -> Vec<&str> {
    let is_own = |line: &&str| {
        line.strip_prefix("ALTER PUBLICATION ")
            .is_some_and(|rest| rest.trim_start_matches('"').starts_with(CAPTURE_PREFIX))
    };
    publications.iter().map(String::as_str).filter(|line| !is_own(line)).collect()
}

/// The wanted tables over those that the structure has made; each of them must be there as it was.
fn scopes(target: &RowsTarget, wanted: &WantedRows, catalogue: &Catalogue) -> Outcome<Vec<Scope>> {
    let owners = Owners::One { left_out: Vec::new() };
    let tables = owners.tables(catalogue, target.home.schema.as_deref(), &target.site);
    let live = tables.into_iter().map(|table| (table.table.name.clone(), table)).collect::<BTreeMap<TableName, _>>();
    let scopes = scope::lay_over(&wanted.tables, &live, &BTreeMap::new(), catalogue, &target.schema);
    match scopes.iter().flat_map(|scope| &scope.conflicts).next() {
        None => Ok(scopes),
        Some(conflict) => Err(Fail::from(Error::Damaged {
            path: conflict.table.to_string(),
            detail: format!("the structure in the snapshot does not fit its rows: {}", conflict.detail),
            hint: "choose another point, or export this one and load it by hand".into(),
        })),
    }
}

fn in_the_way(conflict: &Conflict) -> Fail {
    Fail::from(Error::Conflict {
        path: conflict.table.to_string(),
        detail: format!("the restore is in conflict with the live database, nothing is changed: {}", conflict.detail),
        hint: "remove the object (lo_unlink) if nobody needs what it holds now, then run the same command again".into(),
    })
}

fn made(scopes: &[Scope]) -> Check {
    prove::passed("structure", format!("{} tables made again, with their keys, indexes and triggers", scopes.len()))
}

/// No row outside the schema was written: an event trigger might.
fn nobody_else(session: &mut Session, target: &RowsTarget) -> Outcome<Check> {
    let schema = literal(target.home.schema.as_deref().unwrap_or_default());
    let query = format!(
        "SELECT format('%I.%I', schemaname, relname) FROM pg_stat_xact_all_tables \
         WHERE n_tup_ins + n_tup_upd + n_tup_del > 0 AND schemaname NOT IN ({schema}, 'pg_catalog', 'pg_toast')"
    );
    match session.rows("cannot read the transaction's write counters", &query)?.first() {
        None => Ok(prove::passed("only this site", "no row was written outside its schema".into())),
        Some(row) => {
            let detail = format!("table=`{}`", row.get::<_, String>(0));
            let hint = "an event trigger writes there when tables are made: disable it for the restore";
            Err(prove::refuted(session, "it wrote what was not planned", detail, hint))
        }
    }
}

/// Event triggers are the last that `pg_dump` writes down of a database, so that they see nothing of it
/// being made; what is done after them they must not see either.
fn without_event_triggers<T>(
    session: &mut Session,
    schema: Option<&str>,
    work: impl FnOnce(&mut Session) -> Outcome<T>,
) -> Outcome<T> {
    if schema.is_some() {
        return work(session); // those of the database are not the site's
    }
    let action = "cannot put event triggers off until the end";
    let query = "SELECT format('ALTER EVENT TRIGGER %I ', evtname), CASE evtenabled WHEN 'A' THEN 'ENABLE ALWAYS' \
                 WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE' END FROM pg_event_trigger WHERE evtenabled <> 'D'";
    let triggers: Vec<(String, String)> =
        session.rows(action, query)?.iter().map(|row| (row.get(0), row.get(1))).collect();
    for (trigger, _) in &triggers {
        session.run(action, &format!("{trigger} DISABLE"))?;
    }
    let done = work(session)?;
    for (trigger, was) in &triggers {
        session.run(action, &format!("{trigger} {was}"))?;
    }
    Ok(done)
}

/// Materialized views come back empty; those that showed something are filled, in the order in which they
/// were made. One that cannot be filled (its owner may not read, a function in it needs a search path)
/// stays empty and is named: it holds nothing of its own, and must not keep the site's rows from coming back.
fn fill_views(session: &mut Session, schema: Option<&str>, structure: &Structure) -> Outcome<Vec<String>> {
    let action = "cannot fill the materialized views";
    let only = schema.map(|schema| format!("AND n.nspname = {}", literal(schema))).unwrap_or_default();
    let query = format!(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind = 'm' AND NOT c.relispopulated {only} ORDER BY c.oid"
    );
    let views: Vec<String> = session.rows(action, &query)?.iter().map(|row| row.get(0)).collect();
    // A schema is made within a transaction, which an error would end.
    let (begin, end, back) = match schema {
        Some(_) => ("SAVEPOINT filling", "RELEASE SAVEPOINT filling", "ROLLBACK TO SAVEPOINT filling"),
        None => ("BEGIN", "COMMIT", "ROLLBACK"),
    };
    let mut notes = Vec::new();
    for view in views.iter().filter(|view| !structure.unfilled_views.contains(view)) {
        session.run(action, begin)?;
        match session.run(action, &format!("REFRESH MATERIALIZED VIEW {view}")) {
            Ok(()) => session.run(action, end)?,
            Err(fail) if fail.code.is_some() => {
                session.run(action, back)?;
                notes.push(format!("left empty, REFRESH MATERIALIZED VIEW {view} by hand: {}", fail.error));
            }
            Err(fail) => return Err(fail),
        }
    }
    Ok(notes)
}

/// What a role lacks for making things that others own, and what the structure lacks that is not its own.
fn explained(session: &Session, fail: Fail) -> Fail {
    let (action, hint) = match fail.code {
        Some(SqlState::INSUFFICIENT_PRIVILEGE) => (
            "the role may not make the structure again, nothing is changed",
            "make it a member of the roles that own the site's tables (GRANT owner TO role), and let it make schemas \
             (GRANT CREATE ON DATABASE) or databases (ALTER ROLE role CREATEDB)",
        ),
        Some(
            SqlState::INVALID_SCHEMA_NAME
            | SqlState::UNDEFINED_OBJECT
            | SqlState::UNDEFINED_FUNCTION
            | SqlState::UNDEFINED_TABLE,
        ) => (
            "something that the site uses and that is not its own is gone, nothing is changed",
            "make that again first, where it was: an extension by CREATE SCHEMA and CREATE EXTENSION … SCHEMA …, a role by \
             CREATE ROLE, a type or function of another schema from its own backup; then run the same command again \
             (--export DIR needs none of it)",
        ),
        _ => return fail,
    };
    let error = Error::Database {
        source_name: session.source_name().to_owned(),
        action: action.into(),
        detail: fail.error.to_string(),
        hint: hint.into(),
        fault: lifeboat_model::Fault::Operator,
    };
    Fail { error: Box::new(error), code: fail.code }
}

impl DatabaseProperties {
    /// `CREATE DATABASE` of this name.
    fn create(&self, name: &str) -> String {
        let mut statement = format!("CREATE DATABASE {} TEMPLATE template0", ident(name));
        for (word, value) in [("ENCODING", &self.encoding), ("LC_COLLATE", &self.collate), ("LC_CTYPE", &self.ctype)] {
            if !value.is_empty() {
                statement.push_str(&format!(" {word} {}", literal(value)));
            }
        }
        if let Some((provider, locale)) = &self.locale {
            let word = if provider == "icu" { "ICU_LOCALE" } else { "BUILTIN_LOCALE" };
            statement.push_str(&format!(" LOCALE_PROVIDER {provider} {word} {}", literal(locale)));
        }
        statement
    }

    /// What is said of it once it is there.
    fn after(&self, name: &str) -> Vec<String> {
        let name = ident(name);
        let mut statements = Vec::new();
        if self.connection_limit >= 0 {
            statements.push(format!("ALTER DATABASE {name} CONNECTION LIMIT {}", self.connection_limit));
        }
        for (role, setting) in &self.settings {
            let Some((key, value)) = setting.split_once('=') else { continue };
            let of = role.as_ref().map(|role| format!("ROLE {} IN ", ident(role))).unwrap_or_default();
            // A list is stored as it is written, each of its names quoted where it must be.
            let value = if LISTS.contains(&key) { value.to_owned() } else { literal(value) };
            statements.push(format!("ALTER {of}DATABASE {name} SET {} TO {value}", ident(key)));
        }
        if let Some(grants) = &self.grants {
            statements.push(format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC"));
            for (grantee, privilege, is_grantable) in grants {
                let to = grantee.as_ref().map_or("PUBLIC".to_owned(), |role| ident(role));
                let on = if *is_grantable { " WITH GRANT OPTION" } else { "" };
                statements.push(format!("GRANT {privilege} ON DATABASE {name} TO {to}{on}"));
            }
        }
        if let Some(comment) = &self.comment {
            statements.push(format!("COMMENT ON DATABASE {name} IS {}", literal(comment)));
        }
        if !self.owner.is_empty() {
            statements.push(format!("ALTER DATABASE {name} OWNER TO {}", ident(&self.owner)));
        }
        statements
    }
}
