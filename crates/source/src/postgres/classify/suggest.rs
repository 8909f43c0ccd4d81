//! For a table of unknown class: a line of configuration that is likely right.

use std::collections::BTreeMap;
use std::fmt;

use super::names::{self, find_column};
use super::rules::Rules;
use super::{Class, names::parts};
use crate::postgres::{Catalogue, Table, TableKind, TableName};

/// Names of what a product can lose, or makes anew.
const PASSING: [&str; 10] =
    ["migration", "queue", "job", "cache", "session", "lock", "tmp", "temp", "outbox", "schema_version"];
/// Ends of the names of columns that say which table another column refers to, with those of the other.
const KINDS: [(&str, &str); 4] = [("_type", "_id"), ("_kind", "_id"), ("_table", "_id"), ("_class", "_id")];

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Suggestion {
    /// Other tables' tenant columns refer to it.
    Root(TableName),
    Shared(TableName),
    Ignored(TableName),
    TenantColumn {
        table: TableName,
        column: String,
    },
    Via {
        table: TableName,
        reference: String,
    },
    Polymorphic {
        table: TableName,
        kind: String,
        id: String,
        map: Vec<(String, String)>,
    },
    /// Its class follows from that table's.
    AfterThat(TableName),
}

impl Suggestion {
    fn is_without_tenant(&self) -> bool {
        matches!(self, Suggestion::Shared(_) | Suggestion::Ignored(_))
    }
}

impl fmt::Display for Suggestion {
    /// A line for `[sources.NAME]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Suggestion::Root(table) => write!(f, "root = {}", toml(table.as_str())),
            Suggestion::Shared(table) => write!(f, "shared = [{}]", toml(table.as_str())),
            Suggestion::Ignored(table) => write!(f, "ignored = [{}]", toml(table.as_str())),
            Suggestion::TenantColumn { table, column } => f.write_str(&table_line(table, "tenant_column", column)),
            Suggestion::Via { table, reference } => f.write_str(&table_line(table, "via", reference)),
            Suggestion::Polymorphic { table, kind, id, map } => {
                let map: Vec<String> =
                    map.iter().map(|(kind, to)| format!("{} = {}", toml_key(kind), toml(to))).collect();
                let (table, kind, id) = (toml(table.as_str()), toml(kind), toml(id));
                write!(f, "tables.{table}.via = {{ type = {kind}, id = {id}, map = {{ {} }} }}", map.join(", "))
            }
            Suggestion::AfterThat(table) => write!(f, "# follows from {table}: class that first"),
        }
    }
}

/// `tables."app.x".key = "value"`.
pub(super) fn table_line(table: &TableName, key: &str, value: &str) -> String {
    format!("tables.{}.{key} = {}", toml(table.as_str()), toml(value))
}

/// A string in TOML, without escapes where it can be.
fn toml(text: &str) -> String {
    let is_plain = !text.contains(['"', '\\']) && !text.chars().any(char::is_control);
    let is_literal = !text.contains('\'') && !text.chars().any(char::is_control);
    match (is_plain, is_literal) {
        (true, _) => format!("\"{text}\""),
        (false, true) => format!("'{text}'"),
        _ => {
            let escaped = text.chars().map(|c| match c {
                '"' | '\\' => format!("\\{c}"),
                c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
                c => c.to_string(),
            });
            format!("\"{}\"", escaped.collect::<String>())
        }
    }
}

fn toml_key(text: &str) -> String {
    let is_bare = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if is_bare { text.to_owned() } else { toml(text) }
}

