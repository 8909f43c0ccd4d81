//! The newest entry of the audit log that was ever seen: a bucket that has less has lost entries.

use lifeboat_model::AuditNumber;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::Catalog;
use crate::Error;

/// The newest entry of the audit log that was ever seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditMark {
    pub number: AuditNumber,
    /// SHA-256 of the whole object.
    pub hash: [u8; 32],
}

impl Catalog {
    pub fn audit_mark(&self) -> Result<Option<AuditMark>, Error> {
        mark(&self.connection).map_err(|error| self.failed(error))
    }

    /// Remembers an entry, unless a newer one was seen already: another process may be further.
    pub fn note_audit(&mut self, seen: &AuditMark) -> Result<(), Error> {
        let file = self.file.clone();
        self.try_note_audit(seen).map_err(|error| Error::of_sqlite(&file, error))
    }

    fn try_note_audit(&mut self, seen: &AuditMark) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if mark(&transaction)?.is_none_or(|known| known.number < seen.number) {
            write_mark(&transaction, seen)?;
        }
        transaction.commit()
    }
}

pub(super) fn write_mark(connection: &Connection, mark: &AuditMark) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO audit (only_one, number, hash) VALUES (1, ?1, ?2)";
    connection.execute(sql, params![mark.number.0.cast_signed(), mark.hash]).map(|_| ())
}

fn mark(connection: &Connection) -> rusqlite::Result<Option<AuditMark>> {
    let sql = "SELECT number, hash FROM audit";
    let read = connection.query_row(sql, [], |row| {
        Ok(AuditMark { number: AuditNumber(row.get::<_, i64>(0)?.cast_unsigned()), hash: row.get(1)? })
    });
    read.optional()
}
