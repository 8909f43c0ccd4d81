//! The publications: which tables the slot shows, and what of them.
//!
//! ```text
//! lifeboat_app          insert, update, delete, truncate   tables that hold rows of sites and tell old rows
//! lifeboat_app_inserts  insert                             those that do not: snapshots alone capture them
//! ```
//!
//! Invariant (no-write-refused): no table is published for updates or deletions unless it, and every partition
//! of it, has a usable replica identity. The server refuses both on any other, to everybody.
//!
//! So the tables are named one by one; never all of a database or of a schema, where tomorrow's table would
//! be a trap. Both are made before the slot: the server reads them as they were when a change was made.
//!
//! What is not here: identities are looked at, never changed: that is for the operator, because it locks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use lifeboat_model::Fault;
use postgres::error::SqlState;

use super::session::quoted;
use crate::Error;
use crate::postgres::{Catalogue, Session, Table, TableKind, TableName};

const ALL: &str = "insert, update, delete, truncate";
const INSERTS: &str = "insert";

/// What the stream will show of a database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Coverage {
    /// Everything, with what stands behind FROM.
    pub followed: BTreeMap<TableName, String>,
    /// Inserts alone.
    pub inserts: BTreeMap<TableName, String>,
    /// Tables of sites whose changes are not, or not all, in the stream: captured by snapshots only.
    pub snapshots_only: Vec<SnapshotsOnly>,
}

impl Coverage {
    /// Tables whose changes are not, or not all, in the stream.
    pub fn partly(&self) -> BTreeSet<String> {
        self.snapshots_only.iter().map(|only| only.table.as_str().to_owned()).collect()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotsOnly {
    pub table: TableName,
    /// Why, and what would change it.
    pub reason: String,
}

/// Something about a publication that is not as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    Missing {
        publication: String,
    },
    ForAllTables {
        publication: String,
    },
    HasSchema {
        publication: String,
        schema: String,
    },
    Operations {
        publication: String,
        found: String,
    },
    NotViaRoot {
        publication: String,
    },
    LacksTable {
        publication: String,
        table: TableName,
    },
    HasTable {
        publication: String,
        table: TableName,
    },
    /// It shows only some rows, or only some columns.
    Filtered {
        publication: String,
        table: TableName,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Difference::*;
        match self {
            Missing { publication } => write!(f, "there is none: publication=`{publication}`"),
            ForAllTables { publication } => write!(f, "it is for all tables: publication=`{publication}`"),
            HasSchema { publication, schema } => {
                write!(f, "it is for all tables of a schema: publication=`{publication}`, schema=`{schema}`")
            }
            Operations { publication, found } => {
                write!(f, "other operations are published: publication=`{publication}`, found=`{found}`")
            }
            NotViaRoot { publication } => write!(f, "partitions go by their own names: publication=`{publication}`"),
            LacksTable { publication, table } => {
                write!(f, "a table is missing: publication=`{publication}`, table=`{table}`")
            }
            HasTable { publication, table } => {
                write!(f, "a table is too much: publication=`{publication}`, table=`{table}`")
            }
            Filtered { publication, table } => {
                write!(f, "a table is not shown whole: publication=`{publication}`, table=`{table}`")
            }
        }
    }
}

/// The names of both publications.
pub fn publication_names(name: &str) -> [String; 2] {
    [name.to_owned(), format!("{name}_inserts")]
}

/// Decides for each table that holds rows of sites how much of it can be followed.
pub fn coverage(
    session: &mut Session,
    catalogue: &Catalogue,
    is_of_sites: &dyn Fn(&Table) -> bool,
) -> Result<Coverage, Error> {
    let rows = session.query(IDENTITIES, &[]);
    let rows = rows.map_err(|error| session.failed("cannot look at the tables' replica identities", &error))?;
    let trouble: BTreeMap<u32, Option<String>> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut coverage = Coverage::default();
    for table in catalogue.tables.values().filter(|table| is_of_sites(table)) {
        let unpublished = match table.kind {
            TableKind::Foreign => Some("a foreign table: its changes are made elsewhere"),
            _ if table.is_unlogged => Some("unlogged: its changes are in no log; ALTER TABLE … SET LOGGED"),
            _ => None,
        };
        let reason = match (unpublished, trouble.get(&table.oid)) {
            (Some(reason), _) => reason.to_owned(),
            (None, Some(None)) => {
                coverage.followed.insert(table.name.clone(), table.from_item());
                continue;
            }
            (None, Some(Some(reason))) => {
                coverage.inserts.insert(table.name.clone(), table.from_item());
                reason.clone()
            }
            (None, None) => continue, // dropped since the catalogue was read
        };
        coverage.snapshots_only.push(SnapshotsOnly { table: table.name.clone(), reason });
    }
    Ok(coverage)
}

