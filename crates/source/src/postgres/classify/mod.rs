//! Whose rows are these? A class for every table, from what the catalogue and the operator say.
//!
//! ```text
//! named by the operator  ─▶ root, shared, ignored, a tenant column, via, a reference of several kinds
//! has the tenant column  ─▶ direct
//! foreign keys           ─▶ via: breadth first from the tables above, paths without NULL before others
//! what is left           ─▶ unclassed, with a line of configuration that would class it
//! ```
//!
//! Invariant (one-owner): a row has at most one tenant. Where several paths lead from a row, the
//! first whose columns are all filled decides, in conditions and in expressions alike.
//! Invariant (no-way-back): the parents of a table never lead back to it.
//!
//! Pure: nothing here asks the database.

mod infer;
mod names;
mod rules;
mod spelling;
mod sql;
mod suggest;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use super::{Catalogue, Column, PostgresConfig, TableName};
use crate::Error;

pub(super) use names::parts;
pub use sql::TenantOf;
pub use suggest::Suggestion;

/// The class of every table of a database, and the SQL that follows from it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Classes {
    tables: BTreeMap<TableName, Class>,
    /// What stands behind FROM for each table that holds rows of sites.
    from_items: BTreeMap<TableName, String>,
    /// Tables whose tenants are surely in the root as well: a foreign key says so.
    covered_by_root: Vec<TableName>,
    shared: Vec<TableName>,
    ignored: Vec<TableName>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// The tenant's own row; this column is the site.
    Root { column: Column },
    /// This column is the site.
    Direct { column: Column },
    /// The site of the row referred to: the first of these references that is not NULL.
    Via { steps: Vec<Step> },
    /// The site of the row referred to, whose table another column says.
    Polymorphic { kind: String, targets: Vec<(String, Step)> },
    /// All sites use its rows: checked at a restore, never written.
    Shared,
    /// Left out, knowingly.
    Ignored,
    /// A partition: its rows are this table's.
    PartOf(TableName),
    /// Nobody knows whose rows these are.
    Unclassed { suggestion: Suggestion },
}

/// From a row to the one it refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// As they stand in SQL.
    pub child_columns: Vec<String>,
    pub parent: TableName,
    pub parent_columns: Vec<String>,
    /// Neither this reference nor one further up can be NULL.
    pub is_total: bool,
    /// How each pair of columns is compared: the parent's operator; `None`: as text, the types differ.
    equals: Vec<Option<String>>,
}

/// Gives every table its class.
///
/// Refuses a configuration that names what is not there, or contradicts itself.
pub fn classify(source_name: &str, catalogue: &Catalogue, config: &PostgresConfig) -> Result<Classes, Error> {
    let bad = |fault: rules::Fault| Error::BadConfig {
        source_name: source_name.to_owned(),
        detail: fault.detail,
        hint: fault.hint,
    };
    let rules = rules::read(catalogue, config).map_err(bad)?;
    let mut tables = rules.given(catalogue);
    infer::by_foreign_keys(catalogue, &rules, &mut tables);
    rules.refuse_dead_ends(&tables).map_err(bad)?;
    suggest::for_the_rest(catalogue, &rules, &mut tables);
    let from_items = catalogue
        .tables
        .values()
        .filter(|table| tables.get(&table.name).is_some_and(Class::is_of_sites))
        .map(|table| (table.name.clone(), table.from_item()))
        .collect();
    let covered_by_root = infer::covered_by_root(catalogue, &tables);
    Ok(Classes { tables, from_items, covered_by_root, shared: rules.shared, ignored: rules.ignored })
}

impl Class {
    /// Whether each of its rows is some site's.
    pub fn is_of_sites(&self) -> bool {
        matches!(self, Class::Root { .. } | Class::Direct { .. } | Class::Via { .. } | Class::Polymorphic { .. })
    }

    /// One word, for lists and JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Class::Root { .. } => "root",
            Class::Direct { .. } => "direct",
            Class::Via { .. } | Class::Polymorphic { .. } => "via",
            Class::Shared => "shared",
            Class::Ignored => "ignored",
            Class::PartOf(_) => "partition",
            Class::Unclassed { .. } => "unclassed",
        }
    }

    /// The references that decide whose a row is.
    pub(super) fn steps(&self) -> impl Iterator<Item = &Step> {
        let (steps, targets): (&[Step], &[(String, Step)]) = match self {
            Class::Via { steps } => (steps, &[]),
            Class::Polymorphic { targets, .. } => (&[], targets),
            _ => (&[], &[]),
        };
        steps.iter().chain(targets.iter().map(|(_, step)| step))
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Class::Root { column } | Class::Direct { column } => write!(f, "{} by {}", self.word(), column.quoted),
            Class::Via { steps } => {
                let steps: Vec<String> = steps.iter().map(Step::to_string).collect();
                write!(f, "via {}", steps.join(", else "))
            }
            Class::Polymorphic { kind, targets } => {
                let targets: Vec<String> = targets.iter().map(|(value, step)| format!("{value}: {step}")).collect();
                write!(f, "via {kind}, {}", targets.join(", "))
            }
            Class::PartOf(root) => write!(f, "partition of {root}"),
            Class::Shared | Class::Ignored | Class::Unclassed { .. } => f.write_str(self.word()),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.child_columns[..], &self.parent_columns[..]) {
            ([child], [parent]) => write!(f, "{child} -> {}.{parent}", self.parent),
            (child, parent) => write!(f, "({}) -> {}.({})", child.join(", "), self.parent, parent.join(", ")),
        }
    }
}

impl Classes {
    pub fn get(&self, table: &TableName) -> Option<&Class> {
        self.tables.get(table)
    }

    /// All tables, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&TableName, &Class)> {
        self.tables.iter()
    }

    /// Whether its rows belong to sites, and are read and written through this very table.
    pub fn is_of_sites(&self, table: &TableName) -> bool {
        self.tables.get(table).is_some_and(Class::is_of_sites)
    }

    /// The tables that nobody knows the class of.
    pub fn unclassed(&self) -> impl Iterator<Item = (&TableName, &Suggestion)> {
        self.tables.iter().filter_map(|(table, class)| match class {
            Class::Unclassed { suggestion } => Some((table, suggestion)),
            _ => None,
        })
    }

    /// The configuration that would class every unclassed table: lines for `[sources.NAME]`, each key once.
    pub fn suggested_lines(&self) -> Vec<String> {
        suggest::lines(self.unclassed(), &self.shared, &self.ignored)
    }

    /// A table of unknown class would be a silent gap in every snapshot.
    pub fn refuse_unclassed(&self, source_name: &str) -> Result<(), Error> {
        const NAMED_MAX: usize = 5;
        let names: Vec<String> = self.unclassed().map(|(table, _)| format!("`{table}`")).collect();
        if names.is_empty() {
            return Ok(());
        }
        let more = names.len().saturating_sub(NAMED_MAX);
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        let named = names[..names.len().min(NAMED_MAX)].join(", ");
        let line = self.suggested_lines().into_iter().next().unwrap_or_default();
        Err(Error::BadConfig {
            source_name: source_name.to_owned(),
            detail: format!("whose rows are those of {named}{rest}?"),
            hint: format!("`lifeboat sources inspect` prints what to write for each of them, such as {line}"),
        })
    }
}
