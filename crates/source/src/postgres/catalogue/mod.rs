//! What a database consists of, as its own catalogue says: plain data, read in one transaction.
//!
//! System tables, temporary ones, what a restore has staged (`lifeboat_stage_…`) and the copies that
//! `--beside` has made (by their schema's comment) are left out.
//!
//! What is not here: whose rows are whose (`classify`), what the role lacks (`privileges`).

mod load;
pub(super) mod queries;

use std::collections::BTreeMap;
use std::fmt;

/// A table as `format('%I.%I', schema, table)` prints it: quoted where it must be, so that it stands
/// in SQL as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName(String);

impl TableName {
    /// Takes a name that the server, or a person, has quoted already.
    pub fn quoted(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything of a database that concerns its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogue {
    pub server: ServerFacts,
    /// Ordinary tables, partitioned tables and their leaves, foreign tables; no system tables.
    pub tables: BTreeMap<TableName, Table>,
    /// Declared ones; of partitioned tables only those of the root.
    pub foreign_keys: Vec<ForeignKey>,
    pub sequences: Vec<Sequence>,
    /// Views and materialized views: they hold nothing of their own.
    pub views: Vec<TableName>,
}

/// Which database this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// `pg_control_system()`: the same in a cluster and its standbys, and nowhere else.
    pub system_identifier: String,
    pub database: String,
    /// Such as `150018`.
    pub version: u32,
    pub encoding: String,
    pub is_standby: bool,
    /// The connected role.
    pub role: String,
    pub is_superuser: bool,
    pub bypasses_rls: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub oid: u32,
    pub name: TableName,
    /// As it is in the catalogue, not quoted.
    pub schema: String,
    pub kind: TableKind,
    /// In the order of the table, dropped ones left out.
    pub columns: Vec<Column>,
    /// Positions in `columns`; `None`: no primary key.
    pub primary_key: Option<Vec<usize>>,
    /// Other unique keys, partial and expression ones left out.
    pub unique_keys: Vec<UniqueKey>,
    pub row_security: bool,
    pub is_unlogged: bool,
    /// User triggers and rules that fire even for a replica (`ENABLE ALWAYS` or `ENABLE REPLICA`).
    pub always_triggers: Vec<String>,
    /// What the connected role may do: `SELECT`, `INSERT`, `UPDATE`, `DELETE`, in this order.
    pub privileges: [bool; 4],
    /// The planner's estimate of its rows; negative: never analysed.
    pub rows_estimate: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableKind {
    Ordinary,
    /// Rows are read and written through it.
    PartitionRoot,
    /// A partition at any depth: its rows are the root's.
    Partition {
        root: TableName,
    },
    /// Inherits the old way: its own rows are read with ONLY.
    Inherits {
        parents: Vec<TableName>,
    },
    Foreign,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// `attnum`: stays when the column is renamed.
    pub number: i16,
    /// As it is in the catalogue.
    pub name: String,
    /// As it stands in SQL.
    pub quoted: String,
    /// `format_type`, such as `character varying(20)` or `app."Mood"[]`.
    pub type_name: String,
    pub not_null: bool,
    /// `GENERATED ALWAYS AS (…) STORED`: never stored, computed anew.
    pub is_generated: bool,
    pub identity: Option<Identity>,
    /// Whether its type has a collation: ordered by it only as `COLLATE "C"`.
    pub is_collatable: bool,
    /// Of type `oid` or a domain over it, or `lo`: may refer to large objects.
    pub is_large_object: bool,
    /// How two of its values are compared whatever the search path: `=`, or for an extension's type
    /// such as `OPERATOR(public.=)`.
    pub equals: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    Always,
    ByDefault,
}

/// A unique constraint or index over plain columns, all rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UniqueKey {
    pub name: String,
    /// Positions in the table's columns.
    pub columns: Vec<usize>,
    /// `NULLS NOT DISTINCT`.
    pub nulls_equal: bool,
    /// Can be made to wait for the end of the transaction.
    pub is_deferrable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    pub name: String,
    pub child: TableName,
    /// As they stand in SQL.
    pub child_columns: Vec<String>,
    pub parent: TableName,
    pub parent_columns: Vec<String>,
    /// Every child column is NOT NULL.
    pub is_total: bool,
    /// `MATCH FULL`.
    pub is_match_full: bool,
    pub is_validated: bool,
}

/// A sequence that belongs to a column (serial, identity), or to none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    pub name: TableName,
    /// Table and position of its column in it.
    pub owner: Option<(TableName, usize)>,
    pub increment: i64,
}

impl Catalogue {
    /// Of a place that is not there.
    pub(super) fn empty(server: ServerFacts) -> Self {
        Self { server, tables: BTreeMap::new(), foreign_keys: Vec::new(), sequences: Vec::new(), views: Vec::new() }
    }
}

impl Table {
    /// The columns a snapshot stores: all but generated ones.
    pub fn stored_columns(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| !column.is_generated)
    }

    /// Whether rows are read and written through this table itself.
    pub fn holds_rows(&self) -> bool {
        !matches!(self.kind, TableKind::Partition { .. })
    }

    /// `ONLY` for tables that others may inherit from, so that each row is read once.
    pub fn from_item(&self) -> String {
        match self.kind {
            TableKind::Ordinary | TableKind::Inherits { .. } => format!("ONLY {}", self.name),
            _ => self.name.to_string(),
        }
    }
}
