//! What the index is asked by, and one in memory.

use std::collections::HashMap;

use lifeboat_model::{ChangedValue, SiteId};

use super::super::replay::put_escaped;
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

/// What rows of one table are asked for by: columns, and the beginning of what is hashed of their values.
pub(super) struct KeyOf(Vec<u8>);

impl KeyOf {
    pub fn new(table: &str, columns: &[String]) -> Self {
        let mut beginning = Vec::new();
        let texts = std::iter::once(table).chain(columns.iter().map(String::as_str));
        texts.for_each(|text| add(text.as_bytes(), &mut beginning));
        Self(beginning)
    }

    /// `None`: a value is NULL, or not known, and leads to no row.
    pub fn of<'v>(&self, values: impl Iterator<Item = Option<&'v ChangedValue>>) -> Option<IndexKey> {
        let mut bytes = self.begin();
        for value in values {
            let Some(ChangedValue::Text(text)) = value else { return None };
            let at = bytes.len();
            bytes.extend_from_slice(&[0; 8]);
            put_escaped(text, &mut bytes);
            let len = (bytes.len() - at - 8) as u64;
            bytes[at..at + 8].copy_from_slice(&len.to_le_bytes());
        }
        Some(hashed(&bytes))
    }

    /// The same of values as `COPY` writes them, in which no tab stands.
    pub fn of_texts<'v>(&self, values: impl Iterator<Item = &'v [u8]>) -> IndexKey {
        let mut bytes = self.begin();
        values.for_each(|text| add(text, &mut bytes));
        hashed(&bytes)
    }

    fn begin(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() + 64);
        bytes.extend_from_slice(&self.0);
        bytes
    }
}

fn add(text: &[u8], bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
    bytes.extend_from_slice(text);
}

fn hashed(bytes: &[u8]) -> IndexKey {
    let mut key = [0; 16];
    key.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    IndexKey(key)
}
