//! `RowsBeside`: one part's rows in a schema of their own, beside the live tables, to be looked at.
//!
//! ```text
//! begin ▸ write_at… ▸ verify                              ▸ switch
//! lifeboat_stage_…, spool    plain tables, digests read back    one transaction: name, mark, revoke
//! ```
//!
//! The schema appears whole, marked and read-only, or not at all. The staging schema's name follows
//! from what is copied: the next run of the same command finds what a killed one left, and drops it.
//! The mark is the schema's comment; sources pass over schemas that have one.
//!
//! What is not here: foreign keys, defaults, triggers, indexes but the primary key. Live tables are
//! neither read nor written.

use postgres::error::SqlState;

use super::super::classify::parts;
use super::super::describe::{ColumnDefinition, TableDefinition, literal};
use super::super::export::About;
use super::super::{Server, Session};
use super::WantedTable;
use super::fail::{Ask, Outcome};
use super::leftovers::{self, Keeper};
use super::spool::Spool;
use super::staging;
use crate::Error;

/// What the comment of a copy's schema begins with; `catalogue/queries.rs` passes over such schemas.
pub const MARK: &str = "lifeboat: copy of ";
/// The server cuts longer names off.
const NAME_BYTES_MAX: usize = 63;
const ACTION: &str = "cannot make a copy beside the live tables";

/// A schema, or a database, that holds a copy, and what its comment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedSchema {
    /// As it stands in SQL.
    pub name: String,
    pub comment: String,
    pub is_database: bool,
}

/// What has the name of a copy now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Nothing,
    /// This very copy, whole.
    Same,
    SomethingElse,
}

/// One part's rows on their way into a schema of their own.
pub struct RowsBeside {
    server: Server,
    name: String,
    about: About,
    tables: Vec<CopiedTable>,
    spool: Option<Spool>,
    is_verified: bool,
    /// Says that the staging schema is worked with: a restore that begins meanwhile sweeps others away.
    keeper: Option<Keeper>,
}

struct CopiedTable {
    wanted: WantedTable,
    /// Within its schema, as it stands in SQL.
    name: String,
}

impl RowsBeside {
    /// `name`: of the schema, not quoted.
    pub fn new(server: &Server, name: &str, about: About) -> Result<Self, Error> {
        let is_reserved =
            name.starts_with("pg_") || name.starts_with("lifeboat_stage_") || name == "information_schema";
        if is_reserved || name.len() > NAME_BYTES_MAX || name.contains('\0') {
            return Err(Error::Conflict {
                path: name.to_owned(),
                detail: "no schema of a copy can have this name".into(),
                hint: format!(
                    "give a name of at most {NAME_BYTES_MAX} bytes that does not begin with pg_ or lifeboat_stage_"
                ),
            });
        }
        let server = server.clone();
        Ok(Self {
            server,
            name: name.to_owned(),
            about,
            tables: Vec::new(),
            spool: None,
            is_verified: false,
            keeper: None,
        })
    }

    /// What has the name already.
    pub fn look(&self, wanted: &[WantedTable]) -> Result<Found, Error> {
        let mut session = self.server.connect()?;
        let query = format!(
            "SELECT coalesce(obj_description(oid, 'pg_namespace'), '') FROM pg_namespace WHERE nspname = {}",
            literal(&self.name)
        );
        let rows = session.rows(ACTION, &query)?;
        let Some(row) = rows.first() else { return Ok(Found::Nothing) };
        if row.get::<_, String>(0) != self.mark() {
            return Ok(Found::SomethingElse);
        }
        for table in named(wanted) {
            match self.is_whole(&mut session, &quoted(&self.name), &table) {
                Ok(true) => {}
                Err(fail) if fail.code != Some(SqlState::UNDEFINED_TABLE) => return Err(fail.into()),
                _ => return Ok(Found::SomethingElse),
            }
        }
        Ok(Found::Same)
    }

