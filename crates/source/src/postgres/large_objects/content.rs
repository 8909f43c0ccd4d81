//! The bytes of a large object, in pieces: memory stays small whatever its size.
//!
//! Read from the table of all bytes where the role may (superusers and `pg_read_all_data` may, and no
//! object has to be granted), else by `lo_get`, which asks each object's own privileges. In the table a
//! page may be missing or short: what is not there is zeros.

use std::sync::Arc;

use lifeboat_model::Entry;
use postgres::Error as SqlError;

use super::super::Session;
use super::super::reading::Reading;
use super::definition::LargeObjectDefinition;
use crate::{Content, ContentCheck, Error, Read};

/// So many pages are read at once: one mebibyte, with the server's usual pages.
const PAGES_AT_ONCE: u32 = 512;

/// A large object that is being read.
struct Pieces {
    oid: u32,
    /// Bytes a page.
    page_len: u32,
    /// Of the table; `None`: by `lo_get`, whose short answer is the end.
    size: Option<u64>,
    page: u32,
    is_over: bool,
}

impl Pieces {
    fn open(session: &mut Session, oid: u32) -> Result<Self, SqlError> {
        let query = "SELECT has_table_privilege('pg_catalog.pg_largeobject', 'SELECT'), \
                     current_setting('block_size')::int4 / 4";
        let row = session.query_one(query, &[])?;
        let page_len = row.get::<_, i32>(1).unsigned_abs().max(1);
        let mut pieces = Self { oid, page_len, size: None, page: 0, is_over: false };
        if row.get(0) {
            let query = "SELECT pageno, octet_length(data) FROM pg_catalog.pg_largeobject WHERE loid = $1 \
                         ORDER BY pageno DESC LIMIT 1";
            let last = session.query_opt(query, &[&oid])?;
            let end = |row: postgres::Row| {
                let (page, len): (i32, i32) = (row.get(0), row.get(1));
                u64::from(page.unsigned_abs()) * u64::from(page_len) + u64::from(len.unsigned_abs())
            };
            pieces.size = Some(last.map_or(0, end));
        }
        Ok(pieces)
    }

    /// The next bytes; none: it is read.
    fn next(&mut self, session: &mut Session) -> Result<Vec<u8>, SqlError> {
        if self.is_over {
            return Ok(Vec::new());
        }
        let from = u64::from(self.page) * u64::from(self.page_len);
        let len_max = u64::from(PAGES_AT_ONCE) * u64::from(self.page_len);
        let bytes = match self.size {
            Some(size) => self.of_table(session, from, size.saturating_sub(from).min(len_max))?,
            None => {
                // An object is shorter than 2^42 bytes, a piece than 2^26.
                let (from, len) = (from.cast_signed(), i32::try_from(len_max).unwrap_or(i32::MAX));
                session.query_one("SELECT lo_get($1, $2, $3)", &[&self.oid, &from, &len])?.get(0)
            }
        };
        self.page += PAGES_AT_ONCE;
        self.is_over = (bytes.len() as u64) < len_max;
        Ok(bytes)
    }

    fn of_table(&self, session: &mut Session, from: u64, len: u64) -> Result<Vec<u8>, SqlError> {
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        let query = "SELECT pageno, data FROM pg_catalog.pg_largeobject \
                     WHERE loid = $1 AND pageno >= $2 AND pageno < $3 ORDER BY pageno";
        let (first, end) = (self.page.cast_signed(), (self.page + PAGES_AT_ONCE).cast_signed());
        for row in session.query(query, &[&self.oid, &first, &end])? {
            let (page, data): (i32, &[u8]) = (row.get(0), row.get(1));
            let at = u64::from(page.unsigned_abs()) * u64::from(self.page_len) - from;
            let place = usize::try_from(at).ok().and_then(|at| bytes.get_mut(at..)).unwrap_or_default();
            let len = place.len().min(data.len());
            place[..len].copy_from_slice(&data[..len]);
        }
        Ok(bytes)
    }
}

/// Size and BLAKE3 of an object, as the session's snapshot has it.
pub fn digest(session: &mut Session, oid: u32) -> Result<(u64, [u8; 32]), Error> {
    let mut read = || -> Result<(u64, [u8; 32]), SqlError> {
        let (mut pieces, mut hasher, mut size) = (Pieces::open(session, oid)?, blake3::Hasher::new(), 0);
        loop {
            let bytes = pieces.next(session)?;
            if bytes.is_empty() {
                return Ok((size, *hasher.finalize().as_bytes()));
            }
            hasher.update(&bytes);
            size += bytes.len() as u64;
        }
    };
    let read = read();
    read.map_err(|error| session.failed(action(oid), &error))
}

fn action(oid: u32) -> String {
    format!("cannot read large object {oid}")
}

/// The content of an object's entry.
pub struct LargeObjectContent {
    reading: Arc<Reading>,
    /// Under the cut; given back at the end.
    session: Option<Session>,
    pieces: Pieces,
    entry: Entry,
    definition: LargeObjectDefinition,
    current: Vec<u8>,
    read: usize,
    digest: blake3::Hasher,
    size: u64,
}

impl LargeObjectContent {
    pub fn open(
        reading: &Arc<Reading>,
        entry: &Entry,
        oid: u32,
        definition: LargeObjectDefinition,
    ) -> Result<Self, Error> {
        let mut session = reading.session().inspect_err(|error| reading.note_failure(error))?;
        let pieces = Pieces::open(&mut session, oid).map_err(|error| session.failed(action(oid), &error));
        let pieces = pieces.inspect_err(|error| reading.note_failure(error))?;
        let (reading, entry, digest) = (reading.clone(), entry.clone(), blake3::Hasher::new());
        let (session, current) = (Some(session), Vec::new());
        Ok(Self { reading, session, pieces, entry, definition, current, read: 0, digest, size: 0 })
    }

    fn next(&mut self) -> Result<Vec<u8>, Error> {
        let Some(session) = &mut self.session else { return Ok(Vec::new()) };
        match self.pieces.next(session) {
            Ok(bytes) => Ok(bytes),
            Err(error) => {
                let error = session.failed(action(self.pieces.oid), &error);
                self.session = None; // it is in a transaction that failed
                self.reading.note_failure(&error);
                Err(error)
            }
        }
    }
}

impl Content for LargeObjectContent {
    fn read(&mut self, buffer: &mut [u8]) -> Result<Read, Error> {
        if self.read == self.current.len() {
            (self.current, self.read) = (self.next()?, 0);
            self.digest.update(&self.current);
            self.size += self.current.len() as u64;
        }
        let rest = &self.current[self.read..];
        if rest.is_empty() {
            if let Some(session) = self.session.take() {
                self.reading.give_back(session);
            }
            return Ok(Read::End);
        }
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        self.read += len;
        Ok(Read::Data(len))
    }

    /// What is read under a snapshot does not change.
    fn check(&mut self) -> Result<ContentCheck, Error> {
        let digest = self.digest.finalize();
        let definition = LargeObjectDefinition { blake3: digest.to_hex().to_string(), ..self.definition.clone() };
        let mut entry = self.entry.clone();
        entry.metadata.size = self.size;
        entry.metadata.xattrs = vec![definition.to_xattr()];
        // Listed without one: so the next backup reads it again, whatever its size.
        entry.metadata.inode =
            digest.as_bytes().iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte));
        Ok(ContentCheck::Stable(Box::new(entry)))
    }
}
