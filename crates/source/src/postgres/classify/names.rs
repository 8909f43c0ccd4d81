//! Names as people write them in SQL, and the ones that exist.

use std::collections::BTreeMap;

use super::rules::Fault;
use crate::postgres::{Catalogue, Column, Table, TableName};

/// Splits `app."Site"` into its parts as the catalogue has them; `None`: not a name in SQL.
pub(in crate::postgres) fn parts(text: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    loop {
        let (part, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_part(quoted)?,
            None => {
                let end = rest.find(['.', '"']).unwrap_or(rest.len());
                let (part, after) = rest.split_at(end);
                // Bare names are folded, as the server does.
                (part.trim().to_lowercase(), after)
            }
        };
        if part.is_empty() {
            return None;
        }
        parts.push(part);
        match after.strip_prefix('.') {
            Some(next) => rest = next,
            None if after.is_empty() => return Some(parts),
            None => return None,
        }
    }
}

/// What is behind an opening quote, up to the closing one; two of them stand for one.
fn quoted_part(text: &str) -> Option<(String, &str)> {
    let mut part = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        part.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                part.push('"');
                rest = after;
            }
            None => return Some((part, rest)),
        }
    }
}

/// Tables by schema and name as the catalogue has them.
pub(super) struct Names<'a> {
    catalogue: &'a Catalogue,
    by_parts: BTreeMap<Vec<String>, &'a Table>,
}

impl<'a> Names<'a> {
    pub fn of(catalogue: &'a Catalogue) -> Self {
        let by_parts = catalogue.tables.values().filter_map(|table| Some((parts(table.name.as_str())?, table)));
        Self { catalogue, by_parts: by_parts.collect() }
    }

    /// The table that is named; `public.` may be left out.
    pub fn table(&self, key: &str, name: &TableName) -> Result<&'a Table, Fault> {
        let Some(mut wanted) = parts(name.as_str()) else {
            return Err(Fault::new(
                format!("`{key}` has a name that is none in SQL: name=`{name}`"),
                "write it as format('%I.%I', schema, table) prints it, such as app.\"Site\"".into(),
            ));
        };
        if wanted.len() == 1 {
            wanted.insert(0, "public".to_owned());
        }
        if let Some(table) = self.by_parts.get(&wanted) {
            return Ok(table);
        }
        let is_view = self.catalogue.views.iter().any(|view| parts(view.as_str()).as_ref() == Some(&wanted));
        if is_view {
            let hint = "views hold nothing of their own: leave it out of the configuration";
            return Err(Fault::new(format!("`{key}` names a view: name=`{name}`"), hint.into()));
        }
        let known = self.catalogue.tables.keys().map(TableName::as_str);
        let hint = match nearest(&wanted.join("."), known) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => "`lifeboat sources inspect` lists the tables of the database".into(),
        };
        Err(Fault::new(format!("`{key}` names no table: name=`{name}`"), hint))
    }
}

/// The column that is named as in SQL.
pub(super) fn column<'a>(key: &str, table: &'a Table, name: &str) -> Result<&'a Column, Fault> {
    if let Some(column) = find_column(table, name) {
        return Ok(column);
    }
    let known = table.columns.iter().map(|column| column.quoted.as_str());
    let hint = match nearest(name, known) {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => format!("`{}` has these: {}", table.name, list(table)),
    };
    Err(Fault::new(format!("`{key}` names no column of `{}`: name=`{name}`", table.name), hint))
}

pub(super) fn find_column<'a>(table: &'a Table, name: &str) -> Option<&'a Column> {
    let wanted = parts(name).filter(|parts| parts.len() == 1)?.pop()?;
    table.columns.iter().find(|column| column.name == wanted)
}

fn list(table: &Table) -> String {
    let names: Vec<&str> = table.columns.iter().map(|column| column.quoted.as_str()).collect();
    names.join(", ")
}

/// The name most like `wanted`, if any is.
pub(super) fn nearest<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |name: &str| name.replace('"', "").to_lowercase();
    let wanted = plain(wanted);
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let likeness = |name: &str| {
        let name = plain(name);
        // The right table in another schema is near too.
        let same_table = if last(&name) == last(&wanted) { 0.9 } else { 0.0 };
        strsim::jaro_winkler(&wanted, &name).min(0.99).max(same_table).max(f64::from(u8::from(name == wanted)))
            - 0.01 * strsim::osa_distance(&wanted, &name).min(10) as f64
    };
    let best = known.map(|name| (likeness(name), name)).max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(likeness, _)| *likeness >= 0.8).map(|(_, name)| name)
}