/// All suggestions together, each key once; lists begin with what they hold already.
pub(super) fn lines<'a>(
    unclassed: impl Iterator<Item = (&'a TableName, &'a Suggestion)>,
    shared: &[TableName],
    ignored: &[TableName],
) -> Vec<String> {
    let (mut lines, mut more_shared, mut more_ignored) = (Vec::new(), Vec::new(), Vec::new());
    for (_, suggestion) in unclassed {
        match suggestion {
            Suggestion::Shared(table) => more_shared.push(table.clone()),
            Suggestion::Ignored(table) => more_ignored.push(table.clone()),
            Suggestion::AfterThat(_) => {}
            other => lines.push(other.to_string()),
        }
    }
    // A root or a rule first: it may class the others too.
    lines.sort_by_key(|line: &String| !line.starts_with("root"));
    for (key, old, new) in [("shared", shared, more_shared), ("ignored", ignored, more_ignored)] {
        if !new.is_empty() {
            let all: Vec<String> = old.iter().chain(&new).map(|table| toml(table.as_str())).collect();
            lines.push(format!("{key} = [{}]", all.join(", ")));
        }
    }
    lines
}

/// Adds every table that has no class yet.
pub(super) fn for_the_rest(catalogue: &Catalogue, rules: &Rules, tables: &mut BTreeMap<TableName, Class>) {
    let rest = catalogue.tables.values().filter(|table| !tables.contains_key(&table.name));
    let mut found: BTreeMap<TableName, Suggestion> =
        rest.map(|table| (table.name.clone(), Guess { catalogue, rules, tables, table }.best())).collect();
    // What refers to a table with tenants will be classed with it, and is hardly everybody's.
    while let Some((child, parent)) = catalogue.foreign_keys.iter().find_map(|key| {
        let is_weak = found.get(&key.child).is_some_and(Suggestion::is_without_tenant);
        let is_of_sites = found.get(&key.parent).is_some_and(|parent| !parent.is_without_tenant());
        (is_weak && is_of_sites).then(|| (key.child.clone(), key.parent.clone()))
    }) {
        found.insert(child, Suggestion::AfterThat(parent));
    }
    tables.extend(found.into_iter().map(|(table, suggestion)| (table, Class::Unclassed { suggestion })));
}

struct Guess<'a> {
    catalogue: &'a Catalogue,
    rules: &'a Rules,
    tables: &'a BTreeMap<TableName, Class>,
    table: &'a Table,
}

