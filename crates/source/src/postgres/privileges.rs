//! What the connected role lacks, each with the statement that grants it.
//!
//! Backing up reads: tables, sequences, past row security. Restoring also writes them, makes a
//! schema for staging, and keeps triggers from firing. `docs/operations/postgres-roles.md` makes
//! roles that have it all.
//!
//! Nothing is tried out: the server is only asked.

use std::collections::{BTreeMap, BTreeSet};

use super::large_objects::may_read;
use super::{Catalogue, Class, Classes, Session, TableName};
use crate::Error;

/// A privilege that the role does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingPrivilege {
    pub needed_for: Need,
    /// In words, such as "may not read app.orders".
    pub what: String,
    /// To be run by the owner of the database, or a superuser.
    pub statement: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    Backup,
    Restore,
}

impl Need {
    /// One word, for lists and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Need::Backup => "backup",
            Need::Restore => "restore",
        }
    }
}

/// Schema (as it stands in SQL) and privileges, to the tables or sequences that lack them.
type Lacking = BTreeMap<(Need, String, String), Vec<String>>;

const OF_TABLES: &str = "
    SELECT c.oid, quote_ident(n.nspname), has_schema_privilege(n.oid, 'USAGE'), row_security_active(c.oid)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY ($1) ORDER BY 2, c.relname";
const OF_SEQUENCES: &str = "
    SELECT quote_ident(n.nspname), format('%I.%I', n.nspname, c.relname), has_sequence_privilege(c.oid, 'SELECT'),
        has_sequence_privilege(c.oid, 'UPDATE')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'S' AND format('%I.%I', n.nspname, c.relname) = ANY ($1) ORDER BY 1, 2";
const OF_DATABASE: &str = "
    SELECT quote_ident(current_user), quote_ident(current_database()), has_database_privilege(current_database(), 'CREATE')";
/// Since 15 more than superusers may set it.
const OF_PARAMETER: &str = "SELECT has_parameter_privilege('session_replication_role', 'SET')";

/// So many large objects stand in one statement.
const OBJECTS_MAX: usize = 20;

/// Whether a table is written by a restore, or only read; `None`: neither.
type IsWritten<'a> = &'a dyn Fn(&TableName) -> Option<bool>;

/// What the session's role lacks for tables of these classes, what a backup needs first.
pub fn missing_privileges(
    session: &mut Session,
    catalogue: &Catalogue,
    classes: &Classes,
) -> Result<Vec<MissingPrivilege>, Error> {
    let is_written = |table: &TableName| match classes.get(table) {
        Some(class) if class.is_of_sites() => Some(true),
        Some(Class::Shared) => Some(false),
        _ => None,
    };
    missing_for(session, catalogue, &is_written)
}

/// The same where tables have no classes.
pub(super) fn missing_for(
    session: &mut Session,
    catalogue: &Catalogue,
    is_written: IsWritten<'_>,
) -> Result<Vec<MissingPrivilege>, Error> {
    ask(session, catalogue, is_written).map_err(|error| session.failed("cannot ask for the role's privileges", &error))
}

fn ask(
    session: &mut Session,
    catalogue: &Catalogue,
    is_written: IsWritten<'_>,
) -> Result<Vec<MissingPrivilege>, postgres::Error> {
    let row = session.query_one(OF_DATABASE, &[])?;
    let (role, database, may_create): (String, String, bool) = (row.get(0), row.get(1), row.get(2));
    let mut missing = of_tables(session, catalogue, is_written, &role)?;
    missing.extend(of_sequences(session, catalogue, is_written, &role)?);
    missing.extend(of_objects(session, catalogue, is_written, &role)?);
    let mut restore = |what: &str, statement: String| {
        missing.push(MissingPrivilege { needed_for: Need::Restore, what: what.to_owned(), statement });
    };
    if !may_create {
        let statement = format!("GRANT CREATE ON DATABASE {database} TO {role};");
        restore("may not make the schema that a restore stages rows in", statement);
    }
    let what = "may not set session_replication_role: triggers and cascades would fire in a restore";
    if catalogue.server.version < 150_000 {
        if !catalogue.server.is_superuser {
            restore(what, format!("ALTER ROLE {role} SUPERUSER; -- before PostgreSQL 15 nothing less will do"));
        }
    } else if !session.query_one(OF_PARAMETER, &[])?.get::<_, bool>(0) {
        restore(what, format!("GRANT SET ON PARAMETER session_replication_role TO {role};"));
    }
    missing.sort_by_key(|missing| missing.needed_for);
    Ok(missing)
}

