//! What a comparison says: counts by table, rows that stay, and what is in the way. Plain data.

use super::super::TableName;

/// What the switch does to one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDiff {
    pub table: TableName,
    pub insert: u64,
    pub update: u64,
    /// Rows that change in a unique value: deleted and inserted, because values may change places.
    pub replace: u64,
    pub delete: u64,
    pub unchanged: u64,
    /// Where later rows are kept: live rows that differ from the point, and stay as they are.
    pub kept: u64,
    /// Where later rows are kept: live rows that the point does not have, and stay.
    pub newer: u64,
}

impl TableDiff {
    pub(super) fn none(table: &TableName) -> Self {
        let table = table.clone();
        Self { table, insert: 0, update: 0, replace: 0, delete: 0, unchanged: 0, kept: 0, newer: 0 }
    }

    /// Rows that are touched.
    pub fn writes(&self) -> u64 {
        self.insert + self.update + self.replace + self.delete
    }

    pub(super) fn live_rows(&self) -> u64 {
        self.update + self.replace + self.delete + self.unchanged + self.kept + self.newer
    }
}

/// Live rows of one table that differ from the point and stay as they are: nobody has to decide about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptRows {
    pub table: TableName,
    pub rows: u64,
    /// Their primary keys as `--only TABLE[KEY]` takes them, the first thousand; of large objects their numbers.
    pub keys: Vec<String>,
}

/// What is in the way of a restore. Nothing is written while there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    pub table: TableName,
    pub kind: ConflictKind,
    /// How many rows of the snapshot, or of others, it concerns.
    pub rows: u64,
    /// In words, without any row's values.
    pub detail: String,
    /// Where later rows are kept: the primary keys of the point's rows that it concerns, the first thousand.
    pub keys: Vec<String>,
}

impl Conflict {
    pub(super) fn new(table: &TableName, kind: ConflictKind, rows: u64, detail: impl Into<String>) -> Self {
        Self { table: table.clone(), kind, rows, detail: detail.into(), keys: Vec::new() }
    }
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "table=`{}`, {}, rows=`{}`", self.table, self.detail, self.rows)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ConflictKind {
    /// Dropped, renamed, or no longer a table of sites.
    TableGone,
    ColumnDropped,
    /// Values do not fit, or do not look the same, in today's type.
    ColumnRetyped,
    ColumnGenerated,
    /// Added since, NOT NULL, without a default.
    ColumnRequired,
    /// A primary key is a row of somebody else now.
    KeyElsewhere,
    /// A unique value is held by somebody else now.
    UniqueTaken,
    /// Rows that are not restored, such as those all sites share, are missing.
    SharedMissing,
    /// Rows outside the site refer to rows that would go.
    StillReferred,
    /// A large object holds something else, and is not the site's alone.
    ObjectElsewhere,
}
