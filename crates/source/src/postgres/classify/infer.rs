//! From table to table over foreign keys, to those that know their tenant.

use std::collections::{BTreeMap, BTreeSet};

use super::rules::{Rules, new_step};
use super::{Class, Step, names};
use crate::postgres::{Catalogue, ForeignKey, Table, TableKind, TableName};

type Tables = BTreeMap<TableName, Class>;

/// A reference that may say whose the rows of `child` are.
struct Edge<'a> {
    child: &'a Table,
    step: Step,
    /// Leads to the root's own key: its column is the site itself.
    is_tenant: bool,
    is_validated: bool,
}

/// Adds classes until no foreign key, and no rule of the operator's, leads further.
///
/// Breadth first, so that the shortest path wins; paths that cannot be NULL first, so that a row is not left
/// without an owner where another path has one.
pub(super) fn by_foreign_keys(catalogue: &Catalogue, rules: &Rules, tables: &mut Tables) {
    let edges = edges(catalogue, rules, tables);
    direct_by_reference(&edges, tables);
    for only_total in [true, false] {
        while round(&edges, rules, tables, only_total) {}
    }
    add_alternatives(&edges, rules, tables);
}

fn edges<'a>(catalogue: &'a Catalogue, rules: &Rules, tables: &Tables) -> Vec<Edge<'a>> {
    let edge = |key: &ForeignKey| {
        let child = catalogue.tables.get(&key.child)?;
        let parent = whole(catalogue, &key.parent)?;
        let is_open = !tables.contains_key(&child.name) && !rules.via.contains_key(&child.name);
        // A table's reference to itself leads nowhere.
        if !is_open || child.name == parent.name || child.kind == TableKind::Foreign {
            return None;
        }
        let child_columns: Option<Vec<_>> =
            key.child_columns.iter().map(|column| names::find_column(child, column)).collect();
        let parent_columns: Option<Vec<_>> =
            key.parent_columns.iter().map(|column| names::find_column(parent, column)).collect();
        let mut step = new_step(&child_columns?, parent, &parent_columns?);
        // What a declared key compares has an operator, whatever the types are called.
        step.equals.iter_mut().for_each(|equals| *equals = equals.take().or_else(|| Some("=".to_owned())));
        let site = rules.root.as_ref().filter(|(root, _)| *root == parent.name).map(|(_, column)| &column.quoted);
        let is_tenant = site.is_some_and(|site| step.parent_columns.contains(site));
        Some(Edge { child, step, is_tenant, is_validated: key.is_validated })
    };
    let mut edges: Vec<Edge<'_>> = catalogue.foreign_keys.iter().filter_map(edge).collect();
    // Stable: within one kind in the order of the keys' names.
    edges.sort_by_key(|edge| !edge.is_validated);
    edges
}

/// A reference to one partition is one to the whole table.
fn whole<'a>(catalogue: &'a Catalogue, name: &TableName) -> Option<&'a Table> {
    let table = catalogue.tables.get(name)?;
    match &table.kind {
        TableKind::Partition { root } => catalogue.tables.get(root),
        _ => Some(table),
    }
}

