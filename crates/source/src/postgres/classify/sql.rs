//! Classes as SQL: whose rows these are, asked of one site and of all at once.

use super::{Class, Classes, Step};
use crate::postgres::describe::literal;
use crate::postgres::{Column, TableName};

/// How a query says whose each row is: `SELECT …, {expression} FROM … t {joins}`.
///
/// The joins neither multiply rows nor lose any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantOf {
    /// The site as text; NULL where nobody owns the row.
    pub expression: String,
    pub joins: String,
}

impl Classes {
    /// Whose rows: a condition over `alias` that holds for the rows of the site that `tenant` (an SQL literal, or an
    /// expression of type text) names.
    ///
    /// A text that is not how the server prints the value (`007` of an integer) is no site's; one that is no
    /// value of the column's type is an error of class 22 when the query runs.
    pub fn predicate(&self, table: &TableName, alias: &str, tenant: &str) -> String {
        self.rows_of(table, alias, tenant, 1)
    }

    fn rows_of(&self, table: &TableName, alias: &str, tenant: &str, depth: usize) -> String {
        // A chain of parents is not longer than there are tables.
        let parent = format!("p{depth}");
        let exists = |step: &Step| {
            let owner = self.rows_of(&step.parent, &parent, tenant, depth + 1);
            format!(
                "EXISTS (SELECT FROM {} {parent} WHERE {} AND {owner})",
                self.from(&step.parent),
                on(step, alias, &parent)
            )
        };
        match self.tables.get(table) {
            Some(Class::Root { column } | Class::Direct { column }) => is_tenant(column, alias, tenant),
            Some(Class::Via { steps }) => {
                let conditions = steps.iter().enumerate().map(|(at, step)| {
                    // Only where no earlier reference says whose it is.
                    let before = steps[..at].iter().map(|earlier| format!("({}) AND ", any_null(earlier, alias)));
                    format!("{}{}", before.collect::<String>(), exists(step))
                });
                any_of(conditions.collect())
            }
            Some(Class::Polymorphic { kind, targets }) => {
                let conditions = targets.iter();
                let conditions =
                    conditions.map(|(value, step)| format!("{} AND {}", is_kind(kind, alias, value), exists(step)));
                any_of(conditions.collect())
            }
            _ => "false".to_owned(),
        }
    }

    /// Whose each row of the table is, over the alias `t`.
    pub fn tenant_of(&self, table: &TableName) -> TenantOf {
        let mut joins = Vec::new();
        let expression = self.tenant_by_joins(table, "t", &mut joins);
        TenantOf { expression, joins: joins.join(" ") }
    }

    fn tenant_by_joins(&self, table: &TableName, alias: &str, joins: &mut Vec<String>) -> String {
        match self.tables.get(table) {
            Some(Class::Root { column } | Class::Direct { column }) => format!("{alias}.{}::text", column.quoted),
            Some(Class::Via { steps }) => {
                let mut arms = Vec::new();
                for step in steps {
                    let expression = self.join(step, alias, "", joins);
                    if let [only] = &steps[..] {
                        debug_assert_eq!(only, step);
                        return expression;
                    }
                    arms.push(format!("WHEN NOT ({}) THEN {expression}", any_null(step, alias)));
                }
                format!("CASE {} END", arms.join(" "))
            }
            Some(Class::Polymorphic { kind, targets }) => {
                let mut arms = Vec::new();
                for (value, step) in targets {
                    let is_kind = is_kind(kind, alias, value);
                    let expression = self.join(step, alias, &format!("{is_kind} AND "), joins);
                    arms.push(format!("WHEN {is_kind} THEN {expression}"));
                }
                format!("CASE {} END", arms.join(" "))
            }
            _ => "NULL::text".to_owned(),
        }
    }

    /// Joins the row referred to, and says whose that is.
    fn join(&self, step: &Step, alias: &str, condition: &str, joins: &mut Vec<String>) -> String {
        let parent = format!("p{}", joins.len() + 1);
        let on = on(step, alias, &parent);
        joins.push(format!("LEFT JOIN {} {parent} ON {condition}{on}", self.from(&step.parent)));
        self.tenant_by_joins(&step.parent, &parent, joins)
    }

    /// One row a site, its id as text: the rows of the root, and the tenants of every table that may have others.
    pub fn tenant_query(&self) -> String {
        let lists = self.tables.iter().filter(|(table, _)| !self.covered_by_root.contains(table));
        let lists: Vec<String> = lists
            .filter_map(|(table, class)| match class {
                Class::Root { column } | Class::Direct { column } => {
                    let (column, from) = (&column.quoted, self.from(table));
                    Some(format!("SELECT DISTINCT t.{column}::text FROM {from} t WHERE t.{column} IS NOT NULL"))
                }
                _ => None,
            })
            .collect();
        match lists.is_empty() {
            true => "SELECT NULL::text WHERE false".to_owned(),
            false => lists.join(" UNION "),
        }
    }

    /// The same of the root alone: the tenants that the product itself still knows. `None`: there is no root.
    pub fn root_query(&self) -> Option<String> {
        self.tables.iter().find_map(|(table, class)| match class {
            Class::Root { column } => Some(format!("SELECT t.{}::text FROM {} t", column.quoted, self.from(table))),
            _ => None,
        })
    }

    pub(super) fn from<'a>(&'a self, table: &'a TableName) -> &'a str {
        self.from_items.get(table).map_or(table.as_str(), String::as_str)
    }
}

/// Compared in the column's own type, so that an index on it serves.
fn is_tenant(column: &Column, alias: &str, tenant: &str) -> String {
    let name = format!("{alias}.{}", column.quoted);
    let is_text = column.is_collatable && !column.type_name.starts_with("character(");
    if is_text && column.equals == "=" {
        return format!("{name} = {tenant}");
    }
    let value = format!("{tenant}::{}", column.type_name);
    // An extension's type may take two texts for one value, and print back what it was given.
    if column.equals != "=" {
        return format!("({name} {} {value} AND {name}::text = {tenant})", column.equals);
    }
    // The planner computes the second part once, and drops it.
    format!("({name} = {value} AND {value}::text = {tenant})")
}

fn on(step: &Step, child: &str, parent: &str) -> String {
    let pairs = step.child_columns.iter().zip(&step.parent_columns).zip(&step.equals);
    let conditions = pairs.map(|((of_child, of_parent), equals)| match equals {
        Some(equals) => format!("{parent}.{of_parent} {equals} {child}.{of_child}"),
        None => format!("{parent}.{of_parent}::text = {child}.{of_child}::text"),
    });
    conditions.collect::<Vec<_>>().join(" AND ")
}

fn any_null(step: &Step, alias: &str) -> String {
    let columns = step.child_columns.iter().map(|column| format!("{alias}.{column} IS NULL"));
    columns.collect::<Vec<_>>().join(" OR ")
}

/// As text: a value that the column's type does not have is never met, and no error.
fn is_kind(kind: &str, alias: &str, value: &str) -> String {
    format!("{alias}.{kind}::text = {}", literal(value))
}

fn any_of(mut conditions: Vec<String>) -> String {
    match conditions.len() {
        0 => "false".to_owned(),
        1 => conditions.remove(0),
        _ => format!("({})", conditions.join(" OR ")),
    }
}
