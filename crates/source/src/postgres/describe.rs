//! What a snapshot remembers of a part besides its rows, as JSON: read again at a restore, and by
//! people long after the program is gone.

use lifeboat_model::{ChangedColumn, ChangedTable, SiteId};
use serde::{Deserialize, Serialize};

use super::capture::{StructureColumn, TableColumns};
use super::{Catalogue, Column, Identity, Table, TableName, TenantOf};
use crate::Error;

/// Entry path of the [`PartDescription`].
pub const DESCRIPTION_PATH: &[u8] = b".lifeboat/part.json";

pub use super::large_objects::{LargeObjectDefinition, WantedLargeObject, large_object_of_path, large_object_path};
pub use super::structure::{DatabaseProperties, POST_DATA_PATH, PRE_DATA_PATH, ident};

/// One table, as it was when its rows were read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDefinition {
    /// As [`TableName`] prints it.
    pub name: String,
    /// The columns in the order in which each row of the content has them.
    pub columns: Vec<ColumnDefinition>,
    /// Raw names of the primary key's columns; empty: none.
    pub primary_key: Vec<String>,
    /// What the rows are ordered by, as SQL over the alias `t`.
    pub order: String,
    /// How it was told whose a row is, in words, where sites share the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnDefinition {
    /// As it is in the catalogue, not quoted.
    pub name: String,
    #[serde(rename = "type")]
    pub type_name: String,
    pub not_null: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_identity: bool,
    /// `attnum`: stays when the column is renamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<i16>,
}

/// The cut, and what is no table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartDescription {
    /// Version of this description.
    pub description: u32,
    pub server_version: u32,
    pub system_identifier: String,
    pub database: String,
    pub encoding: String,
    pub cut: Cut,
    pub sequences: Vec<SequenceState>,
    /// Of a database that is one site's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_properties: Option<DatabaseProperties>,
    /// Materialized views that showed nothing (WITH NO DATA), as [`TableName`] prints them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unfilled_views: Vec<String>,
    /// Statements that put a site's own schema into the publications that it was in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publications: Vec<String>,
}

/// The moment at which every row was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Where the log stood, read before the snapshot was taken; on a standby where replay stood.
    pub lsn: String,
    pub timeline: u32,
    /// The snapshot: `xmin:xmax:xip,…` as `pg_current_snapshot()` prints it; empty of a standby, which cannot tell.
    pub snapshot: String,
    /// The server's clock, RFC 3339 in UTC.
    pub clock: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceState {
    /// As [`TableName`] prints it.
    pub name: String,
    pub last_value: i64,
    pub is_called: bool,
    /// Table and raw column that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<(String, String)>,
}

impl TableDefinition {
    pub fn of(table: &Table) -> Self {
        let column = |column: &Column| ColumnDefinition {
            name: column.name.clone(),
            type_name: column.type_name.clone(),
            not_null: column.not_null,
            is_identity: matches!(column.identity, Some(Identity::Always | Identity::ByDefault)),
            number: Some(column.number),
        };
        let key = table.primary_key.iter().flatten().filter_map(|at| table.columns.get(*at));
        Self {
            name: table.name.as_str().to_owned(),
            columns: table.stored_columns().map(column).collect(),
            primary_key: key.map(|column| column.name.clone()).collect(),
            order: order_by(table),
            rule: None,
        }
    }

    /// Of a table that only notes of structure tell of.
    pub fn of_notes(noted: &TableColumns) -> Self {
        let column =
            |column: &StructureColumn| ChangedColumn { name: column.name.clone(), type_name: column.type_name.clone() };
        let columns = noted.columns.iter().map(column).collect();
        let mut definition = Self::of_changes(&ChangedTable { name: noted.table.clone(), columns, key: Vec::new() });
        for (column, noted) in definition.columns.iter_mut().zip(&noted.columns) {
            column.number = Some(noted.number);
        }
        definition
    }

    /// Of a table that only changes tell of.
    pub fn of_changes(table: &ChangedTable) -> Self {
        let column = |column: &ChangedColumn| ColumnDefinition {
            name: column.name.clone(),
            type_name: column.type_name.clone(),
            not_null: false,
            is_identity: false,
            number: None,
        };
        let key = table.key.iter().filter_map(|at| table.columns.get(*at));
        Self {
            name: table.name.clone(),
            columns: table.columns.iter().map(column).collect(),
            primary_key: key.map(|column| column.name.clone()).collect(),
            order: String::new(),
            rule: None,
        }
    }

    pub fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }

    /// From what a snapshot holds. Unknown keys are passed over: a later version may know more.
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(json).map_err(|error| unreadable("table", &error))
    }
}

impl PartDescription {
    pub fn new(catalogue: &Catalogue, cut: Cut, sequences: Vec<SequenceState>) -> Self {
        let server = &catalogue.server;
        Self {
            description: 1,
            server_version: server.version,
            system_identifier: server.system_identifier.clone(),
            database: server.database.clone(),
            encoding: server.encoding.clone(),
            cut,
            sequences,
            database_properties: None,
            unfilled_views: Vec::new(),
            publications: Vec::new(),
        }
    }