    /// The name as it stands in SQL.
    pub fn quoted_name(&self) -> String {
        quoted(&self.name)
    }

    /// Makes the staging schema and its tables anew, and an empty spool.
    pub fn begin(&mut self, wanted: &[WantedTable]) -> Result<(), Error> {
        self.is_verified = false;
        self.tables = named(wanted);
        let (stage, mut session) = (self.stage(), staging::connect(&self.server)?);
        may_create(&mut session)?;
        self.keeper = None;
        self.keeper = Some(leftovers::keep(&self.server, &stage)?);
        staging::drop_schema(&mut session, &stage)?;
        session.run(ACTION, &format!("CREATE SCHEMA {stage}"))?;
        for table in &self.tables {
            create(&mut session, &stage, table)?;
        }
        self.spool = Some(Spool::create(wanted.iter().map(|table| table.size))?);
        Ok(())
    }

    /// Takes bytes of a table's content (by its place in what [`Self::begin`] was given), from any
    /// thread and in any order.
    pub fn write_at(&self, table: usize, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let spool = self.spool.as_ref().ok_or_else(|| self.not_begun())?;
        spool.write_at(table, offset, bytes)
    }

    /// Loads every table and proves that it holds what the snapshot says.
    pub fn verify(&mut self) -> Result<(), Error> {
        let spool = self.spool.take().ok_or_else(|| self.not_begun())?;
        let (stage, mut session) = (self.stage(), staging::connect(&self.server)?);
        for (at, table) in self.tables.iter().enumerate() {
            load(&mut session, &stage, table, (&spool, at))?;
            if !self.is_whole(&mut session, &stage, table)? {
                return Err(Error::Damaged {
                    path: table.wanted.name.to_string(),
                    detail: "what was loaded is not what the snapshot says".into(),
                    hint: "a type has changed since, or the server is of another version: --export needs no types of \
                           the database; or run `lifeboat check` on the site"
                        .into(),
                });
            }
        }
        self.is_verified = true;
        Ok(())
    }

    /// Gives the schema its name and mark, and takes every privilege to write away.
    pub fn switch(&mut self) -> Result<(), Error> {
        if !std::mem::take(&mut self.is_verified) {
            return Err(self.not_begun());
        }
        let (stage, name) = (self.stage(), quoted(&self.name));
        let mut session = staging::connect(&self.server)?;
        let others = others(&mut session, &stage)?;
        let mut statements = format!(
            "BEGIN; ALTER SCHEMA {stage} RENAME TO {name}; COMMENT ON SCHEMA {name} IS {}; \
             REVOKE CREATE ON SCHEMA {name} FROM CURRENT_USER; \
             REVOKE INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER ON ALL TABLES IN SCHEMA {name} FROM CURRENT_USER;",
            literal(&self.mark())
        );
        for other in others {
            statements.push_str(&format!(
                "REVOKE ALL ON SCHEMA {name} FROM {other}; REVOKE ALL ON ALL TABLES IN SCHEMA {name} FROM {other};"
            ));
        }
        match session.run(ACTION, &format!("{statements} COMMIT")) {
            Err(fail) if fail.code == Some(SqlState::DUPLICATE_SCHEMA) => Err(Error::Conflict {
                path: self.name.clone(),
                detail: "a schema of this name was made meanwhile".into(),
                hint: "nothing was changed: give another name".into(),
            }),
            other => Ok(other?),
        }
    }

    /// Drops what is staged.
    pub fn discard_staging(&self) -> Result<(), Error> {
        Ok(staging::drop_schema(&mut staging::connect(&self.server)?, &self.stage())?)
    }

    fn mark(&self) -> String {
        let About { site, source, at, snapshot } = &self.about;
        format!("{MARK}site=`{site}`, source=`{source}`, at=`{at}`, snapshot=`{snapshot}`")
    }

    /// The same for every run that makes this very copy.
    fn stage(&self) -> String {
        let hash = blake3::hash(format!("{}\n{}", self.mark(), self.name).as_bytes());
        let hex: String = hash.as_bytes().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("lifeboat_stage_{hex}")
    }

