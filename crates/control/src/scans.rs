//! When a source of files was scanned last: beside the catalog, for whoever asks how things are.
//!
//! `lifeboat.catalog/scans-<source>.json`, written anew after each round. An unchanged tree publishes nothing, so that
//! the bucket does not say it. It is a cache: deleted, the next round writes it again.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use lifeboat_model::{SourceName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Error;

/// How a source's last round of scans went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanNote {
    /// When the round began.
    pub scanned_at: Timestamp,
    pub sites: u64,
    /// Sites that could not be scanned.
    pub failed: u64,
}

#[derive(Serialize, Deserialize)]
struct Row {
    repository: [u8; 16],
    scanned_at: i64,
    sites: u64,
    failed: u64,
}

impl ScanNote {
    /// Keeps the note of a source of this repository.
    pub fn write(&self, catalog: &Path, source: &SourceName, repository: [u8; 16]) -> Result<(), Error> {
        let path = place(catalog, source);
        let new = path.with_extension("json.new");
        let row = Row { repository, scanned_at: self.scanned_at.0, sites: self.sites, failed: self.failed };
        let write = || {
            std::fs::create_dir_all(catalog)?;
            let mut file = std::fs::File::create(&new)?;
            file.write_all(serde_json::to_string(&row)?.as_bytes())?;
            std::fs::rename(&new, &path)
        };
        write().map_err(|io: std::io::Error| Error::of_io(&path, &io))
    }

    /// `None`: never scanned from here into this repository.
    pub fn read(catalog: &Path, source: &SourceName, repository: [u8; 16]) -> Result<Option<Self>, Error> {
        let path = place(catalog, source);
        let text = match std::fs::read_to_string(&path) {
            Err(io) if io.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|io| Error::of_io(&path, &io))?,
        };
        // What another version wrote says nothing, and is soon written again.
        let row = serde_json::from_str::<Row>(&text).ok().filter(|row| row.repository == repository);
        Ok(row.map(|row| Self { scanned_at: Timestamp(row.scanned_at), sites: row.sites, failed: row.failed }))
    }
}

fn place(catalog: &Path, source: &SourceName) -> PathBuf {
    catalog.join(format!("scans-{source}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_of_one_source_of_one_repository_and_what_is_no_note_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = dir.path().join("lifeboat.catalog");
        let (files, other) = (SourceName::new("files").unwrap(), SourceName::new("other").unwrap());
        let note = ScanNote { scanned_at: Timestamp(7), sites: 3, failed: 1 };
        assert_eq!(ScanNote::read(&catalog, &files, [1; 16]).unwrap(), None);
        note.write(&catalog, &files, [1; 16]).unwrap();
        let later = ScanNote { scanned_at: Timestamp(8), ..note };
        later.write(&catalog, &files, [1; 16]).unwrap();
        assert_eq!(ScanNote::read(&catalog, &files, [1; 16]).unwrap(), Some(later));
        assert_eq!(ScanNote::read(&catalog, &files, [2; 16]).unwrap(), None);
        assert_eq!(ScanNote::read(&catalog, &other, [1; 16]).unwrap(), None);
        std::fs::write(place(&catalog, &files), "{").unwrap();
        assert_eq!(ScanNote::read(&catalog, &files, [1; 16]).unwrap(), None);
    }
}