    pub fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }

    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(json).map_err(|error| unreadable("part", &error))
    }
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    // Strings, numbers and lists of them always serialise.
    serde_json::to_vec(value).unwrap_or_default()
}

fn unreadable(what: &str, error: &serde_json::Error) -> Error {
    Error::Damaged {
        path: what.to_owned(),
        detail: format!("its description in the snapshot cannot be read: {error}"),
        hint: "the snapshot may be of a newer version: try a newer lifeboat".into(),
    }
}

/// What rows are ordered by, over the alias `t`: always the same on every server, so that equal rows
/// give equal bytes. Text is ordered by its bytes, because collations differ between machines.
pub fn order_by(table: &Table) -> String {
    let Some(key) = &table.primary_key else {
        let columns: Vec<String> = table.stored_columns().map(|column| format!("t.{}", column.quoted)).collect();
        return format!(r#"ROW({})::text COLLATE pg_catalog."C""#, columns.join(", "));
    };
    let columns = key.iter().filter_map(|at| table.columns.get(*at)).map(|column| {
        let collate = if column.is_collatable { r#" COLLATE pg_catalog."C""# } else { "" };
        format!("t.{}{collate}", column.quoted)
    });
    columns.collect::<Vec<_>>().join(", ")
}

/// The query for a table's rows that fulfil a condition over the alias `t`, in the order of a snapshot.
pub fn select_rows(table: &Table, condition: &str) -> String {
    let columns: Vec<String> = table.stored_columns().map(|column| format!("t.{}", column.quoted)).collect();
    format!("SELECT {} FROM {} t WHERE {condition} ORDER BY {}", columns.join(", "), table.from_item(), order_by(table))
}

/// The query for the rows of all sites from the first through the last of `range`, each behind its site's id
/// as text: one site after the other in the order of the ids' bytes, each one's rows as [`select_rows`] has them.
///
/// Reads and sorts the whole table.
pub fn select_sorted(table: &Table, tenant: &TenantOf, range: Option<(&SiteId, &SiteId)>) -> String {
    let TenantOf { expression, joins } = tenant;
    let site = format!(r#"({expression}) COLLATE pg_catalog."C""#);
    let columns: String = table.stored_columns().map(|column| format!(", t.{}", column.quoted)).collect();
    let condition = range.map(|(first, last)| {
        let (first, last) = (literal(first.as_str()), literal(last.as_str()));
        format!("WHERE {site} BETWEEN {first} AND {last}")
    });
    let (from, order, condition) = (table.from_item(), order_by(table), condition.unwrap_or_default());
    format!("SELECT {expression}{columns} FROM {from} t {joins} {condition} ORDER BY {site}, {order}")
}

/// The same of these sites, in their order, by looking each of them up. `condition` says over `t` which rows
/// are those of the site `s.site`.
pub fn select_each(table: &Table, condition: &str, sites: &[SiteId]) -> String {
    let sites: Vec<String> = sites.iter().map(|site| literal(site.as_str())).collect();
    // OFFSET keeps the rows of a site in their order; the loop around goes through the sites in theirs.
    format!(
        "SELECT s.site, q.* FROM pg_catalog.unnest(ARRAY[{}]::pg_catalog.text[]) s(site) CROSS JOIN LATERAL ({} OFFSET 0) q",
        sites.join(", "),
        select_rows(table, condition)
    )
}

/// A value as an SQL literal: quotes doubled, and backslashes too in the form that says so.
pub fn literal(value: &str) -> String {
    let quoted = value.replace('\'', "''");
    if quoted.contains('\\') { format!(" E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// The entry path of a table: its name, with what a path cannot hold written as `%2F` and `%25`.
pub fn entry_path(table: &TableName) -> String {
    table.as_str().replace('%', "%25").replace('/', "%2F")
}

/// The table that an entry path names.
pub fn table_of_path(path: &str) -> TableName {
    TableName::quoted(path.replace("%2F", "/").replace("%25", "%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_stays_one_value_whatever_it_holds() {
        for (value, want) in [
            ("acme", "'acme'"),
            ("o'hara", "'o''hara'"),
            ("'; DROP TABLE x; --", "'''; DROP TABLE x; --'"),
            (r"back\slash'", r" E'back\\slash'''"),
        ] {
            assert_eq!(literal(value), want);
        }
    }

    #[test]
    fn a_table_s_entry_path_leads_back_to_its_name() {
        for name in ["public.issues", r#"app."a/b""#, r#"app."100%""#, r#"app."%2F/""#] {
            let table = TableName::quoted(name);
            let path = entry_path(&table);
            assert!(!path.contains('/'), "{path}");
            assert_eq!(table_of_path(&path), table);
        }
    }
}
