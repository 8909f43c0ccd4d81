//! The routing index on disk, as a capture takes it: bound to one repository.

use std::collections::BTreeMap;
use std::path::Path;

use lifeboat_control::{RoutingFile, RoutingPlace};
use lifeboat_engine::{CaptureIndex, Error, IndexPlace};
use lifeboat_model::{EpochId, Fault, Faulty, SiteId, SourceName};
use lifeboat_repo::Repository;
use lifeboat_source::postgres::routing::{IndexKey, RoutingIndex};

/// The index of one source.
pub struct CaptureFile {
    file: RoutingFile,
    /// Of another repository, what it says of an epoch is of another log.
    repository: [u8; 16],
    source: SourceName,
}

impl CaptureFile {
    /// Opens it as it was committed last, beside the catalog.
    pub fn open(directory: &Path, repository: &Repository, source: &SourceName) -> Result<Self, Error> {
        let file = RoutingFile::open(directory, source).map_err(|error| refused(&error))?;
        Ok(Self { file, repository: repository.config().repository.0, source: source.clone() })
    }

    fn failed(&self, error: &lifeboat_control::Error) -> lifeboat_source::Error {
        lifeboat_source::Error::Database {
            source_name: self.source.to_string(),
            action: "the routing index cannot be used".into(),
            detail: error.to_string(),
            hint: hint(error),
            fault: error.fault(),
        }
    }
}

fn hint(error: &lifeboat_control::Error) -> String {
    match error {
        // What the catalog would be rebuilt for; the index is filled from the database.
        lifeboat_control::Error::Damaged { .. } => {
            "run the same command again: it begins a new epoch, with a new index".into()
        }
        _ => error.hint().unwrap_or_default(),
    }
}

fn refused(error: &lifeboat_control::Error) -> Error {
    match error.fault() {
        Fault::Retry => Error::Source(lifeboat_source::Error::Database {
            source_name: String::new(),
            action: "the routing index is in use".into(),
            detail: error.to_string(),
            hint: hint(error),
            fault: Fault::Retry,
        }),
        _ => Error::Conflict { detail: format!("the routing index cannot be used: {error}"), hint: hint(error) },
    }
}

impl RoutingIndex for CaptureFile {
    fn site_of(&mut self, key: &IndexKey) -> Result<Option<SiteId>, lifeboat_source::Error> {
        self.file.site_of(&key.0).map_err(|error| self.failed(&error))
    }

    fn put(&mut self, table: &str, key: &IndexKey, site: &SiteId) -> Result<(), lifeboat_source::Error> {
        self.file.put(table, &key.0, site).map_err(|error| self.failed(&error))
    }

    fn remove(&mut self, key: &IndexKey) -> Result<(), lifeboat_source::Error> {
        self.file.remove(&key.0);
        Ok(())
    }

    fn forget_table(&mut self, table: &str) -> Result<(), lifeboat_source::Error> {
        self.file.forget_table(table).map_err(|error| self.failed(&error))
    }
}

impl CaptureIndex for CaptureFile {
    fn place(&mut self) -> Result<Option<IndexPlace>, Error> {
        let place = self.file.place().map_err(|error| self.failed(&error))?;
        let own = place.filter(|place| place.repository == self.repository);
        Ok(own.map(|place| IndexPlace {
            epoch: EpochId(place.epoch),
            position: place.position,
            unrouted: place.unrouted,
        }))
    }

    fn clear(&mut self) -> Result<(), Error> {
        Ok(self.file.clear().map_err(|error| self.failed(&error))?)
    }

    fn counted_on(&mut self) -> Result<BTreeMap<String, String>, Error> {
        Ok(self.file.counted_on().map_err(|error| self.failed(&error))?)
    }

    fn count_on(&mut self, tables: &BTreeMap<String, String>) -> Result<(), Error> {
        Ok(self.file.count_on(tables).map_err(|error| self.failed(&error))?)
    }

    fn commit(&mut self, place: &IndexPlace) -> Result<(), Error> {
        let IndexPlace { epoch, position, unrouted } = *place;
        let place = RoutingPlace { repository: self.repository, epoch: epoch.0, position, unrouted };
        Ok(self.file.commit(&place).map_err(|error| self.failed(&error))?)
    }

    fn is_full(&self) -> bool {
        self.file.is_full()
    }
}