/// Owners of what is in a schema, or of everything of a database.
const OWNERS: &str = "
    SELECT quote_ident(current_user), quote_ident(pg_get_userbyid(o.owner)) FROM (
        SELECT c.relowner AS owner FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND CASE WHEN $1::text IS NULL
                THEN n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ELSE n.nspname = $1 END
        UNION SELECT nspowner FROM pg_namespace WHERE nspname = $1
        UNION SELECT datdba FROM pg_database WHERE $1 IS NULL AND datname = current_database()) o
    WHERE NOT pg_has_role(o.owner, 'MEMBER') ORDER BY 2";

/// What the role lacks for making a schema (`None`: a database) again as it was: things come back as
/// their owners', which only members of these can give them.
pub(super) fn missing_memberships(session: &mut Session, schema: Option<&str>) -> Result<Vec<MissingPrivilege>, Error> {
    let rows = session.query(OWNERS, &[&schema]);
    let rows = rows.map_err(|error| session.failed("cannot look whose the site's tables are", &error))?;
    let missing = rows.iter().map(|row| {
        let (role, owner): (String, String) = (row.get(0), row.get(1));
        MissingPrivilege {
            needed_for: Need::Restore,
            what: format!(
                "is no member of {owner}, which owns what is a site's: a dropped one could not be made again"
            ),
            statement: format!("GRANT {owner} TO {role};"),
        }
    });
    Ok(missing.collect())
}

fn of_tables(
    session: &mut Session,
    catalogue: &Catalogue,
    is_written: IsWritten<'_>,
    role: &str,
) -> Result<Vec<MissingPrivilege>, postgres::Error> {
    let concerned = catalogue.tables.values().filter(|table| is_written(&table.name).is_some());
    let by_oid: BTreeMap<u32, _> = concerned.map(|table| (table.oid, table)).collect();
    let oids: Vec<u32> = by_oid.keys().copied().collect();
    let (mut schemas, mut lacking, mut hidden) = (BTreeSet::new(), Lacking::new(), Vec::new());
    for row in session.query(OF_TABLES, &[&oids])? {
        let Some(table) = by_oid.get(&row.get(0)) else { continue };
        let schema: String = row.get(1);
        if !row.get::<_, bool>(2) {
            schemas.insert(schema.clone());
        }
        let [reads, inserts, updates, deletes] = table.privileges;
        let is_of_sites = is_written(&table.name) == Some(true);
        if !reads {
            note(&mut lacking, Need::Backup, &schema, "SELECT", &table.name);
        }
        let writes = [(inserts, "INSERT"), (updates, "UPDATE"), (deletes, "DELETE")];
        let lacks: Vec<&str> = writes.iter().filter(|(may, _)| !may).map(|(_, privilege)| *privilege).collect();
        if is_of_sites && !lacks.is_empty() {
            note(&mut lacking, Need::Restore, &schema, &lacks.join(", "), &table.name);
        }
        if is_of_sites && row.get(3) {
            hidden.push(table.name.to_string());
        }
    }
    let schemas = schemas.into_iter().map(|schema| MissingPrivilege {
        needed_for: Need::Backup,
        what: format!("may not use schema {schema}"),
        statement: format!("GRANT USAGE ON SCHEMA {schema} TO {role};"),
    });
    let mut missing: Vec<MissingPrivilege> = schemas.collect();
    missing.extend(grants(lacking, "", role));
    if !hidden.is_empty() {
        missing.push(MissingPrivilege {
            needed_for: Need::Backup,
            what: format!("does not see every row of {}: row security hides some", some_of(&hidden)),
            statement: format!("ALTER ROLE {role} BYPASSRLS;"),
        });
    }
    Ok(missing)
}

