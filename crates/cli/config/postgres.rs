//! `[sources.NAME]` of kind "postgres": where the database is, and how it tells sites apart.
//!
//! Whether the tables and columns exist is asked when the database is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lifeboat_source::postgres::{NamePattern, Reference, TableName, TableRule, Tenancy};

use super::ConfigError;
use super::reader::{Field, Table};
use super::repository::{KeyRef, parse_key};

const URL_EXAMPLE: &str = "\"env:APP_DATABASE_URL\"";
const VIA_EXAMPLE: &str = "\"comments.issue_id -> issues.id\"";

/// A database that many sites share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresSettings {
    /// Where the connection URL is: it holds a password.
    pub url: KeyRef,
    pub tenancy: Tenancy,
    /// How a site's schema or database is called.
    pub names: NamePattern,
    pub not_sites: Vec<String>,
    pub pg_dump: Option<PathBuf>,
    /// As written in SQL.
    pub tenant_column: Option<String>,
    pub root: Option<TableName>,
    pub shared: Vec<TableName>,
    pub ignored: Vec<TableName>,
    pub tables: BTreeMap<TableName, TableRule>,
}

pub(super) fn read(table: &mut Table<'_, '_>, directory: &Path) -> Result<PostgresSettings, ConfigError> {
    let url = url(&table.require("url", URL_EXAMPLE)?, directory)?;
    let tenancy = tenancy(&table.require("tenancy", "\"column\"")?)?;
    let own = own(table, tenancy)?;
    let tenant_column = table.take("tenant_column").map(|field| name(&field, "\"site_id\"")).transpose()?;
    let root = table.take("root").map(|field| name(&field, "\"sites\"")).transpose()?;
    let shared = tables(table, "shared")?;
    let ignored = tables(table, "ignored")?;
    let mut rules = BTreeMap::new();
    if let Some(mut listed) = table.take_table("tables")? {
        for (name, field) in listed.take_rest() {
            rules.insert(TableName::quoted(name), rule(name, field)?);
        }
    }
    if tenancy == Tenancy::Column && tenant_column.is_none() && root.is_none() && rules.is_empty() {
        return Err(table.error(
            "neither `tenant_column` nor `root` says what a site is",
            "write tenant_column = \"site_id\": the column that holds the site in most tables",
        ));
    }
    let root = root.map(TableName::quoted);
    let Own { names, not_sites, pg_dump } = own;
    let tables = rules;
    Ok(PostgresSettings { url, tenancy, names, not_sites, pg_dump, tenant_column, root, shared, ignored, tables })
}

/// What is said of schemas or databases that are a site each.
#[derive(Default)]
struct Own {
    names: NamePattern,
    not_sites: Vec<String>,
    pg_dump: Option<PathBuf>,
}

fn own(table: &mut Table<'_, '_>, tenancy: Tenancy) -> Result<Own, ConfigError> {
    // A key that means nothing here would be a wish that nobody fulfils.
    let (key, not_sites, others): (_, _, &[&str]) = match tenancy {
        Tenancy::Column => ("", "", &["schema", "database", "not_sites", "pg_dump"]),
        Tenancy::Schema => ("schema", "public", &["database", "tenant_column", "root", "shared", "tables"]),
        Tenancy::Database => ("database", "postgres", &["schema", "tenant_column", "root", "shared", "tables"]),
    };
    for other in others {
        if let Some(field) = table.take(other) {
            let word = word(tenancy);
            return Err(field.error(
                format!("it means nothing with tenancy = \"{word}\": key=`{}`", field.key),
                format!("take it out, or is the tenancy another one than {word}?"),
            ));
        }
    }
    if tenancy == Tenancy::Column {
        return Ok(Own::default());
    }
    let mut own = Own { not_sites: vec![not_sites.to_owned()], ..Own::default() };
    if let Some(field) = table.take(key) {
        let example = format!("\"tenant_{{site}}\": what a site's {key} is called");
        let text = field.text("a name with {site} in it", &example)?;
        own.names =
            NamePattern::parse(text).ok_or_else(|| field.mistyped("a name with {site} in it once", &example))?;
    }
    if let Some(field) = table.take("not_sites") {
        own.not_sites = field.texts("a list of names", "[\"public\"]")?;
    }
    if let Some(field) = table.take("pg_dump") {
        own.pg_dump =
            Some(PathBuf::from(field.text("the path of a program", "\"/usr/lib/postgresql/15/bin/pg_dump\"")?));
    }
    Ok(own)
}

