//! Tenants that are equal and written otherwise: `1` and `1.0` of a numeric, `Acme` and `ACME` of a
//! case-insensitive text.
//!
//! The text form of a tenant is the site's id, so such rows would be two sites' by their text and one's
//! by their value. Which one is meant nobody knows: a database that has them is refused.

use std::collections::BTreeMap;

use super::{Class, Classes};
use crate::postgres::{Column, TableName};

/// Types whose equal values are always written alike.
const ALIKE: &[&str] = &["smallint", "integer", "bigint", "uuid", "date", "boolean", "name", "oid", "bytea"];

impl Classes {
    /// Queries that each count tenants, or rows, of a table that are written otherwise than their like.
    /// Only for types that can be; `text_differs`: the database has collations by which texts that
    /// differ are equal.
    pub(in crate::postgres) fn spelling_queries(&self, text_differs: bool) -> Vec<(TableName, String)> {
        let tenants = self.tables.iter().filter_map(|(table, class)| match class {
            Class::Root { column } | Class::Direct { column } => Some((table, column)),
            _ => None,
        });
        let doubtful: Vec<(&TableName, &Column)> =
            tenants.filter(|(_, column)| is_doubtful(column, text_differs)).collect();
        let root = self.tables.iter().find_map(|(table, class)| match class {
            Class::Root { column } => Some((table, column)),
            _ => None,
        });
        let mut queries = Vec::new();
        let mut by_type: BTreeMap<String, (TableName, Vec<String>)> = BTreeMap::new();
        for (table, column) in doubtful {
            let (from, tenant) = (self.from(table), &column.quoted);
            if let Some((root_table, root_column)) = root.filter(|_| self.covered_by_root.contains(table)) {
                let (root_from, id) = (self.from(root_table), &root_column.quoted);
                let query = format!(
                    "SELECT count(*) FROM {from} t WHERE t.{tenant} IS NOT NULL AND NOT EXISTS (SELECT FROM {root_from} r \
                     WHERE r.{id}::text COLLATE \"C\" = t.{tenant}::text COLLATE \"C\")"
                );
                queries.push((table.clone(), query));
            }
            // Texts of two collations cannot be compared: each such table on its own.
            let of_type = if column.is_collatable { table.to_string() } else { column.type_name.clone() };
            let values = format!("SELECT t.{tenant} AS v, t.{tenant}::text COLLATE \"C\" AS x FROM {from} t");
            by_type.entry(of_type).or_insert_with(|| (table.clone(), Vec::new())).1.push(values);
        }
        queries.extend(by_type.into_values().map(|(table, values)| {
            let distinct = format!("SELECT DISTINCT v, x FROM ({}) u WHERE v IS NOT NULL", values.join(" UNION ALL "));
            (table, format!("SELECT count(*) FROM (SELECT FROM ({distinct}) d GROUP BY v HAVING count(*) > 1) g"))
        }));
        queries
    }
}

fn is_doubtful(column: &Column, text_differs: bool) -> bool {
    // An extension's type has an equality of its own, and may be collatable as citext is.
    if column.equals != "=" {
        return true;
    }
    if column.is_collatable {
        return text_differs;
    }
    !ALIKE.contains(&column.type_name.as_str())
}
