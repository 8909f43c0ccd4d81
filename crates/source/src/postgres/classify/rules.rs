//! What the operator has said, held against what is there.

use std::collections::BTreeMap;

use super::names::{self, Names};
use super::{Class, Step};
use crate::postgres::{Catalogue, Column, PostgresConfig, Reference, Table, TableKind, TableName, TableRule};

/// What is wrong with a configuration.
pub(super) struct Fault {
    pub detail: String,
    pub hint: String,
}

impl Fault {
    pub fn new(detail: String, hint: String) -> Self {
        Self { detail, hint }
    }
}

/// The configuration with every name found.
pub(super) struct Rules {
    pub root: Option<(TableName, Column)>,
    pub tenant_column: Option<String>,
    pub shared: Vec<TableName>,
    pub ignored: Vec<TableName>,
    /// Columns said to hold the site.
    direct: BTreeMap<TableName, Column>,
    /// References said to lead to it; `total` is not known yet.
    pub via: BTreeMap<TableName, Class>,
}

pub(super) fn read(catalogue: &Catalogue, config: &PostgresConfig) -> Result<Rules, Fault> {
    let names = Names::of(catalogue);
    let mut rules = Rules {
        root: None,
        tenant_column: config.tenant_column.clone(),
        shared: own_tables(&names, "shared", &config.shared)?,
        ignored: own_tables(&names, "ignored", &config.ignored)?,
        direct: BTreeMap::new(),
        via: BTreeMap::new(),
    };
    for (name, rule) in &config.tables {
        let key = format!("tables.{name}");
        let table = own_table(&names, &key, name)?;
        match rule {
            TableRule::TenantColumn(column) => {
                rules.direct.insert(table.name.clone(), names::column(&key, table, column)?.clone());
            }
            TableRule::Via(reference) => {
                let step = step(&names, &key, table, reference)?;
                rules.via.insert(table.name.clone(), Class::Via { steps: vec![step] });
            }
            TableRule::Polymorphic { kind, id, map } => {
                let kind = names::column(&key, table, kind)?.quoted.clone();
                let targets = map.iter().map(|(value, (parent, column))| {
                    let reference = Reference {
                        child_columns: vec![id.clone()],
                        parent: parent.clone(),
                        parent_columns: vec![column.clone()],
                    };
                    Ok((value.clone(), step(&names, &key, table, &reference)?))
                });
                let targets = targets.collect::<Result<Vec<_>, Fault>>()?;
                rules.via.insert(table.name.clone(), Class::Polymorphic { kind, targets });
            }
        }
    }
    if let Some(root) = &config.root {
        let table = own_table(&names, "root", root)?;
        let column = root_column(table, rules.direct.get(&table.name))?;
        rules.root = Some((table.name.clone(), column));
    }
    rules.refuse_twice()?;
    rules.refuse_no_tenant(catalogue)?;
    Ok(rules)
}

/// A table that rows are read from; a partition is none.
fn own_table<'a>(names: &Names<'a>, key: &str, name: &TableName) -> Result<&'a Table, Fault> {
    let table = names.table(key, name)?;
    match &table.kind {
        TableKind::Partition { root } => Err(Fault::new(
            format!("`{key}` names a partition: name=`{name}`"),
            format!("name the whole table instead: {root}"),
        )),
        _ => Ok(table),
    }
}

fn own_tables(names: &Names<'_>, key: &str, listed: &[TableName]) -> Result<Vec<TableName>, Fault> {
    listed.iter().map(|name| Ok(own_table(names, key, name)?.name.clone())).collect()
}

/// The root's primary key, or what the operator says it is.
fn root_column(table: &Table, said: Option<&Column>) -> Result<Column, Fault> {
    if let Some(column) = said {
        return Ok(column.clone());
    }
    let key = table.primary_key.as_deref().unwrap_or_default();
    match key {
        [at] => table.columns.get(*at).cloned(),
        _ => None,
    }
    .ok_or_else(|| {
        let count = key.len();
        Fault::new(
            format!("the primary key of `root` is not one column: table=`{}`, columns=`{count}`", table.name),
            format!("say which column is the site: {}", super::suggest::table_line(&table.name, "tenant_column", "id")),
        )
    })
}

/// A reference said by the operator. What it leads to must be one row at most, or a row could belong to two sites.
fn step(names: &Names<'_>, key: &str, table: &Table, reference: &Reference) -> Result<Step, Fault> {
    let parent = own_table(names, key, &reference.parent)?;
    let child_columns = columns_of(key, table, &reference.child_columns)?;
    let parent_columns = columns_of(key, parent, &reference.parent_columns)?;
    if child_columns.len() != parent_columns.len() || child_columns.is_empty() {
        return Err(Fault::new(
            format!("`{key}` has `via` with another number of columns on each side"),
            "such as \"(site, number) -> orders.(site, number)\"".into(),
        ));
    }
    if parent.name == table.name {
        let hint = "name the table that says whose rows they are".into();
        return Err(Fault::new(format!("`{key}` has `via` from a table to itself"), hint));
    }
    if !is_unique(parent, &parent_columns) {
        let columns: Vec<&str> = parent_columns.iter().map(|column| column.quoted.as_str()).collect();
        return Err(Fault::new(
            format!(
                "`{key}` has `via` to what is not unique: table=`{}`, columns=`{}`",
                parent.name,
                columns.join(", ")
            ),
            "a row must lead to one row: refer to the primary key, or to columns with a unique index".into(),
        ));
    }
    Ok(new_step(&child_columns, parent, &parent_columns))
}