/// A column that refers to the root is the site. Two of them, on two sides of a transfer, are a question for a person.
fn direct_by_reference(edges: &[Edge<'_>], tables: &mut Tables) {
    let mut columns: BTreeMap<&TableName, BTreeMap<&str, (bool, &Table)>> = BTreeMap::new();
    for edge in edges.iter().filter(|edge| edge.is_tenant && edge.step.child_columns.len() == 1) {
        let column = edge.step.child_columns[0].as_str();
        columns.entry(&edge.child.name).or_default().insert(column, (edge.step.is_total, edge.child));
    }
    for (table, columns) in columns {
        let total: Vec<_> = columns.iter().filter(|(_, (is_total, _))| *is_total).collect();
        let chosen = match (&total[..], columns.len()) {
            ([one], _) => Some(*one),
            ([], 1) => columns.iter().next(),
            _ => None,
        };
        let Some((column, (_, child))) = chosen else { continue };
        if let Some(column) = names::find_column(child, column) {
            tables.insert(table.clone(), Class::Direct { column: column.clone() });
        }
    }
}

/// Classes every table that is one step away; `false`: there was none.
fn round(edges: &[Edge<'_>], rules: &Rules, tables: &mut Tables, only_total: bool) -> bool {
    let mut found: Tables = BTreeMap::new();
    for edge in edges.iter().filter(|edge| !tables.contains_key(&edge.child.name) && !is_torn(edges, edge.child)) {
        let Some(step) = reaches(&edge.step, tables).filter(|step| step.is_total || !only_total) else { continue };
        match found.get_mut(&edge.child.name) {
            None => {
                found.insert(edge.child.name.clone(), Class::Via { steps: vec![step] });
            }
            // One that is never NULL needs no other; of those that may be, all count.
            Some(Class::Via { steps }) if !only_total => steps.push(step),
            Some(_) => {}
        }
    }
    for (table, class) in rules.via.iter().filter(|(table, _)| !tables.contains_key(*table)) {
        if let Some(class) = said(class, tables).filter(|class| !only_total || class.steps().all(|step| step.is_total))
        {
            found.insert(table.clone(), class);
        }
    }
    let is_any = !found.is_empty();
    tables.append(&mut found);
    is_any
}

/// Rows of a table that names two sites could belong to either: no other path settles that.
fn is_torn(edges: &[Edge<'_>], child: &Table) -> bool {
    edges.iter().filter(|edge| edge.is_tenant && edge.child.name == child.name).count() > 1
}

/// The step, if its parent has a tenant.
fn reaches(step: &Step, tables: &Tables) -> Option<Step> {
    let parent = tables.get(&step.parent).filter(|class| class.is_of_sites())?;
    let is_total = step.is_total && parent.steps().all(|step| step.is_total);
    Some(Step { is_total, ..step.clone() })
}

/// The class that the operator said, once all its parents have one.
fn said(class: &Class, tables: &Tables) -> Option<Class> {
    Some(match class {
        Class::Via { steps } => {
            Class::Via { steps: steps.iter().map(|step| reaches(step, tables)).collect::<Option<_>>()? }
        }
        Class::Polymorphic { kind, targets } => {
            let reached = |(value, step): &(String, Step)| Some((value.clone(), reaches(step, tables)?));
            let targets = targets.iter().map(reached).collect::<Option<Vec<_>>>()?;
            Class::Polymorphic { kind: kind.clone(), targets }
        }
        _ => return None,
    })
}

/// Gives tables whose paths may all be NULL those too that were found later, unless they lead back.
fn add_alternatives(edges: &[Edge<'_>], rules: &Rules, tables: &mut Tables) {
    for edge in edges.iter().filter(|edge| !rules.via.contains_key(&edge.child.name)) {
        let Some(step) = reaches(&edge.step, tables) else { continue };
        if leads_to(tables, &step.parent, &edge.child.name) {
            continue;
        }
        if let Some(Class::Via { steps }) = tables.get_mut(&edge.child.name) {
            let is_new = !steps.iter().any(|known| known.child_columns == step.child_columns);
            if is_new && steps.iter().all(|step| !step.is_total) {
                steps.push(step);
            }
        }
    }
}

/// Whether the tenant of `from` may depend on rows of `to`.
fn leads_to(tables: &Tables, from: &TableName, to: &TableName) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(table) = open.pop() {
        if table == to {
            return true;
        }
        if seen.insert(table) {
            open.extend(tables.get(table).into_iter().flat_map(Class::steps).map(|step| &step.parent));
        }
    }
    false
}

/// Tables whose every tenant has a row in the root: the server keeps a foreign key on that column.
pub(super) fn covered_by_root(catalogue: &Catalogue, tables: &Tables) -> Vec<TableName> {
    let root = tables.iter().find_map(|(table, class)| match class {
        Class::Root { column } => Some((table, column)),
        _ => None,
    });
    let Some((root, site)) = root else { return Vec::new() };
    let is_covering = |key: &&ForeignKey| {
        let Some(Class::Direct { column }) = tables.get(&key.child) else { return false };
        let pair = (&key.child_columns[..], &key.parent_columns[..]);
        key.is_validated
            && key.parent == *root
            && matches!(pair, ([a], [b]) if *a == column.quoted && *b == site.quoted)
    };
    catalogue.foreign_keys.iter().filter(is_covering).map(|key| key.child.clone()).collect()
}