/// For each table, with all partitions of it: why an old row would not be told; NULL: it is.
const IDENTITIES: &str = "
    WITH members AS (
        SELECT c.oid AS root, m.oid AS member, c.relreplident AS wanted, m.relreplident AS identity, m.relkind,
            CASE m.relreplident WHEN 'f' THEN true WHEN 'n' THEN false ELSE EXISTS (
                SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = m.oid AND i.indisvalid AND i.indimmediate
                    AND CASE m.relreplident WHEN 'd' THEN i.indisprimary ELSE i.indisreplident END) END AS is_usable
        FROM pg_catalog.pg_class c
        CROSS JOIN LATERAL (SELECT c.oid AS oid UNION
            SELECT relid FROM pg_catalog.pg_partition_tree(c.oid) WHERE c.relkind = 'p') t
        JOIN pg_catalog.pg_class m ON m.oid = t.oid
        WHERE c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition AND c.relpersistence <> 't')
    SELECT root, CASE
        WHEN bool_or(relkind = 'f') AND count(*) > 1 THEN 'a partition of it is a foreign table'
        WHEN NOT bool_and(is_usable) AND count(*) = 1
            THEN 'it has no replica identity: ALTER TABLE … ADD PRIMARY KEY, or REPLICA IDENTITY USING INDEX'
        WHEN NOT bool_and(is_usable)
            THEN 'it or a partition of it has no replica identity: ALTER TABLE … ADD PRIMARY KEY'
        WHEN NOT bool_and(identity = wanted)
            THEN 'a partition''s replica identity is not its own: ALTER TABLE … REPLICA IDENTITY, the same for all'
        END
    FROM members GROUP BY root";

/// How a publication is, and how it is to be.
struct Published {
    is_for_all_tables: bool,
    via_root: bool,
    operations: String,
    schemas: Vec<String>,
    /// Whether each is shown whole.
    tables: BTreeMap<TableName, bool>,
}

/// What is not as it is wanted: before the first set-up everything, later what somebody has changed by hand,
/// and tables that are new.
pub fn differences(session: &mut Session, name: &str, coverage: &Coverage) -> Result<Vec<Difference>, Error> {
    let mut all = Vec::new();
    for (publication, operations, tables) in parts(name, coverage) {
        let found = look_up(session, &publication)?;
        all.extend(compare(&publication, operations, tables, found.as_ref()));
    }
    Ok(all)
}

/// Makes both publications as they are wanted, and says what was not.
pub fn set_up(session: &mut Session, name: &str, coverage: &Coverage) -> Result<Vec<Difference>, Error> {
    let mut all = Vec::new();
    let mut statements = Vec::new();
    for (publication, operations, tables) in parts(name, coverage) {
        let found = look_up(session, &publication)?;
        let differences = compare(&publication, operations, tables, found.as_ref());
        statements.extend(mend(&publication, operations, tables, &differences));
        all.extend(differences);
    }
    if statements.is_empty() {
        return Ok(all);
    }
    // In one transaction: the stream never sees a half of it.
    if let Err(error) = session.batch_execute(&format!("BEGIN; {}; COMMIT", statements.join("; "))) {
        let _ = session.batch_execute("ROLLBACK");
        return Err(not_set_up(session, coverage, &error));
    }
    Ok(all)
}

/// Of the message that says that a table joined which is one site's own: the table, and after a line break whether it
/// had rows by then.
pub const JOINED: &str = "lifeboat.joined";
/// In such a message.
pub const WITH_ROWS: &str = "with rows";

