//! A routing index in memory, which a crash takes back to its last commit.

use lifeboat_engine::{CaptureIndex, Error, IndexPlace};
use lifeboat_model::SiteId;
use lifeboat_source::postgres::routing::{IndexKey, MemoryIndex, RoutingIndex};

#[derive(Default)]
pub struct Index {
    rows: MemoryIndex,
    place: Option<IndexPlace>,
    committed: (MemoryIndex, Option<IndexPlace>),
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

    fn commit(&mut self, place: &IndexPlace) -> Result<(), Error> {
        self.place = Some(*place);
        self.committed = (self.rows.clone(), self.place);
        Ok(())
    }
}
