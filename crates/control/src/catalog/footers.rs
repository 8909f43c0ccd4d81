//! Footers of change logs, sealed as they are in the bucket: so that each is fetched once.
//!
//! Nobody trusts them: a footer that is remembered is proven like one that is read. What is here is bounded; the
//! oldest go first.

use rusqlite::{OptionalExtension, params};

use super::Catalog;
use crate::Error;

/// Bytes of all footers: some weeks of a log, a segment every five seconds.
const BYTES_MAX: u64 = 256 << 20;

impl Catalog {
    /// What was remembered of an object's end.
    pub fn footer(&self, object: &str) -> Result<Option<Vec<u8>>, Error> {
        let sql = "SELECT bytes FROM footer WHERE object = ?1";
        let found = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_row([object], |row| row.get(0)).optional());
        found.map_err(|error| self.failed(error))
    }

    /// Remembers an object's end, and forgets older ones where they get too many.
    pub fn note_footer(&mut self, object: &str, bytes: &[u8]) -> Result<(), Error> {
        self.note_footer_within(object, bytes, BYTES_MAX)
    }

    pub(super) fn note_footer_within(&mut self, object: &str, bytes: &[u8], bytes_max: u64) -> Result<(), Error> {
        let noted = self.try_note(object, bytes, bytes_max);
        noted.map_err(|error| self.failed(error))
    }

    fn try_note(&mut self, object: &str, bytes: &[u8], bytes_max: u64) -> rusqlite::Result<()> {
        let len = bytes.len() as u64;
        if len > bytes_max / 4 {
            return Ok(());
        }
        let known = match self.footer_bytes {
            Some(known) => known,
            None => self.connection.query_row("SELECT coalesce(sum(length(bytes)), 0) FROM footer", [], |row| {
                row.get::<_, i64>(0).map(i64::cast_unsigned)
            })?,
        };
        let sql = "INSERT OR REPLACE INTO footer (object, bytes) VALUES (?1, ?2)";
        self.connection.prepare_cached(sql)?.execute(params![object, bytes])?;
        // Other processes add to it too: the next one to open the catalog counts again.
        self.footer_bytes = Some(known.saturating_add(len));
        if known.saturating_add(len) > bytes_max {
            let sql =
                "DELETE FROM footer WHERE number <= (SELECT min(number) + (max(number) - min(number)) / 2 FROM footer)";
            self.connection.execute(sql, [])?;
            self.footer_bytes = None;
        }
        Ok(())
    }
}
