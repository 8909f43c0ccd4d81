//! Tables in which one site's rows can only be found by reading everybody's.
//!
//! A restore looks a site's rows up several times. With an index that begins with the column that
//! says whose they are it reads that site alone, however many others there are.

use std::collections::BTreeMap;

use super::classify::Class;
use super::{Catalogue, Classes, Session, Table, TableKind, TableName};
use crate::Error;

/// Fewer rows are read at once, index or not.
const FEW_ROWS: i64 = 1_000;

/// What a lookup begins with: the first columns of whole, valid indexes of the kinds that find equal values.
const FIRST_COLUMNS: &str = "
    SELECT format('%I.%I', n.nspname, c.relname), quote_ident(a.attname)
    FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam AND m.amname IN ('btree', 'hash')
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indisvalid AND i.indpred IS NULL";

/// The statement that would help, for each table that lacks an index.
pub(super) fn missing_indexes(
    session: &mut Session,
    catalogue: &Catalogue,
    classes: &Classes,
) -> Result<BTreeMap<TableName, String>, Error> {
    let rows = session.query(FIRST_COLUMNS, &[]);
    let rows = rows.map_err(|error| session.failed("cannot read the indexes", &error))?;
    let mut indexed: BTreeMap<TableName, Vec<String>> = BTreeMap::new();
    for row in rows {
        indexed.entry(TableName::quoted(row.get::<_, String>(0))).or_default().push(row.get(1));
    }
    let mut missing = BTreeMap::new();
    for (name, class) in classes.iter().filter(|(_, class)| class.is_of_sites()) {
        let Some(table) = catalogue.tables.get(name) else { continue };
        let is_indexed = |column: &String| indexed.get(name).is_some_and(|first| first.contains(column));
        let is_small = (0..FEW_ROWS).contains(&table.rows_estimate) && table.kind != TableKind::PartitionRoot;
        let lacking: Vec<String> = lookups(class)
            .into_iter()
            .filter(|columns| !is_small && !columns.iter().any(is_indexed))
            .map(|columns| statement(table, &columns))
            .collect();
        if !lacking.is_empty() {
            missing.insert(name.clone(), lacking.join(" "));
        }
    }
    Ok(missing)
}

/// The columns by which a site's rows are looked up, one list for each way to them.
fn lookups(class: &Class) -> Vec<Vec<String>> {
    match class {
        Class::Root { column } | Class::Direct { column } => vec![vec![column.quoted.clone()]],
        Class::Via { steps } => steps.iter().map(|step| step.child_columns.clone()).collect(),
        // Its targets are all referred to by the same columns.
        Class::Polymorphic { targets, .. } => {
            targets.iter().take(1).map(|(_, step)| step.child_columns.clone()).collect()
        }
        _ => Vec::new(),
    }
}

/// A partitioned table takes no index while others write; its partitions could be given theirs first.
fn statement(table: &Table, columns: &[String]) -> String {
    let way = if table.kind == TableKind::PartitionRoot { "" } else { " CONCURRENTLY" };
    format!("CREATE INDEX{way} ON {} ({});", table.name, columns.join(", "))
}
