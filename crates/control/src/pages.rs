//! The hashes of captured database files on disk: what each page is, as of one segment of the change log.
//!
//! ```text
//! lifeboat.catalog/pages-<source>.lock        held by the one that captures
//! lifeboat.catalog/pages-<source>.sqlite      mode 0600
//!   file     site ─▶ page size, page count, sum, stamp
//!   hashes   site, chunk of 256 pages ─▶ 16 bytes for each
//!   place    up to which segment of which epoch of the change log it has come
//! ```
//!
//! Each commit writes what is new and the place in one transaction, so that a crash leaves hashes that belong to one
//! segment. It is a cache: deleted, the next capture begins a new epoch.
//!
//! What is not here: reading pages, and hashing them (`lifeboat-source`).

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use lifeboat_engine::{FileUpdate, HASHES_PER_CHUNK, KnownFile, PageIndex, PagesPlace};
use lifeboat_model::{EpochId, FileState, ObjectId, PageHash, PageSum, SegmentNumber, SiteId, SourceName};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::Error;

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
    CREATE TABLE IF NOT EXISTS place (only_one INTEGER PRIMARY KEY CHECK (only_one = 1), repository BLOB NOT NULL,
        epoch INTEGER NOT NULL, segment INTEGER NOT NULL, id BLOB NOT NULL, is_filled INTEGER NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS file (number INTEGER PRIMARY KEY, site TEXT NOT NULL UNIQUE, page_size INTEGER NOT NULL,
        page_count INTEGER NOT NULL, sum BLOB NOT NULL, stamp BLOB NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS hashes (file INTEGER NOT NULL, chunk INTEGER NOT NULL, hashes BLOB NOT NULL,
        PRIMARY KEY (file, chunk)) STRICT, WITHOUT ROWID";

/// The hashes of one source's files.
pub struct PagesFile {
    file: PathBuf,
    connection: Connection,
    repository: [u8; 16],
    /// Held as long as this is: of two captures on one host one is told, before it writes anything.
    _lock: File,
}

impl PagesFile {
    /// Opens the hashes of a source, or begins them. What cannot be read is begun anew.
    pub fn open(directory: &Path, source: &SourceName, repository: [u8; 16]) -> Result<Self, Error> {
        let file = directory.join(format!("pages-{source}.sqlite"));
        let lock = lock(&directory.join(format!("pages-{source}.lock")))?;
        match Self::open_file(&file, repository, lock.try_clone().map_err(|error| Error::of_io(&file, &error))?) {
            Err(Error::Damaged { .. }) => {
                for suffix in ["", "-wal", "-shm"] {
                    let path = PathBuf::from(format!("{}{suffix}", file.display()));
                    match std::fs::remove_file(&path) {
                        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                            return Err(Error::of_io(&path, &error));
                        }
                        _ => {}
                    }
                }
                Self::open_file(&file, repository, lock)
            }
            opened => opened,
        }
    }

    fn open_file(file: &Path, repository: [u8; 16], lock: File) -> Result<Self, Error> {
        use std::os::unix::fs::OpenOptionsExt;
        let made = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(file);
        made.map_err(|error| Error::of_io(file, &error))?;
        let failed = |error| Error::of_sqlite(file, error);
        let connection = Connection::open(file).map_err(failed)?;
        connection.execute_batch(SCHEMA).map_err(failed)?;
        Ok(Self { file: file.to_owned(), connection, repository, _lock: lock })
    }

    fn read_place(&self) -> rusqlite::Result<Option<PagesPlace>> {
        let query = "SELECT epoch, segment, id, is_filled FROM place WHERE repository = ?1";
        let place = self.connection.query_row(query, [self.repository.as_slice()], |row| {
            Ok(PagesPlace {
                epoch: EpochId(row.get(0)?),
                segment: SegmentNumber(row.get::<_, i64>(1)? as u64),
                id: ObjectId(row.get(2)?),
                is_filled: row.get(3)?,
            })
        });
        place.optional()
    }

    fn read_files(&self) -> rusqlite::Result<Vec<KnownFile>> {
        let query = "SELECT site, page_size, page_count, sum, stamp FROM file";
        let mut statement = self.connection.prepare(query)?;
        let mut rows = statement.query([])?;
        let mut files = Vec::new();
        while let Some(row) = rows.next()? {
            let state =
                FileState { page_size: row.get(1)?, page_count: row.get(2)?, sum: PageSum::from_bytes(row.get(3)?) };
            // What cannot be a site was not written by us.
            if let Ok(site) = SiteId::new(row.get::<_, String>(0)?) {
                files.push(KnownFile { site, state, stamp: row.get(4)? });
            }
        }
        Ok(files)
    }

    fn read_hashes(&self, site: &SiteId, chunk: u32) -> rusqlite::Result<Vec<PageHash>> {
        let query = "SELECT hashes FROM hashes JOIN file ON file.number = hashes.file WHERE site = ?1 AND chunk = ?2";
        let mut statement = self.connection.prepare_cached(query)?;
        let found: Option<Vec<u8>> = statement.query_row(params![site.as_str(), chunk], |row| row.get(0)).optional()?;
        let (hashes, _) = found.as_deref().unwrap_or_default().as_chunks::<16>();
        Ok(hashes.iter().map(|hash| PageHash(*hash)).collect())
    }

    fn write(&mut self, place: &PagesPlace, updates: &BTreeMap<SiteId, FileUpdate>) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        for (site, update) in updates {
            write_file(&transaction, site, update)?;
        }
        let PagesPlace { epoch, segment, id, is_filled } = place;
        transaction.execute(
            "INSERT OR REPLACE INTO place (only_one, repository, epoch, segment, id, is_filled)
             VALUES (1, ?1, ?2, ?3, ?4, ?5)",
            params![self.repository.as_slice(), epoch.0, segment.0 as i64, id.0.as_slice(), is_filled],
        )?;
        transaction.commit()
    }

    fn failed(&self, error: rusqlite::Error) -> lifeboat_engine::Error {
        use lifeboat_model::Faulty;
        let error = Error::of_sqlite(&self.file, error);
        let hint = error.hint().unwrap_or_default();
        lifeboat_engine::Error::Conflict { detail: error.to_string(), hint }
    }
}