/// The sequences of the sites' tables: read for a snapshot, raised by a restore.
fn of_sequences(
    session: &mut Session,
    catalogue: &Catalogue,
    is_written: IsWritten<'_>,
    role: &str,
) -> Result<Vec<MissingPrivilege>, postgres::Error> {
    let is_concerned =
        |owner: &Option<(TableName, usize)>| owner.as_ref().is_some_and(|(table, _)| is_written(table) == Some(true));
    let concerned = catalogue.sequences.iter().filter(|sequence| is_concerned(&sequence.owner));
    let names: Vec<&str> = concerned.map(|sequence| sequence.name.as_str()).collect();
    let mut lacking = Lacking::new();
    for row in session.query(OF_SEQUENCES, &[&names])? {
        let (schema, name) = (row.get::<_, String>(0), TableName::quoted(row.get::<_, String>(1)));
        if !row.get::<_, bool>(2) {
            note(&mut lacking, Need::Backup, &schema, "SELECT", &name);
        }
        if !row.get::<_, bool>(3) {
            note(&mut lacking, Need::Restore, &schema, "UPDATE", &name);
        }
    }
    Ok(grants(lacking, "SEQUENCE ", role))
}

/// Large objects, where rows of sites can refer to some: read for a snapshot, made again as their owner's.
fn of_objects(
    session: &mut Session,
    catalogue: &Catalogue,
    is_written: IsWritten<'_>,
    role: &str,
) -> Result<Vec<MissingPrivilege>, postgres::Error> {
    let mut concerned = catalogue.tables.values().filter(|table| is_written(&table.name) == Some(true));
    if !concerned.any(|table| table.columns.iter().any(|column| column.is_large_object)) {
        return Ok(Vec::new());
    }
    let mut missing = Vec::new();
    let query = format!(
        "SELECT count(*), (array_agg(m.oid ORDER BY m.oid))[:{OBJECTS_MAX}] \
         FROM pg_catalog.pg_largeobject_metadata m WHERE NOT {}",
        may_read()
    );
    let row = session.query_one(&query, &[])?;
    let (hidden, some): (i64, Option<Vec<u32>>) = (row.get(0), row.get(1));
    if let Some(some) = some {
        let names: Vec<String> = some.iter().map(ToString::to_string).collect();
        let statement = match usize::try_from(hidden) {
            Ok(hidden) if hidden == names.len() => {
                format!("GRANT SELECT ON LARGE OBJECT {} TO {role};", names.join(", "))
            }
            _ => format!("GRANT pg_read_all_data TO {role};"),
        };
        let what = format!("lacks SELECT on large object {}, {hidden} in all", some_of(&names));
        missing.push(MissingPrivilege { needed_for: Need::Backup, what, statement });
    }
    let owners = "SELECT DISTINCT quote_ident(r.rolname) FROM pg_catalog.pg_largeobject_metadata m \
                  JOIN pg_roles r ON r.oid = m.lomowner WHERE NOT r.rolsuper AND NOT pg_has_role(r.oid, 'MEMBER') ORDER BY 1";
    for row in session.query(owners, &[])? {
        let owner: String = row.get(0);
        let what = format!("may not make or overwrite large objects that {owner} owns");
        let statement = format!("GRANT {owner} TO {role};");
        missing.push(MissingPrivilege { needed_for: Need::Restore, what, statement });
    }
    Ok(missing)
}

fn note(lacking: &mut Lacking, need: Need, schema: &str, privileges: &str, name: &TableName) {
    lacking.entry((need, schema.to_owned(), privileges.to_owned())).or_default().push(name.to_string());
}

/// One statement for all that lack the same in one schema.
fn grants(lacking: Lacking, kind: &str, role: &str) -> Vec<MissingPrivilege> {
    let grant = |((needed_for, _, privileges), names): ((Need, String, String), Vec<String>)| MissingPrivilege {
        needed_for,
        what: format!("lacks {privileges} on {}{}", kind.to_lowercase(), some_of(&names)),
        statement: format!("GRANT {privileges} ON {kind}{} TO {role};", names.join(", ")),
    };
    lacking.into_iter().map(grant).collect()
}

fn some_of(names: &[String]) -> String {
    const NAMED_MAX: usize = 3;
    let more = names.len().saturating_sub(NAMED_MAX);
    let named = names[..names.len() - more].join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}
