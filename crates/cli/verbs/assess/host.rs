//! This host: room on its disks, and what is left to be said when the store does not answer.

use std::path::Path;
use std::sync::Mutex;

use lifeboat_control::Catalog;
use lifeboat_control::alarms::{DiskFacts, Facts, Trouble};
use lifeboat_model::Timestamp;

use crate::CliError;
use crate::config::Config;

/// The disks that Lifeboat fills: the repository's, where it is a directory, and the catalog's, where a capture keeps changes
/// while the store is away. One that cannot be looked at is somebody else's alarm: nothing can be read from it either.
pub fn disks(config: &Config) -> Vec<DiskFacts> {
    let repository = config.repository.directory.as_deref().map(|path| ("repository", path));
    let places = repository.into_iter().chain([("catalog", config.repository.catalog.as_path())]);
    places.filter_map(|(place, path)| look(place, path)).collect()
}

fn look(place: &str, path: &Path) -> Option<DiskFacts> {
    // What is not there yet will be made on the disk of what is.
    let there = path.ancestors().find(|path| path.exists())?;
    let disk = rustix::fs::statvfs(there).ok()?;
    Some(DiskFacts {
        place: place.to_owned(),
        path: path.display().to_string(),
        free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
        size_bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
    })
}

/// What is known when the store does not answer: that, and this host.
pub fn without_store(config: &Config, error: &CliError) -> Result<HostAlone, CliError> {
    let catalog = match Catalog::open_existing(&config.repository.catalog) {
        Ok(Some(catalog)) => catalog,
        Ok(None) | Err(_) => Catalog::in_memory("")?,
    };
    let failure = Trouble { reason: error.message.clone(), hint: error.hint.clone() };
    let facts = Facts {
        disks: disks(config),
        notifiers: catalog.notifiers().unwrap_or_default(),
        jobs: catalog.job_troubles().unwrap_or_default(),
        ..Facts::without_store(Timestamp::now(), failure)
    };
    let repository = catalog.repository().ok().filter(|identity| !identity.is_empty());
    Ok(HostAlone { facts, repository, memory: Mutex::new(catalog) })
}

/// What is known while the store does not answer.
pub struct HostAlone {
    pub facts: Facts,
    /// The repository's id, where the catalog knows it.
    pub repository: Option<String>,
    pub memory: Mutex<Catalog>,
}