fn write_file(transaction: &Transaction<'_>, site: &SiteId, update: &FileUpdate) -> rusqlite::Result<()> {
    let mut find = transaction.prepare_cached("SELECT number FROM file WHERE site = ?1")?;
    let number: Option<i64> = find.query_row([site.as_str()], |row| row.get(0)).optional()?;
    let mut cut = transaction.prepare_cached("DELETE FROM hashes WHERE file = ?1 AND chunk >= ?2")?;
    let Some((state, stamp)) = &update.file else {
        if let Some(number) = number {
            cut.execute(params![number, 0])?;
            transaction.prepare_cached("DELETE FROM file WHERE number = ?1")?.execute([number])?;
        }
        return Ok(());
    };
    let mut put = transaction.prepare_cached(
        "INSERT INTO file (site, page_size, page_count, sum, stamp) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (site) DO UPDATE SET page_size = ?2, page_count = ?3, sum = ?4, stamp = ?5
         RETURNING number",
    )?;
    let sum = state.sum.to_bytes();
    let values = params![site.as_str(), state.page_size, state.page_count, sum.as_slice(), stamp];
    let number: i64 = put.query_row(values, |row| row.get(0))?;
    let mut put =
        transaction.prepare_cached("INSERT OR REPLACE INTO hashes (file, chunk, hashes) VALUES (?1, ?2, ?3)")?;
    for (chunk, hashes) in &update.chunks {
        let bytes: Vec<u8> = hashes.iter().flat_map(|hash| hash.0).collect();
        put.execute(params![number, chunk, bytes])?;
    }
    cut.execute(params![number, state.page_count.div_ceil(HASHES_PER_CHUNK)])?;
    Ok(())
}

impl PageIndex for PagesFile {
    fn place(&mut self) -> Result<Option<PagesPlace>, lifeboat_engine::Error> {
        self.read_place().map_err(|error| self.failed(error))
    }

    fn clear(&mut self) -> Result<(), lifeboat_engine::Error> {
        let cleared =
            self.connection.execute_batch("BEGIN; DELETE FROM place; DELETE FROM file; DELETE FROM hashes; COMMIT");
        cleared.map_err(|error| self.failed(error))
    }

    fn files(&mut self) -> Result<Vec<KnownFile>, lifeboat_engine::Error> {
        self.read_files().map_err(|error| self.failed(error))
    }

    fn hashes(&mut self, site: &SiteId, chunk: u32) -> Result<Vec<PageHash>, lifeboat_engine::Error> {
        self.read_hashes(site, chunk).map_err(|error| self.failed(error))
    }

