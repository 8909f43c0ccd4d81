//! The structure of a site's own schema at a moment: the base's, and statements that make it what its rows need.
//!
//! What is known of changes is a table's columns, by number. Keys, indexes and defaults that came since are not: a
//! person is told, and the capture wishes for a new base after each change of structure, so that the stretch is short.
//! Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use lifeboat_source::postgres::describe::{ColumnDefinition, TableDefinition, ident};

/// The statements after which the base's tables are those of the moment, by name; `None`: they are already.
pub(super) fn amendments(
    base: &BTreeMap<String, TableDefinition>,
    now: &BTreeMap<String, TableDefinition>,
) -> Option<String> {
    let mut sql = String::new();
    for name in base.keys().filter(|name| !now.contains_key(*name)) {
        put(&mut sql, &format!("DROP TABLE {name} CASCADE"));
    }
    for (name, table) in now {
        match base.get(name) {
            None => put(&mut sql, &made(name, table)),
            Some(before) => alter(&mut sql, name, (&before.columns, &table.columns)),
        }
    }
    (!sql.is_empty()).then(|| format!("\n\n-- What became of it since, as the change log has it.\n{sql}"))
}

fn made(name: &str, table: &TableDefinition) -> String {
    let mut lines: Vec<String> =
        table.columns.iter().map(|column| format!("{} {}", ident(&column.name), column.type_name)).collect();
    if !table.primary_key.is_empty() {
        let key: Vec<String> = table.primary_key.iter().map(|column| ident(column)).collect();
        lines.push(format!("PRIMARY KEY ({})", key.join(", ")));
    }
    format!("CREATE TABLE {name} ({})", lines.join(", "))
}

/// Columns are the same where their numbers are; without numbers, where their names are.
fn alter(sql: &mut String, table: &str, (before, now): (&[ColumnDefinition], &[ColumnDefinition])) {
    let is_same = |a: &ColumnDefinition, b: &ColumnDefinition| match (a.number, b.number) {
        (Some(a), Some(b)) => a == b,
        _ => a.name == b.name,
    };
    let alter = |what: String| format!("ALTER TABLE {table} {what}");
    for gone in before.iter().filter(|column| !now.iter().any(|other| is_same(other, column))) {
        put(sql, &alter(format!("DROP COLUMN {} CASCADE", ident(&gone.name))));
    }
    let pairs = || now.iter().filter_map(|column| Some((before.iter().find(|other| is_same(other, column))?, column)));
    // Two may have changed their names with each other.
    let renamed: Vec<_> = pairs().filter(|(old, new)| old.name != new.name).collect();
    let between = |at: usize| ident(&format!("lifeboat {at}"));
    for (at, (old, _)) in renamed.iter().enumerate() {
        put(sql, &alter(format!("RENAME COLUMN {} TO {}", ident(&old.name), between(at))));
    }
    for (at, (_, new)) in renamed.iter().enumerate() {
        put(sql, &alter(format!("RENAME COLUMN {} TO {}", between(at), ident(&new.name))));
    }
    for (_, new) in pairs().filter(|(old, new)| old.type_name != new.type_name) {
        put(sql, &alter(format!("ALTER COLUMN {} TYPE {}", ident(&new.name), new.type_name)));
    }
    for new in now.iter().filter(|column| !before.iter().any(|other| is_same(other, column))) {
        put(sql, &alter(format!("ADD COLUMN {} {}", ident(&new.name), new.type_name)));
    }
}

fn put(sql: &mut String, statement: &str) {
    let _ = writeln!(sql, "{statement};"); // into a text nothing fails
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(columns: &[(i16, &str, &str)]) -> TableDefinition {
        let column = |(number, name, type_name): &(i16, &str, &str)| ColumnDefinition {
            name: (*name).to_owned(),
            type_name: (*type_name).to_owned(),
            not_null: false,
            is_identity: false,
            number: Some(*number),
        };
        TableDefinition {
            name: "s.t".into(),
            columns: columns.iter().map(column).collect(),
            primary_key: vec!["id".into()],
            order: String::new(),
            rule: None,
        }
    }

    fn check(base: &[(&str, TableDefinition)], now: &[(&str, TableDefinition)], want: &[&str]) {
        let named = |all: &[(&str, TableDefinition)]| -> BTreeMap<String, TableDefinition> {
            all.iter().map(|(name, table)| ((*name).to_owned(), table.clone())).collect()
        };
        let sql = amendments(&named(base), &named(now)).unwrap_or_default();
        let lines: Vec<&str> = sql.lines().filter(|line| !line.is_empty() && !line.starts_with("--")).collect();
        assert_eq!(lines, want);
    }

    #[test]
    fn columns_are_followed_by_their_numbers() {
        let base = table(&[(1, "id", "bigint"), (2, "a", "text"), (3, "b", "text"), (4, "c", "character varying(9)")]);
        check(&[("s.t", base.clone())], &[("s.t", base.clone())], &[]);
        let now =
            table(&[(1, "id", "bigint"), (3, "a", "text"), (4, "c", "character varying(20)"), (5, "d\"", "date")]);
        check(
            &[("s.t", base)],
            &[("s.t", now)],
            &[
                "ALTER TABLE s.t DROP COLUMN \"a\" CASCADE;",
                "ALTER TABLE s.t RENAME COLUMN \"b\" TO \"lifeboat 0\";",
                "ALTER TABLE s.t RENAME COLUMN \"lifeboat 0\" TO \"a\";",
                "ALTER TABLE s.t ALTER COLUMN \"c\" TYPE character varying(20);",
                "ALTER TABLE s.t ADD COLUMN \"d\"\"\" date;",
            ],
        );
    }

    #[test]
    fn tables_come_and_go() {
        let one = table(&[(1, "id", "bigint"), (2, "a", "text")]);
        check(
            &[("s.old", one.clone())],
            &[("s.new", one)],
            &["DROP TABLE s.old CASCADE;", "CREATE TABLE s.new (\"id\" bigint, \"a\" text, PRIMARY KEY (\"id\"));"],
        );
    }
}
