//! A routing index in memory, which a crash takes back to its last commit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use lifeboat_engine::{CaptureIndex, Error, IndexPlace};
use lifeboat_model::SiteId;
use lifeboat_source::postgres::routing::{IndexKey, MemoryIndex, RoutingIndex};

/// One that outlives whoever opens it: what was not committed is gone when it is opened again.
#[derive(Clone, Default)]
pub struct SharedIndex(Arc<Mutex<Index>>);

impl SharedIndex {
    pub fn open(&self) -> Box<dyn CaptureIndex> {
        self.lock().crash();
        Box::new(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.0.lock().unwrap()
    }
}

#[derive(Default)]
pub struct Index {
    rows: MemoryIndex,
    place: Option<IndexPlace>,
    committed: (MemoryIndex, Option<IndexPlace>),
    counted_on: BTreeMap<String, String>,
}

impl Index {
    /// What was not committed is gone.
    pub fn crash(&mut self) {
        (self.rows, self.place) = self.committed.clone();
    }
}

impl RoutingIndex for Index {
    fn site_of(&mut self, key: &IndexKey) -> Result<Option<SiteId>, lifeboat_source::Error> {
        self.rows.site_of(key)
    }

    fn put(&mut self, table: &str, key: &IndexKey, site: &SiteId) -> Result<(), lifeboat_source::Error> {
        self.rows.put(table, key, site)
    }

    fn remove(&mut self, key: &IndexKey) -> Result<(), lifeboat_source::Error> {
        self.rows.remove(key)
    }

    fn forget_table(&mut self, table: &str) -> Result<(), lifeboat_source::Error> {
        self.rows.forget_table(table)
    }
}

impl CaptureIndex for Index {
    fn place(&mut self) -> Result<Option<IndexPlace>, Error> {
        Ok(self.place)
    }

    fn clear(&mut self) -> Result<(), Error> {
        *self = Self::default();
        Ok(())
    }

    fn counted_on(&mut self) -> Result<BTreeMap<String, String>, Error> {
        Ok(self.counted_on.clone())
    }

    fn count_on(&mut self, tables: &BTreeMap<String, String>) -> Result<(), Error> {
        self.counted_on = tables.clone();
        Ok(())
    }

    fn commit(&mut self, place: &IndexPlace) -> Result<(), Error> {
        self.place = Some(*place);
        self.committed = (self.rows.clone(), self.place);
        Ok(())
    }
}

impl RoutingIndex for SharedIndex {
    fn site_of(&mut self, key: &IndexKey) -> Result<Option<SiteId>, lifeboat_source::Error> {
        self.lock().site_of(key)
    }

    fn put(&mut self, table: &str, key: &IndexKey, site: &SiteId) -> Result<(), lifeboat_source::Error> {
        self.lock().put(table, key, site)
    }

    fn remove(&mut self, key: &IndexKey) -> Result<(), lifeboat_source::Error> {
        self.lock().remove(key)
    }

    fn forget_table(&mut self, table: &str) -> Result<(), lifeboat_source::Error> {
        self.lock().forget_table(table)
    }
}

impl CaptureIndex for SharedIndex {
    fn place(&mut self) -> Result<Option<IndexPlace>, Error> {
        self.lock().place()
    }

    fn clear(&mut self) -> Result<(), Error> {
        self.lock().clear()
    }

    fn counted_on(&mut self) -> Result<BTreeMap<String, String>, Error> {
        self.lock().counted_on()
    }

    fn count_on(&mut self, tables: &BTreeMap<String, String>) -> Result<(), Error> {
        self.lock().count_on(tables)
    }

    fn commit(&mut self, place: &IndexPlace) -> Result<(), Error> {
        self.lock().commit(place)
    }
}