    fn commit(
        &mut self,
        place: &PagesPlace,
        updates: &BTreeMap<SiteId, FileUpdate>,
    ) -> Result<(), lifeboat_engine::Error> {
        self.write(place, updates).map_err(|error| self.failed(error))
    }
}

/// The kernel lets go of it when its process ends, however that is.
fn lock(file: &Path) -> Result<File, Error> {
    use std::os::unix::fs::OpenOptionsExt;
    let opened = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(file);
    let opened = opened.map_err(|error| Error::of_io(file, &error))?;
    match opened.try_lock() {
        Ok(()) => Ok(opened),
        Err(TryLockError::WouldBlock) => Err(Error::Taken { file: file.display().to_string() }),
        Err(TryLockError::Error(error)) => Err(Error::of_io(file, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPOSITORY: [u8; 16] = [7; 16];

    fn place(segment: u64) -> PagesPlace {
        PagesPlace { epoch: EpochId(3), segment: SegmentNumber(segment), id: ObjectId([9; 16]), is_filled: true }
    }

    fn open(dir: &Path) -> PagesFile {
        PagesFile::open(dir, &SourceName::new("notes").unwrap(), REPOSITORY).unwrap()
    }

    fn site(id: &str) -> SiteId {
        SiteId::new(id).unwrap()
    }

    fn update(page_count: u32, chunks: &[(u32, u8)]) -> FileUpdate {
        let state = FileState { page_size: 4096, page_count, sum: PageSum::from_bytes([page_count as u8; 16]) };
        let chunk = |(chunk, byte): &(u32, u8)| (*chunk, vec![PageHash([*byte; 16]); HASHES_PER_CHUNK as usize]);
        FileUpdate { file: Some((state, vec![1, 2])), chunks: chunks.iter().map(chunk).collect() }
    }

    #[test]
    fn what_was_committed_is_there_again_and_of_another_repository_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut pages = open(dir.path());
        assert_eq!(pages.place().unwrap(), None);
        let updates = [(site("acme"), update(600, &[(0, 1), (1, 2), (2, 3)])), (site("beta"), update(1, &[(0, 4)]))];
        pages.commit(&place(5), &updates.clone().into()).unwrap();
        drop(pages);
        let mut pages = open(dir.path());
        assert_eq!(pages.place().unwrap(), Some(place(5)));
        let files = pages.files().unwrap();
        assert_eq!(files.len(), 2);
        assert_eq!((files[0].site.as_str(), files[0].state.page_count, &files[0].stamp), ("acme", 600, &vec![1, 2]));
        assert_eq!(pages.hashes(&site("acme"), 1).unwrap(), vec![PageHash([2; 16]); 256]);
        assert!(pages.hashes(&site("acme"), 3).unwrap().is_empty());
        drop(pages);
        let mut other = PagesFile::open(dir.path(), &SourceName::new("notes").unwrap(), [8; 16]).unwrap();
        assert_eq!(other.place().unwrap(), None);
    }

    #[test]
    fn a_file_that_shrinks_loses_hashes_and_one_that_is_gone_all_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut pages = open(dir.path());
        let all = [(site("acme"), update(600, &[(0, 1), (1, 2), (2, 3)])), (site("beta"), update(1, &[(0, 4)]))];
        pages.commit(&place(1), &all.into()).unwrap();
        let next = [(site("acme"), update(300, &[(0, 5)])), (site("beta"), FileUpdate::default())];
        pages.commit(&place(2), &next.into()).unwrap();
        assert_eq!(pages.hashes(&site("acme"), 0).unwrap()[0], PageHash([5; 16]));
        assert_eq!(pages.hashes(&site("acme"), 1).unwrap()[0], PageHash([2; 16]));
        assert!(pages.hashes(&site("acme"), 2).unwrap().is_empty());
        assert!(pages.hashes(&site("beta"), 0).unwrap().is_empty());
        assert_eq!(pages.files().unwrap().len(), 1);
        pages.clear().unwrap();
        assert_eq!((pages.place().unwrap(), pages.files().unwrap()), (None, Vec::new()));
    }

    #[test]
    fn hashes_that_cannot_be_read_are_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("pages-notes.sqlite"), b"no database, for quite some bytes more than a header")
            .unwrap();
        assert_eq!(open(dir.path()).place().unwrap(), None);
    }
}