pub(super) fn new_step(child: &[&Column], parent: &Table, parent_columns: &[&Column]) -> Step {
    let equals = child.iter().zip(parent_columns).map(|(child, parent)| equals(child, parent)).collect();
    let quoted = |columns: &[&Column]| columns.iter().map(|column| column.quoted.clone()).collect();
    Step {
        child_columns: quoted(child),
        parent: parent.name.clone(),
        parent_columns: quoted(parent_columns),
        is_total: child.iter().all(|column| column.not_null),
        equals,
    }
}

/// Types that compare with one another; any other pair compares as text.
fn equals(child: &Column, parent: &Column) -> Option<String> {
    const WHOLE: [&str; 3] = ["smallint", "integer", "bigint"];
    let bare = |column: &Column| column.type_name.split('(').next().unwrap_or_default().trim().to_owned();
    let (a, b) = (bare(child), bare(parent));
    let both_whole = WHOLE.contains(&a.as_str()) && WHOLE.contains(&b.as_str());
    let both_text = child.is_collatable && parent.is_collatable && child.equals == "=" && parent.equals == "=";
    (a == b || both_whole || both_text).then(|| parent.equals.clone())
}

fn columns_of<'a>(key: &str, table: &'a Table, written: &[String]) -> Result<Vec<&'a Column>, Fault> {
    written.iter().map(|name| names::column(key, table, name)).collect()
}

fn is_unique(table: &Table, columns: &[&Column]) -> bool {
    let holds =
        |key: &[usize]| key.iter().all(|at| table.columns.get(*at).is_some_and(|of_key| columns.contains(&of_key)));
    table.primary_key.iter().any(|key| holds(key)) || table.unique_keys.iter().any(|key| holds(&key.columns))
}

impl Rules {
    /// A table has one class.
    fn refuse_twice(&self) -> Result<(), Fault> {
        let mut said: BTreeMap<&TableName, &str> = BTreeMap::new();
        let root = self.root.iter().map(|(table, _)| (table, "root"));
        let listed = |tables: &'_ [TableName], key: &'static str| -> Vec<(TableName, &'static str)> {
            tables.iter().map(|table| (table.clone(), key)).collect()
        };
        let (shared, ignored) = (listed(&self.shared, "shared"), listed(&self.ignored, "ignored"));
        let lists = shared.iter().chain(&ignored).map(|(table, key)| (table, *key));
        let rules = self.direct.keys().chain(self.via.keys()).map(|table| (table, "tables"));
        // The root may say which of its columns is the site.
        let rules = rules.filter(|(table, _)| self.root.as_ref().is_none_or(|(root, _)| root != *table));
        for (table, key) in root.chain(lists).chain(rules) {
            if let Some(before) = said.insert(table, key) {
                return Err(Fault::new(
                    format!("a table is named twice: table=`{table}`, in `{before}` and in `{key}`"),
                    "leave it in one of them".into(),
                ));
            }
        }
        Ok(())
    }

    /// Something must say what a tenant is, and a column that no table has says nothing.
    fn refuse_no_tenant(&self, catalogue: &Catalogue) -> Result<(), Fault> {
        let Some(wanted) = &self.tenant_column else {
            if self.root.is_some() || !self.direct.is_empty() {
                return Ok(());
            }
            return Err(Fault::new(
                "neither `tenant_column` nor `root` is said".into(),
                "say tenant_column = \"site_id\": the column that holds the site in most tables".into(),
            ));
        };
        let mut tables = catalogue.tables.values();
        if tables.any(|table| table.holds_rows() && names::find_column(table, wanted).is_some()) {
            return Ok(());
        }
        let known = catalogue.tables.values().flat_map(|table| &table.columns).map(|column| column.quoted.as_str());
        let hint = match names::nearest(wanted, known) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => "`tenant_column` is the column that holds the site".into(),
        };
        Err(Fault::new(format!("no table has the column that `tenant_column` names: name=`{wanted}`"), hint))
    }

    /// The classes that need no foreign key.
    pub fn given(&self, catalogue: &Catalogue) -> BTreeMap<TableName, Class> {
        catalogue
            .tables
            .values()
            .filter_map(|table| self.given_to(table).map(|class| (table.name.clone(), class)))
            .collect()
    }

    fn given_to(&self, table: &Table) -> Option<Class> {
        if let TableKind::Partition { root } = &table.kind {
            return Some(Class::PartOf(root.clone()));
        }
        if let Some((_, column)) = self.root.as_ref().filter(|(root, _)| *root == table.name) {
            return Some(Class::Root { column: column.clone() });
        }
        if self.shared.contains(&table.name) {
            return Some(Class::Shared);
        }
        if self.ignored.contains(&table.name) {
            return Some(Class::Ignored);
        }
        if let Some(column) = self.direct.get(&table.name) {
            return Some(Class::Direct { column: column.clone() });
        }
        // Rows of a foreign table are in another server: no snapshot here covers them.
        if self.via.contains_key(&table.name) || table.kind == TableKind::Foreign {
            return None;
        }
        let column = names::find_column(table, self.tenant_column.as_deref()?)?;
        Some(Class::Direct { column: column.clone() })
    }

    /// A reference to a table without tenants says nothing about whose a row is.
    pub fn refuse_dead_ends(&self, tables: &BTreeMap<TableName, Class>) -> Result<(), Fault> {
        for (table, class) in &self.via {
            let dead =
                class.steps().find(|step| matches!(tables.get(&step.parent), Some(Class::Shared | Class::Ignored)));
            if let Some(step) = dead {
                return Err(Fault::new(
                    format!("`tables.{table}` has `via` to a table that is not of sites: table=`{}`", step.parent),
                    "refer to a table whose rows belong to sites".into(),
                ));
            }
        }
        Ok(())
    }
}