    fn is_whole(&self, session: &mut Session, schema: &str, table: &CopiedTable) -> Outcome<bool> {
        let definition = &table.wanted.definition;
        let item = format!("{schema}.{}", table.name);
        let columns: Vec<String> =
            definition.columns.iter().map(|column| format!("t.{}", quoted(&column.name))).collect();
        let columns = columns.join(", ");
        let order = order(session, &item, definition, &columns)?;
        let query = format!("SELECT {columns} FROM {item} t ORDER BY {order}");
        let content = staging::digest(session, &format!("cannot read the copy of `{}`", definition.name), &query)?;
        Ok(content.digests.are(&table.wanted.digest) && content.rows == table.wanted.rows)
    }

    fn not_begun(&self) -> Error {
        Error::Database {
            source_name: self.server.source_name().to_owned(),
            action: ACTION.into(),
            detail: "nothing has begun".into(),
            hint: String::new(),
            fault: lifeboat_model::Fault::Bug,
        }
    }
}

/// The schemas that hold what a restore has staged: one that runs now, or was killed.
pub fn staging_schemas(session: &mut Session) -> Result<Vec<String>, Error> {
    let query = "SELECT nspname::text FROM pg_namespace WHERE nspname ~ '^lifeboat_stage_[0-9a-f]{16}$' ORDER BY 1";
    let rows = session.rows("cannot look for what is staged", query)?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The schemas that hold copies.
pub fn copied_schemas(session: &mut Session) -> Result<Vec<CopiedSchema>, Error> {
    let query = format!(
        "SELECT quote_ident(nspname), obj_description(oid, 'pg_namespace') FROM pg_namespace \
         WHERE obj_description(oid, 'pg_namespace') LIKE '{MARK}%' ORDER BY 1"
    );
    let rows = session.rows("cannot look for copies", &query)?;
    Ok(rows.iter().map(|row| CopiedSchema { name: row.get(0), comment: row.get(1), is_database: false }).collect())
}

/// The databases that are copies.
pub fn copied_databases(session: &mut Session) -> Result<Vec<CopiedSchema>, Error> {
    let query = format!(
        "SELECT quote_ident(datname), shobj_description(oid, 'pg_database') FROM pg_database \
         WHERE shobj_description(oid, 'pg_database') LIKE '{MARK}%' ORDER BY 1"
    );
    let rows = session.rows("cannot look for copies", &query)?;
    Ok(rows.iter().map(|row| CopiedSchema { name: row.get(0), comment: row.get(1), is_database: true }).collect())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Each table by its own name; where two schemas have tables of one name, with the schema's before it.
fn named(wanted: &[WantedTable]) -> Vec<CopiedTable> {
    let full = |table: &WantedTable| parts(table.name.as_str()).unwrap_or_else(|| vec![table.name.to_string()]);
    let own = |table: &WantedTable| full(table).pop().unwrap_or_default();
    let name = |(at, table): (usize, &WantedTable)| {
        let is_alone = wanted.iter().filter(|other| own(other) == own(table)).count() == 1;
        let long = full(table).join(".");
        match (is_alone, long.len() > NAME_BYTES_MAX) {
            (true, _) => own(table),
            (false, false) => long,
            (false, true) => format!("table {at}"),
        }
    };
    let one = |(at, table)| CopiedTable { wanted: WantedTable::clone(table), name: quoted(&name((at, table))) };
    wanted.iter().enumerate().map(one).collect()
}

/// The database's own answer names no statement that would help.
fn may_create(session: &mut Session) -> Outcome<()> {
    let query = "SELECT has_database_privilege(current_database(), 'CREATE'), \
                 format('GRANT CREATE ON DATABASE %I TO %I;', current_database(), current_user), pg_is_in_recovery()";
    let rows = session.rows(ACTION, query)?;
    let Some(row) = rows.first() else { return Ok(()) };
    let (may, grant, is_standby): (bool, String, bool) = (row.get(0), row.get(1), row.get(2));
    let (detail, hint) = match (is_standby, may) {
        (true, _) => ("the server is a standby and takes no writes", "name the primary in the source's `url`".into()),
        (false, true) => return Ok(()),
        (false, false) => ("the role may not make a schema in the database", grant),
    };
    let error = Error::Database {
        source_name: session.source_name().to_owned(),
        action: ACTION.into(),
        detail: detail.into(),
        hint,
        fault: lifeboat_model::Fault::Operator,
    };
    Err(error.into())
}

fn create(session: &mut Session, stage: &str, table: &CopiedTable) -> Outcome<()> {
    let definition = &table.wanted.definition;
    let column = |column: &ColumnDefinition| {
        format!("{} {}{}", quoted(&column.name), column.type_name, if column.not_null { " NOT NULL" } else { "" })
    };
    let columns: Vec<String> = definition.columns.iter().map(column).collect();
    let action = format!("cannot make a table for the copy of `{}`", definition.name);
    let made = session.run(&action, &format!("CREATE TABLE {stage}.{} ({})", table.name, columns.join(", ")));
    match made {
        Err(fail) if matches!(fail.code, Some(SqlState::UNDEFINED_OBJECT | SqlState::INVALID_SCHEMA_NAME)) => {
            let error = Error::Conflict {
                path: definition.name.clone(),
                detail: "a type that the table had is gone from the database".into(),
                hint: "make the type in that database, or write files instead (--export DIR), which needs none".into(),
            };
            Err(error.into())
        }
        other => other,
    }
}

fn load(session: &mut Session, stage: &str, table: &CopiedTable, (spool, at): (&Spool, usize)) -> Outcome<()> {
    let definition = &table.wanted.definition;
    let columns: Vec<String> = definition.columns.iter().map(|column| quoted(&column.name)).collect();
    let item = format!("{stage}.{}", table.name);
    let action = format!("cannot load the copy of `{}`", definition.name);
    let statement = format!("COPY {item} ({}) FROM STDIN", columns.join(", "));
    staging::copy_from(session, &action, &statement, (spool, at))?;
    if !definition.primary_key.is_empty() {
        let key: Vec<String> = definition.primary_key.iter().map(|column| quoted(column)).collect();
        session.run(&action, &format!("ALTER TABLE {item} ADD PRIMARY KEY ({})", key.join(", ")))?;
    }
    session.run(&action, &format!("ANALYZE {item}"))
}

/// The order of the snapshot's rows, as [`super::super::describe::order_by`] has it.
fn order(session: &mut Session, item: &str, definition: &TableDefinition, columns: &str) -> Outcome<String> {
    if definition.primary_key.is_empty() {
        return Ok(format!(r#"ROW({columns})::text COLLATE pg_catalog."C""#));
    }
    let query = format!(
        "SELECT attname::text FROM pg_attribute WHERE attrelid = {}::pg_catalog.regclass AND attnum > 0 AND attcollation <> 0",
        literal(item)
    );
    let rows = session.rows("cannot look at the copy's columns", &query)?;
    let collatable: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let one = |column: &String| {
        let collate = if collatable.contains(column) { r#" COLLATE pg_catalog."C""# } else { "" };
        format!("t.{}{collate}", quoted(column))
    };
    Ok(definition.primary_key.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// Whom default privileges have given something.
fn others(session: &mut Session, schema: &str) -> Outcome<Vec<String>> {
    let query = format!(
        "SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END \
         FROM (SELECT nspacl AS acl, nspowner AS owner FROM pg_namespace WHERE nspname = '{schema}' UNION ALL \
            SELECT c.relacl, c.relowner FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
            WHERE n.nspname = '{schema}') o, aclexplode(o.acl) a WHERE a.grantee <> o.owner"
    );
    let rows = session.rows("cannot look at the copy's privileges", &query)?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
