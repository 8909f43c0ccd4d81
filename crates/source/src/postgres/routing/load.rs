//! Filling the index from the database, under the snapshot at which an epoch begins.

use std::io::BufRead;

use lifeboat_model::{ChangedColumn, ChangedTable, SiteId};

use super::super::replay::Lines;
use super::super::{Catalogue, Classes, Session, Table};
use super::index::KeyOf;
use super::{Router, RoutingIndex};
use crate::Error;

/// Reads the rows of a table, whose each is, and one set of columns that rows are asked for by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexQuery {
    pub table: String,
    /// As they are in the catalogue.
    pub columns: Vec<String>,
    /// `COPY … TO STDOUT`: the site, then the columns.
    pub copy: String,
}

impl Router {
    /// What fills the index.
    pub fn index_queries(&self, classes: &Classes, catalogue: &Catalogue) -> Vec<IndexQuery> {
        let of_sites = catalogue.tables.values().filter(|table| classes.is_of_sites(&table.name));
        of_sites.flat_map(|table| self.queries_of(classes, table)).collect()
    }

    fn queries_of(&self, classes: &Classes, table: &Table) -> Vec<IndexQuery> {
        let tenant = classes.tenant_of(&table.name);
        let query = |columns: Vec<String>| {
            let quoted = |name: &String| {
                let column = table.columns.iter().find(|column| column.name == *name);
                column.map(|column| format!("t.{}", column.quoted))
            };
            let list: Option<Vec<String>> = columns.iter().map(quoted).collect();
            let copy = format!(
                "COPY (SELECT {}, {} FROM {} t {}) TO STDOUT",
                tenant.expression,
                list?.join(", "),
                table.from_item(),
                tenant.joins
            );
            Some(IndexQuery { table: table.name.as_str().to_owned(), columns, copy })
        };
        self.rules.sets_of(&as_changed(table)).into_iter().filter_map(query).collect()
    }
}

impl IndexQuery {
    /// Runs it, and puts what it gives into the index. Rows that are nobody's are passed over.
    pub fn fill(&self, session: &mut Session, index: &mut dyn RoutingIndex) -> Result<(), Error> {
        let action = format!("cannot read whose the rows of table `{}` are", self.table);
        let (mut lines, key) = (Lines::default(), KeyOf::new(&self.table, &self.columns));
        let mut failed = None;
        let mut take = |line: &[u8]| {
            let mut values = line.split(|byte| *byte == b'\t');
            let site = values.next().and_then(|site| SiteId::new(std::str::from_utf8(site).ok()?).ok());
            let Some(site) = site.filter(|site| !site.as_str().contains('\\')) else { return Ok(()) };
            let values: Vec<&[u8]> = values.collect();
            if values.contains(&b"\\N".as_slice()) {
                return Ok(());
            }
            index.put(&self.table, &key.of_texts(values.into_iter()), &site)
        };
        let copied = session.copy_out(&self.copy).map_err(std::io::Error::other).and_then(|mut out| {
            loop {
                let bytes = out.fill_buf()?;
                if bytes.is_empty() {
                    return Ok(());
                }
                let (len, taken) = (bytes.len(), lines.take(bytes, &mut take));
                out.consume(len);
                if let Err(error) = taken {
                    failed = Some(error);
                    return Ok(());
                }
            }
        });
        match (failed, copied) {
            (Some(error), _) => Err(error),
            (None, Err(error)) => Err(session.failed_io(action, &error)),
            (None, Ok(())) => lines.end(&self.table),
        }
    }
}

/// A table as changes of it would name it.
fn as_changed(table: &Table) -> ChangedTable {
    let stored: Vec<_> = table.stored_columns().collect();
    let column = |column: &&super::super::Column| ChangedColumn {
        name: column.name.clone(),
        type_name: column.type_name.clone(),
    };
    let place = |at: &usize| {
        let name = &table.columns.get(*at)?.name;
        stored.iter().position(|column| column.name == *name)
    };
    ChangedTable {
        name: table.name.as_str().to_owned(),
        columns: stored.iter().map(column).collect(),
        key: table.primary_key.iter().flatten().filter_map(place).collect(),
    }
}
