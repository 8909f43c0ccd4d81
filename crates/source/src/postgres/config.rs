//! What the operator says of a database: where it is, how it tells its tenants apart.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{NamePattern, TableName};

/// A `[sources.NAME]` of kind `postgres`.
#[derive(Clone)]
pub struct PostgresConfig {
    /// A connection URL or a libpq keyword string, with the password in it: never shown.
    pub url: String,
    pub tenancy: Tenancy,
    /// How a site's schema or database is called, where each has its own.
    pub names: NamePattern,
    /// Schemas or databases that the pattern would take for sites, and that are none.
    pub not_sites: Vec<String>,
    /// The program that writes down a schema's structure; `None`: found where it is installed.
    pub pg_dump: Option<PathBuf>,
    /// The column that holds the site in every table that has it, as written in SQL.
    pub tenant_column: Option<String>,
    /// The table whose primary key is the site.
    pub root: Option<TableName>,
    /// Tables that all sites share: checked at a restore, never written.
    pub shared: Vec<TableName>,
    /// Tables that are left out, knowingly.
    pub ignored: Vec<TableName>,
    /// Where inference is not enough.
    pub tables: BTreeMap<TableName, TableRule>,
}

/// How a database keeps its sites apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tenancy {
    /// All in the same tables, told apart by a column.
    Column,
    /// A schema a site.
    Schema,
    /// A database a site.
    Database,
}

/// How one table's rows are told apart, said by the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableRule {
    /// This column holds the site.
    TenantColumn(String),
    /// The row belongs to the site of the row that it refers to.
    Via(Reference),
    /// What `kind` says decides to which table `id` refers.
    Polymorphic {
        /// The column that says which.
        kind: String,
        /// The column that refers.
        id: String,
        /// Value of `kind` to the table and column referred to.
        map: BTreeMap<String, (TableName, String)>,
    },
}

/// `child.column -> parent.column`; several columns for a composite key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub child_columns: Vec<String>,
    pub parent: TableName,
    pub parent_columns: Vec<String>,
}