/// Shows a table from now on, if it has no row yet, or is one site's own; whether it is shown. Nobody writes to
/// it meanwhile.
pub(super) fn join(
    session: &mut Session,
    name: &str,
    coverage: &Coverage,
    (table, is_own): (&TableName, bool),
) -> Result<bool, Error> {
    let [all, inserts] = publication_names(name);
    let Some((publication, item)) = (coverage.followed.get(table).map(|item| (all, item)))
        .or_else(|| coverage.inserts.get(table).map(|item| (inserts, item)))
    else {
        return Ok(true); // dropped since
    };
    let mut ask = || {
        // Whoever writes has ended when the lock is held, and is seen by the statement after it.
        session.batch_execute(&format!("BEGIN; LOCK TABLE {item} IN SHARE ROW EXCLUSIVE MODE"))?;
        let is_empty = session.query_one(&format!("SELECT NOT EXISTS (SELECT FROM {item})"), &[])?.get(0);
        if is_empty || is_own {
            session.batch_execute(&format!("ALTER PUBLICATION {} ADD TABLE {item}", quoted(&publication)))?;
        }
        if is_own {
            let content = format!("{table}\n{}", if is_empty { "empty" } else { WITH_ROWS });
            session.execute("SELECT pg_logical_emit_message(true, $1, $2)", &[&JOINED, &content])?;
        }
        session.batch_execute("COMMIT")?;
        Ok(is_empty || is_own)
    };
    let joined: Result<bool, postgres::Error> = ask();
    joined.map_err(|error| {
        let _ = session.batch_execute("ROLLBACK");
        not_set_up(session, coverage, &error)
    })
}

/// Drops both publications, if they are there.
pub fn take_down(session: &mut Session, name: &str) -> Result<(), Error> {
    let names = publication_names(name).map(|name| quoted(&name)).join(", ");
    let done = session.batch_execute(&format!("DROP PUBLICATION IF EXISTS {names}"));
    done.map_err(|error| session.failed("cannot drop the publications", &error))
}

type Tables = BTreeMap<TableName, String>;

fn parts<'a>(name: &str, coverage: &'a Coverage) -> [(String, &'static str, &'a Tables); 2] {
    let [all, inserts] = publication_names(name);
    [(all, ALL, &coverage.followed), (inserts, INSERTS, &coverage.inserts)]
}

fn look_up(session: &mut Session, publication: &str) -> Result<Option<Published>, Error> {
    let facts = "SELECT p.puballtables, p.pubviaroot, concat_ws(', ', CASE WHEN p.pubinsert THEN 'insert' END,
            CASE WHEN p.pubupdate THEN 'update' END, CASE WHEN p.pubdelete THEN 'delete' END,
            CASE WHEN p.pubtruncate THEN 'truncate' END), current_setting('server_version_num')::int4
        FROM pg_catalog.pg_publication p WHERE p.pubname = $1";
    let tables = "SELECT format('%I.%I', n.nspname, c.relname),
            to_jsonb(r) ->> 'prqual' IS NULL AND to_jsonb(r) ->> 'prattrs' IS NULL
        FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
        JOIN pg_catalog.pg_class c ON c.oid = r.prrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE p.pubname = $1";
    let schemas = "SELECT n.nspname::text FROM pg_catalog.pg_publication p
        JOIN pg_catalog.pg_publication_namespace s ON s.pnpubid = p.oid
        JOIN pg_catalog.pg_namespace n ON n.oid = s.pnnspid WHERE p.pubname = $1 ORDER BY 1";
    let mut ask = || {
        let Some(row) = session.query_opt(facts, &[&publication])? else { return Ok(None) };
        let found = session.query(tables, &[&publication])?;
        let knows_schemas = row.get::<_, i32>(3) >= 150_000;
        let schemas = if knows_schemas { session.query(schemas, &[&publication])? } else { Vec::new() };
        Ok(Some(Published {
            is_for_all_tables: row.get(0),
            via_root: row.get(1),
            operations: row.get(2),
            schemas: schemas.iter().map(|row| row.get(0)).collect(),
            tables: found.iter().map(|row| (TableName::quoted(row.get::<_, String>(0)), row.get(1))).collect(),
        }))
    };
    ask().map_err(|error: postgres::Error| session.failed("cannot look at the publication", &error))
}