fn word(tenancy: Tenancy) -> &'static str {
    match tenancy {
        Tenancy::Column => "column",
        Tenancy::Schema => "schema",
        Tenancy::Database => "database",
    }
}

/// Never repeats the text: it may be the secret.
fn url(field: &Field<'_, '_>, directory: &Path) -> Result<KeyRef, ConfigError> {
    let text = field.text("the place of a connection URL", URL_EXAMPLE)?;
    parse_key(text, directory).map_err(|(detail, _)| {
        field.error(
            format!("{detail}: key=`{}`", field.key),
            "put the connection URL into a file of mode 0600 and write url = \"file:app.url\", or url = \"env:NAME\"",
        )
    })
}

fn tenancy(field: &Field<'_, '_>) -> Result<Tenancy, ConfigError> {
    match field.text("how sites are kept apart", "\"column\"")? {
        "column" => Ok(Tenancy::Column),
        "schema" => Ok(Tenancy::Schema),
        "database" => Ok(Tenancy::Database),
        _ => Err(field.mistyped("column, schema or database", "\"column\"")),
    }
}

fn name(field: &Field<'_, '_>, example: &str) -> Result<String, ConfigError> {
    match field.text("a name as in SQL", example)?.trim() {
        "" => Err(field.mistyped("a name as in SQL", example)),
        name => Ok(name.to_owned()),
    }
}

fn tables(table: &mut Table<'_, '_>, key: &'static str) -> Result<Vec<TableName>, ConfigError> {
    let Some(field) = table.take(key) else { return Ok(Vec::new()) };
    let names = field.texts("a list of tables", "[\"countries\", \"app.plans\"]")?;
    Ok(names.into_iter().map(TableName::quoted).collect())
}

/// One of `tenant_column` and `via`.
fn rule(name_of_table: &str, field: Field<'_, '_>) -> Result<TableRule, ConfigError> {
    let mut table = field.clone().table()?;
    let rule = match (table.take("tenant_column"), table.take("via")) {
        (Some(column), None) => TableRule::TenantColumn(name(&column, "\"org_id\"")?),
        (None, Some(via)) if via.is_text() => TableRule::Via(reference(name_of_table, &via)?),
        (None, Some(via)) => polymorphic(via)?,
        (Some(_), Some(via)) => {
            return Err(via.error(
                format!("a table has one way to its site: key=`{}`", via.key),
                "write either tenant_column or via",
            ));
        }
        (None, None) => {
            // A misspelt key says more than that one is missing.
            table.finish()?;
            return Err(field.error(
                format!("nothing is said of the table: key=`{}`", field.key),
                format!("write tenant_column = \"org_id\" or via = {VIA_EXAMPLE}"),
            ));
        }
    };
    table.finish()?;
    Ok(rule)
}

/// `comments.issue_id -> issues.id`, or with several columns `lines.(site, number) -> orders.(site, number)`.
fn reference(name_of_table: &str, field: &Field<'_, '_>) -> Result<Reference, ConfigError> {
    let wanted = "a reference from this table to another";
    let text = field.text(wanted, VIA_EXAMPLE)?;
    let mistyped = || field.mistyped(wanted, VIA_EXAMPLE);
    let (from, to) = text.split_once("->").ok_or_else(mistyped)?;
    let (child, child_columns) = side(from).ok_or_else(mistyped)?;
    let (parent, parent_columns) = side(to).ok_or_else(mistyped)?;
    let plain = |name: &str| name.strip_prefix("public.").unwrap_or(name).to_owned();
    if child.as_deref().is_some_and(|child| plain(child) != plain(name_of_table)) {
        return Err(field.error(
            format!("the reference does not begin at its own table: key=`{}`", field.key),
            format!("begin it with a column of {name_of_table}, such as via = {VIA_EXAMPLE}"),
        ));
    }
    let parent = TableName::quoted(parent.ok_or_else(mistyped)?);
    Ok(Reference { child_columns, parent, parent_columns })
}

