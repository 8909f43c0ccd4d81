//! A database as its pages, from one read transaction.

use std::path::Path;

use rusqlite::Connection;
use sha2::{Digest, Sha256};

use super::connect::failure;
use super::view::View;
use crate::Error;

const SELECT_PAGE: &str = "SELECT data FROM sqlite_dbpage WHERE pgno = ?1";

/// The pages of one read transaction, read in order.
///
/// The transaction is open as long as this lives. The page at 1 GiB that SQLite keeps for its locks
/// (the lock-byte page) comes as zeros, which is what belongs there in a new file.
pub(super) struct Pages {
    connection: Connection,
    page_size: u32,
    page_count: u32,
    /// The next page to read; the first is 1.
    next: u32,
    /// A page that did not fit into the last buffer, and how much of it is gone.
    rest: Vec<u8>,
    rest_from: usize,
    /// Page 1 as the original has it, where the connection is a copy that differs in it.
    first: Option<Vec<u8>>,
}

impl Pages {
    /// Begins the read transaction.
    pub fn begin(connection: Connection) -> rusqlite::Result<Self> {
        connection.execute_batch("BEGIN")?;
        let page_count: u32 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        let page_size: u32 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        Ok(Self { connection, page_size, page_count, next: 1, rest: Vec::new(), rest_from: 0, first: None })
    }

    /// Uses `first` in place of the connection's own page 1.
    pub fn with_first(mut self, first: Option<Vec<u8>>) -> Self {
        self.first = first;
        self
    }

    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    pub fn into_connection(self) -> Connection {
        self.connection
    }

    pub fn page_size(&self) -> u32 {
        self.page_size
    }

    pub fn page_count(&self) -> u32 {
        self.page_count
    }

    /// Bytes of all pages.
    pub fn len(&self) -> u64 {
        u64::from(self.page_size) * u64::from(self.page_count)
    }

    /// One page, out of order.
    pub fn page(&self, number: u32) -> rusqlite::Result<Vec<u8>> {
        if let (1, Some(first)) = (number, &self.first) {
            return Ok(first.clone());
        }
        let mut statement = self.connection.prepare_cached(SELECT_PAGE)?;
        let page: Vec<u8> = statement.query_row([number], |row| row.get(0))?;
        if page.len() == self.page_size as usize { Ok(page) } else { Err(rusqlite::Error::QueryReturnedNoRows) }
    }

    /// Fills the buffer from its start; less than its length only at the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> rusqlite::Result<usize> {
        let mut filled = self.take_rest(buffer);
        let page_len = self.page_size as usize;
        let mut statement = self.connection.prepare_cached(SELECT_PAGE)?;
        while filled < buffer.len() && self.next <= self.page_count {
            let into = &mut buffer[filled..];
            let mut rows = statement.query([self.next])?;
            let row = rows.next()?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
            let own = row.get_ref(0)?.as_blob().unwrap_or_default();
            let page = match (&self.first, self.next) {
                (Some(first), 1) => first.as_slice(),
                _ => own,
            };
            if page.len() != page_len {
                return Err(rusqlite::Error::QueryReturnedNoRows);
            }
            let taken = page_len.min(into.len());
            into[..taken].copy_from_slice(&page[..taken]);
            if taken < page_len {
                self.rest.clear();
                self.rest.extend_from_slice(&page[taken..]);
                self.rest_from = 0;
            }
            filled += taken;
            self.next += 1;
        }
        Ok(filled)
    }

    fn take_rest(&mut self, buffer: &mut [u8]) -> usize {
        let rest = &self.rest[self.rest_from..];
        let taken = rest.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&rest[..taken]);
        self.rest_from += taken;
        taken
    }

    /// Whether both hold the same pages, page 1 normalised; reads both from the start.
    pub fn is_equal(&mut self, other: &mut Self) -> rusqlite::Result<bool> {
        if (self.page_size, self.page_count) != (other.page_size, other.page_count) {
            return Ok(false);
        }
        let mut buffers = [vec![0; COMPARE_BUFFER_LEN], vec![0; COMPARE_BUFFER_LEN]];
        let mut is_first = true;
        self.rewind();
        other.rewind();
        loop {
            let [ours, theirs] = &mut buffers;
            let (len, other_len) = (self.read(ours)?, other.read(theirs)?);
            if std::mem::take(&mut is_first) {
                normalise_page_one(ours);
                normalise_page_one(theirs);
            }
            if len != other_len || ours[..len] != theirs[..len] {
                return Ok(false);
            }
            if len == 0 {
                return Ok(true);
            }
        }
    }

    fn rewind(&mut self) {
        (self.next, self.rest_from) = (1, self.rest.len());
    }

    /// SHA-256 over page size, page count and all pages, page 1 normalised; reads from the start.
    pub fn digest(&mut self) -> rusqlite::Result<[u8; 32]> {
        self.rewind();
        let mut sha = Sha256::new();
        sha.update(self.page_size.to_le_bytes());
        sha.update(self.page_count.to_le_bytes());
        let mut buffer = vec![0; COMPARE_BUFFER_LEN];
        let mut is_first = true;
        loop {
            let len = self.read(&mut buffer)?;
            if len == 0 {
                return Ok(sha.finalize().into());
            }
            if std::mem::take(&mut is_first) {
                normalise_page_one(&mut buffer[..len]);
            }
            sha.update(&buffer[..len]);
        }
    }
}

/// At least one page of any size.
const COMPARE_BUFFER_LEN: usize = 256 * 1024;

/// Zeroes what SQLite itself rewrites in the header when a database is copied into another file or
/// written by another version: file format numbers (18-19: WAL or not), change counter (24-27), size
/// in pages (28-31, stale in files of before 2010), schema cookie (40-43), and the version that
/// wrote last (92-99). <https://www.sqlite.org/fileformat.html#the_database_header>
pub fn normalise_page_one(page: &mut [u8]) {
    for range in [18..20, 24..32, 40..44, 92..100] {
        if let Some(bytes) = page.get_mut(range) {
            bytes.fill(0);
        }
    }
}

/// Digest of the database at `path` over its normalised pages, inside one read transaction.
///
/// Two databases have equal digests exactly when they hold the same pages, whatever journal mode
/// they are in. Errors: nothing there, not a database, busy.
pub fn digest(path: &Path) -> Result<[u8; 32], Error> {
    let gone = || Error::Gone { path: crate::error::shown(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())) };
    for may_be_cold in [true, false] {
        let mut view = View::open(path, may_be_cold)?.ok_or_else(gone)?.detached()?;
        let digest = view.digest();
        if view.is_unchanged()? {
            return digest.map_err(|error| failure("cannot read the database", path, &error));
        }
    }
    // Only a cold view can have changed; an ordinary one is a transaction.
    Err(gone())
}