impl Guess<'_> {
    fn best(&self) -> Suggestion {
        let name = || self.table.name.clone();
        if self.table.kind == TableKind::Foreign {
            return Suggestion::Ignored(name());
        }
        self.after_parent()
            .or_else(|| self.root())
            .or_else(|| self.one_of_two_sites())
            .or_else(|| self.polymorphic())
            .or_else(|| self.usual_tenant())
            .or_else(|| self.via_by_name())
            .or_else(|| self.tenant_by_name())
            .unwrap_or_else(|| if self.is_passing() { Suggestion::Ignored(name()) } else { Suggestion::Shared(name()) })
    }

    /// What the operator said leads to a table that has no class itself.
    fn after_parent(&self) -> Option<Suggestion> {
        let class = self.rules.via.get(&self.table.name)?;
        let step = class.steps().find(|step| !self.tables.contains_key(&step.parent))?;
        Some(Suggestion::AfterThat(step.parent.clone()))
    }

    /// Tables with a tenant refer to its key with that very column.
    fn root(&self) -> Option<Suggestion> {
        let is_referred = |key: &&crate::postgres::ForeignKey| {
            let Some(Class::Direct { column }) = self.tables.get(&key.child) else { return false };
            key.parent == self.table.name && key.child_columns == [column.quoted.as_str()]
        };
        let is_root = self.rules.root.is_none() && self.catalogue.foreign_keys.iter().any(|key| is_referred(&key));
        is_root.then(|| Suggestion::Root(self.table.name.clone()))
    }

    /// Two columns name a site: a person must say which of them owns the row.
    fn one_of_two_sites(&self) -> Option<Suggestion> {
        let (root, _) = self.rules.root.as_ref()?;
        let mut keys = self.catalogue.foreign_keys.iter();
        let key =
            keys.find(|key| key.child == self.table.name && key.parent == *root && key.child_columns.len() == 1)?;
        Some(Suggestion::TenantColumn { table: self.table.name.clone(), column: key.child_columns[0].clone() })
    }

    fn polymorphic(&self) -> Option<Suggestion> {
        let (kind, id) = self.table.columns.iter().find_map(|kind| {
            let other =
                KINDS.iter().find_map(|(end, other)| Some(format!("{}{other}", kind.name.strip_suffix(end)?)))?;
            let id = self.table.columns.iter().find(|column| column.name == other)?;
            Some((kind.quoted.clone(), id))
        })?;
        let targets = self.keyed_tables().filter(|(_, key)| key.type_name == id.type_name).take(3);
        let map = targets.map(|(table, key)| (class_name(table), format!("{}.{}", table.name, key.quoted)));
        let (table, id) = (self.table.name.clone(), id.quoted.clone());
        Some(Suggestion::Polymorphic { table, kind, id, map: map.collect() })
            .filter(|found| matches!(found, Suggestion::Polymorphic { map, .. } if !map.is_empty()))
    }

    /// `issue_id` beside a table `issues` with the key `id`.
    fn via_by_name(&self) -> Option<Suggestion> {
        for column in &self.table.columns {
            let stem = column.name.to_lowercase();
            let stem = ["_id", "id", "_no", "_key"].iter().find_map(|end| stem.strip_suffix(end)).unwrap_or_default();
            let found = self.keyed_tables().find(|(table, key)| {
                let singular = singular(table);
                let is_same_type = key.type_name == column.type_name;
                let is_named_so = !stem.is_empty() && (stem == singular || stem == format!("{singular}s"));
                let is_same_key = key.name == column.name && key.name.len() > "id".len();
                table.name != self.table.name && is_same_type && (is_named_so || is_same_key)
            });
            if let Some((parent, key)) = found {
                let table = self.table.name.clone();
                let reference = format!("{table}.{} -> {}.{}", column.quoted, parent.name, key.quoted);
                return Some(Suggestion::Via { table, reference });
            }
        }
        None
    }

    /// A column with a name that only tenant columns have.
    fn usual_tenant(&self) -> Option<Suggestion> {
        const USUAL: [&str; 8] = [
            "tenant_id",
            "site_id",
            "org_id",
            "organization_id",
            "organisation_id",
            "workspace_id",
            "tenant",
            "\"tenantId\"",
        ];
        let column = USUAL.iter().find_map(|name| find_column(self.table, name))?;
        Some(Suggestion::TenantColumn { table: self.table.name.clone(), column: column.quoted.clone() })
    }

    /// A column that is called nearly as the tenant column.
    fn tenant_by_name(&self) -> Option<Suggestion> {
        let known = self.table.columns.iter().map(|column| column.quoted.as_str());
        let column = names::nearest(self.rules.tenant_column.as_deref()?, known)?.to_owned();
        Some(Suggestion::TenantColumn { table: self.table.name.clone(), column })
    }

    fn is_passing(&self) -> bool {
        let name = self.table.name.as_str().to_lowercase();
        PASSING.iter().any(|word| name.contains(word))
    }

    /// Tables of sites with a key of one column.
    fn keyed_tables(&self) -> impl Iterator<Item = (&Table, &crate::postgres::Column)> {
        self.catalogue.tables.values().filter_map(|table| {
            let is_of_sites = self.tables.get(&table.name).is_some_and(Class::is_of_sites);
            let key = match table.primary_key.as_deref() {
                Some([at]) => table.columns.get(*at)?,
                _ => return None,
            };
            is_of_sites.then_some((table, key))
        })
    }
}

/// The table's own name, without schema, in lower case and without a plural's end.
fn singular(table: &Table) -> String {
    let name = parts(table.name.as_str()).and_then(|mut parts| parts.pop()).unwrap_or_default().to_lowercase();
    match name.strip_suffix("ies") {
        Some(stem) => format!("{stem}y"),
        None => name.strip_suffix('s').unwrap_or(&name).to_owned(),
    }
}

/// What frameworks write into the kind's column: `Issue` for `issues`.
fn class_name(table: &Table) -> String {
    let words = singular(table);
    words
        .split('_')
        .map(|word| word.chars().take(1).flat_map(char::to_uppercase).chain(word.chars().skip(1)).collect::<String>())
        .collect()
}