/// `{ type = "kind", id = "ref", map = { Issue = "issues.id" } }`.
fn polymorphic(field: Field<'_, '_>) -> Result<TableRule, ConfigError> {
    let mut table = field.table()?;
    let kind = name(&table.require("type", "\"kind\"")?, "\"kind\"")?;
    let id = name(&table.require("id", "\"ref\"")?, "\"ref\"")?;
    let example = "\"issues.id\"";
    let mut map = BTreeMap::new();
    for (value, target) in table.require("map", "{ Issue = \"issues.id\" }")?.table()?.take_rest() {
        let side = side(target.text("a table and its column", example)?);
        let Some((Some(parent), [column])) = side.as_ref().map(|(table, columns)| (table.as_ref(), &columns[..]))
        else {
            return Err(target.mistyped("a table and its column", example));
        };
        map.insert(value.to_owned(), (TableName::quoted(parent), column.clone()));
    }
    if map.is_empty() {
        return Err(table.error("`map` names no table", format!("write map = {{ Issue = {example} }}")));
    }
    table.finish()?;
    Ok(TableRule::Polymorphic { kind, id, map })
}

/// `table.column`, `column`, `table.(column, column)` or `(column, column)`; dots and commas in quotes divide nothing.
fn side(text: &str) -> Option<(Option<String>, Vec<String>)> {
    let text = text.trim();
    let (table, columns) = match text.strip_suffix(')') {
        Some(rest) => {
            let open = outside_quotes(rest, '(').next()?;
            let table = rest[..open].trim();
            let table = if table.is_empty() { "" } else { table.strip_suffix('.')?.trim() };
            let list = &rest[open + 1..];
            let mut columns = Vec::new();
            let mut from = 0;
            for at in outside_quotes(list, ',').chain([list.len()]) {
                columns.push(list[from..at].trim().to_owned());
                from = at + 1;
            }
            (table, columns)
        }
        None => match outside_quotes(text, '.').last() {
            Some(dot) => (text[..dot].trim(), vec![text[dot + 1..].trim().to_owned()]),
            None => ("", vec![text.to_owned()]),
        },
    };
    let is_whole = columns.iter().all(|column| !column.is_empty());
    is_whole.then(|| (Some(table.to_owned()).filter(|table| !table.is_empty()), columns))
}

/// Where `wanted` stands in `text`, names in double quotes left out.
fn outside_quotes(text: &str, wanted: char) -> impl Iterator<Item = usize> {
    let mut is_quoted = false;
    text.char_indices().filter_map(move |(at, found)| {
        is_quoted ^= found == '"';
        (!is_quoted && found == wanted).then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_of_a_reference_is_a_table_and_columns() {
        let check = |text: &str, want: Option<(Option<&str>, &[&str])>| {
            let want = want.map(|(table, columns)| {
                (table.map(str::to_owned), columns.iter().map(|column| (*column).to_owned()).collect::<Vec<_>>())
            });
            assert_eq!(side(text), want, "{text}");
        };
        check(" issue_id ", Some((None, &["issue_id"])));
        check("comments.issue_id", Some((Some("comments"), &["issue_id"])));
        check("app.comments.issue_id", Some((Some("app.comments"), &["issue_id"])));
        check("app.\"a.b\".\"c.d\"", Some((Some("app.\"a.b\""), &["\"c.d\""])));
        check("orders.(site, number)", Some((Some("orders"), &["site", "number"])));
        check("( \"a,b\" , c )", Some((None, &["\"a,b\"", "c"])));
        check("app.\"(x)\".(a)", Some((Some("app.\"(x)\""), &["a"])));
        for wrong in ["", "a.", "orders.()", "orders.(a,)", "orders(a)"] {
            check(wrong, None);
        }
    }
}
