//! Partitions: tables that hold rows of others, and come and go with them.
//!
//! Where nothing notes changes of structure, whole tables are looked at too: one that was written anew has another file.
//!
//! The stream names a partition's rows by the partitioned table. That a partition was attached or detached with rows,
//! dropped or emptied by itself, is in no change of a row.
//!
//! What is not here: what follows from it (`lifeboat-engine`).

use super::structure::{Leaf, are_noted};
use crate::Error;
use crate::postgres::PostgresSource;

/// Snapshot and all: `pg_partition_tree` would see what was attached since.
const LEAVES: &str = "
    WITH RECURSIVE tree AS (
        SELECT c.oid AS root, c.oid AS member FROM pg_catalog.pg_class c
            WHERE c.relkind = 'p' AND NOT c.relispartition
        UNION ALL
        SELECT t.root, i.inhrelid FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.member)
    SELECT format('%I.%I', n.nspname, r.relname), l.oid, l.relfilenode, pg_catalog.pg_relation_size(l.oid) > 0, false
    FROM tree t JOIN pg_catalog.pg_class l ON l.oid = t.member JOIN pg_catalog.pg_class r ON r.oid = t.root
        JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
    WHERE l.relkind = 'r'
    UNION ALL
    SELECT format('%I.%I', n.nspname, c.relname), c.oid, c.relfilenode, pg_catalog.pg_relation_size(c.oid) > 0, true
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND NOT c.relispartition AND c.relpersistence = 'p' AND NOT $1
        AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^lifeboat_'";

/// Columns by their numbers, and whether rows that were there before a column hold something in it. Of partitions not.
const SHAPES: &str = "
    SELECT format('%I.%I', n.nspname, c.relname), c.oid,
        coalesce(pg_catalog.string_agg(a.attnum || ' ' || a.atthasmissing::int || ' ' || a.attname, E'\\n' ORDER BY a.attnum), '')
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p'
        AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^lifeboat_'
    GROUP BY 1, 2";

/// What only a look can tell of a table where nothing notes changes of structure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// As SQL prints it.
    pub table: String,
    pub oid: u32,
    /// Line by line: a column's number, whether rows from before it hold something in it, and its name.
    pub columns: String,
}

/// How a database's partitions are, and whether each change of them is noted in the stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Partitions {
    /// Each with the partitioned table, as SQL prints it.
    pub leaves: Vec<(String, Leaf)>,
    pub are_noted: bool,
    /// Of all tables, where nothing is noted.
    pub shapes: Vec<Shape>,
}

impl PostgresSource {
    /// How they are now.
    pub fn partitions(&self) -> Result<Partitions, Error> {
        let mut session = self.server().connect()?;
        let are_noted = are_noted(&mut session)?;
        let leaves = leaves(&mut session, are_noted)?;
        let shapes = if are_noted { Vec::new() } else { shapes(&mut session)? };
        Ok(Partitions { leaves, are_noted, shapes })
    }
}

fn shapes(session: &mut crate::postgres::Session) -> Result<Vec<Shape>, Error> {
    let rows = session.query(SHAPES, &[]);
    let rows = rows.map_err(|error| session.failed("cannot look at the tables' columns", &error))?;
    Ok(rows.iter().map(|row| Shape { table: row.get(0), oid: row.get(1), columns: row.get(2) }).collect())
}

/// Those of the session's snapshot.
pub(super) fn leaves(session: &mut crate::postgres::Session, are_noted: bool) -> Result<Vec<(String, Leaf)>, Error> {
    let rows = session.query(LEAVES, &[&are_noted]);
    let rows = rows.map_err(|error| session.failed("cannot look at the tables' partitions", &error))?;
    let leaf = |row: &postgres::Row| {
        // It was dropped since: its file is not there.
        let has_rows = row.get::<_, Option<bool>>(3).unwrap_or(false);
        (row.get(0), Leaf { oid: row.get(1), file: row.get(2), has_rows, is_whole: row.get(4) })
    };
    Ok(rows.iter().map(leaf).collect())
}
