//! What the index is asked by, and one in memory.

use std::collections::HashMap;

use lifeboat_model::{ChangedTable, ChangedValue, SiteId};

use super::super::replay::escaped;
use crate::Error;

/// Table, columns and values, hashed: 16 bytes of BLAKE3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IndexKey(pub [u8; 16]);

/// Whose each row is, by its primary key and by the columns that others refer to it by.
pub trait RoutingIndex {
    fn site_of(&mut self, key: &IndexKey) -> Result<Option<SiteId>, Error>;
    /// `table`: so that a whole table can be forgotten.
    fn put(&mut self, table: &str, key: &IndexKey, site: &SiteId) -> Result<(), Error>;
    fn remove(&mut self, key: &IndexKey) -> Result<(), Error>;
    fn forget_table(&mut self, table: &str) -> Result<(), Error>;
}

/// Until the process ends.
#[derive(Debug, Clone, Default)]
pub struct MemoryIndex(HashMap<IndexKey, (String, SiteId)>);

impl RoutingIndex for MemoryIndex {
    fn site_of(&mut self, key: &IndexKey) -> Result<Option<SiteId>, Error> {
        Ok(self.0.get(key).map(|(_, site)| site.clone()))
    }

    fn put(&mut self, table: &str, key: &IndexKey, site: &SiteId) -> Result<(), Error> {
        self.0.insert(*key, (table.to_owned(), site.clone()));
        Ok(())
    }

    fn remove(&mut self, key: &IndexKey) -> Result<(), Error> {
        self.0.remove(key);
        Ok(())
    }

    fn forget_table(&mut self, table: &str) -> Result<(), Error> {
        self.0.retain(|_, (of, _)| of != table);
        Ok(())
    }
}

/// `None`: a value is NULL, or not known, and leads to no row.
pub(super) fn key_of(table: &str, columns: &[String], values: &[&ChangedValue]) -> Option<IndexKey> {
    let is_null = |value: &&&ChangedValue| **value == &ChangedValue::Null;
    if values.iter().any(|value| is_null(&value)) {
        return None;
    }
    let texts: Option<Vec<Vec<u8>>> = values.iter().map(|value| escaped(value)).collect();
    Some(key_of_texts(table, columns, texts?.iter().map(Vec::as_slice)))
}

/// The same of values as `COPY` writes them, in which no tab stands.
pub(super) fn key_of_texts<'v>(table: &str, columns: &[String], values: impl Iterator<Item = &'v [u8]>) -> IndexKey {
    let mut hasher = blake3::Hasher::new();
    let mut add = |text: &[u8]| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text);
    };
    add(table.as_bytes());
    columns.iter().for_each(|column| add(column.as_bytes()));
    values.for_each(&mut add);
    let mut key = [0; 16];
    key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    IndexKey(key)
}

/// By the primary key; `None`: the table has none, or the key is not whole.
pub(super) fn primary(table: &ChangedTable, key: &[ChangedValue]) -> Option<IndexKey> {
    if table.key.is_empty() || key.len() != table.key.len() {
        return None;
    }
    let names: Option<Vec<String>> = table.key.iter().map(|at| Some(table.columns.get(*at)?.name.clone())).collect();
    key_of(&table.name, &names?, &key.iter().collect::<Vec<_>>())
}

/// The key's values as a row has them; of a table without a key the whole row.
pub(super) fn key_in_row(table: &ChangedTable, row: &[ChangedValue]) -> Vec<ChangedValue> {
    match table.key.is_empty() {
        true => row.to_vec(),
        false => table.key.iter().filter_map(|at| row.get(*at)).cloned().collect(),
    }
}