fn compare(publication: &str, operations: &str, wanted: &Tables, found: Option<&Published>) -> Vec<Difference> {
    let publication = publication.to_owned();
    let Some(found) = found else { return vec![Difference::Missing { publication }] };
    if found.is_for_all_tables {
        return vec![Difference::ForAllTables { publication }];
    }
    let mut all = Vec::new();
    if found.operations != operations {
        all.push(Difference::Operations { publication: publication.clone(), found: found.operations.clone() });
    }
    if !found.via_root {
        all.push(Difference::NotViaRoot { publication: publication.clone() });
    }
    let schemas = found.schemas.iter().cloned();
    all.extend(schemas.map(|schema| Difference::HasSchema { publication: publication.clone(), schema }));
    for table in wanted.keys() {
        let (publication, table) = (publication.clone(), table.clone());
        match found.tables.get(&table) {
            None => all.push(Difference::LacksTable { publication, table }),
            Some(false) => all.push(Difference::Filtered { publication, table }),
            Some(true) => {}
        }
    }
    let surplus = found.tables.keys().filter(|table| !wanted.contains_key(*table)).cloned();
    all.extend(surplus.map(|table| Difference::HasTable { publication: publication.clone(), table }));
    all
}

/// The statements after which nothing differs. What must not be published is taken out first.
fn mend(publication: &str, operations: &str, wanted: &Tables, differences: &[Difference]) -> Vec<String> {
    let name = quoted(publication);
    let item = |table: &TableName| wanted.get(table).cloned().unwrap_or_else(|| format!("ONLY {table}"));
    let options = format!("publish = '{operations}', publish_via_partition_root = true");
    let create = || {
        let tables: Vec<String> = wanted.values().cloned().collect();
        let list = if tables.is_empty() { String::new() } else { format!(" FOR TABLE {}", tables.join(", ")) };
        format!("CREATE PUBLICATION {name}{list} WITH ({options})")
    };
    let (mut first, mut last, mut has_options) = (Vec::new(), Vec::new(), false);
    for difference in differences {
        match difference {
            Difference::Missing { .. } => last.push(create()),
            Difference::ForAllTables { .. } => {
                first.push(format!("DROP PUBLICATION {name}"));
                last.push(create());
            }
            Difference::HasSchema { schema, .. } => {
                first.push(format!("ALTER PUBLICATION {name} DROP TABLES IN SCHEMA {}", quoted(schema)));
            }
            Difference::Operations { .. } | Difference::NotViaRoot { .. } => has_options = true,
            Difference::LacksTable { table, .. } => {
                last.push(format!("ALTER PUBLICATION {name} ADD TABLE {}", item(table)));
            }
            Difference::HasTable { table, .. } => {
                first.push(format!("ALTER PUBLICATION {name} DROP TABLE {}", item(table)));
            }
            Difference::Filtered { table, .. } => {
                first.push(format!("ALTER PUBLICATION {name} DROP TABLE {}", item(table)));
                last.push(format!("ALTER PUBLICATION {name} ADD TABLE {}", item(table)));
            }
        }
    }
    if has_options {
        first.push(format!("ALTER PUBLICATION {name} SET ({options})"));
    }
    first.extend(last);
    first
}

/// A publication takes CREATE on the database, and its tables' owners.
fn not_set_up(session: &mut Session, coverage: &Coverage, error: &postgres::Error) -> Error {
    let mut failed = session.failed("cannot set up the publications", error);
    if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE)
        && let Ok(lacking) = lacking(session, coverage)
        && let Error::Database { hint, fault, .. } = &mut failed
    {
        *fault = Fault::Operator;
        if !lacking.is_empty() {
            *hint = lacking.join("; ");
        }
    }
    failed
}

/// The statements that give the role what it lacks.
fn lacking(session: &mut Session, coverage: &Coverage) -> Result<Vec<String>, postgres::Error> {
    let sql = "SELECT format('GRANT CREATE ON DATABASE %I TO %I', current_database(), current_user)
        WHERE NOT has_database_privilege(current_database(), 'CREATE')
        UNION ALL
        SELECT DISTINCT format('GRANT %I TO %I', pg_get_userbyid(c.relowner), current_user)
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE format('%I.%I', n.nspname, c.relname) = ANY ($1) AND NOT pg_has_role(c.relowner, 'USAGE')";
    let tables: Vec<&str> = coverage.followed.keys().chain(coverage.inserts.keys()).map(TableName::as_str).collect();
    Ok(session.query(sql, &[&tables])?.iter().map(|row| row.get(0)).collect())
}
