//! Opening SQLite connections, and putting its errors into our words.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use crate::Error;
use crate::error::shown;

/// How long a read waits for a writer in rollback mode. Writers hold their lock for one commit.
pub(super) const READ_PATIENCE: Duration = Duration::from_secs(10);

pub(super) const FREEZE_HINT: &str = "stop the application or configure a `freeze` hook that closes its connections, \
                                      then run the same command again";

/// Opens a file that nobody writes to: no locks, no log, no trace on disk. The caller compares
/// stats before and after, because SQLite looks for no change itself in this mode.
pub(super) fn open_immutable(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open(path, "?immutable=1&mode=ro", OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    prepare_for_reading(&connection)?;
    Ok(connection)
}

/// Opens a database beside a log or journal that belongs to others; nothing of theirs is
/// checkpointed or removed when this connection closes.
pub(super) fn open_read_only(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open(path, "", OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    prepare_for_reading(&connection)?;
    Ok(connection)
}

/// Opens for reading, with the right to do what every application does: roll a crashed writer's
/// journal back, and remove an empty log that this connection itself had to make.
pub(super) fn open_to_read(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open(path, "", OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    prepare_for_reading(&connection)?;
    Ok(connection)
}

/// Opens an existing database to restore into it.
pub(super) fn open_to_write(path: &Path, patience: Duration) -> rusqlite::Result<Connection> {
    let connection = open(path, "", OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(patience)?;
    // EXTRA also syncs the directory after the journal is gone, so that an acknowledged restore
    // cannot be rolled back by a power loss (sqlite.org/pragma.html#pragma_synchronous).
    // A large cache spares syncs of the journal: each time it is full the journal is synced.
    connection.execute_batch("PRAGMA synchronous = EXTRA; PRAGMA cache_size = -16384;")?;
    Ok(connection)
}

/// A private database that lives in memory till 8 MiB and beyond that in a file without a name in
/// SQLite's temporary directory (`SQLITE_TMPDIR`, `TMPDIR`, `/var/tmp`).
pub(super) fn open_scratch() -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags("", OpenFlags::default() | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.execute_batch("PRAGMA cache_size = -8192; PRAGMA synchronous = OFF;")?;
    Ok(connection)
}

fn open(path: &Path, query: &str, access: OpenFlags) -> rusqlite::Result<Connection> {
    // NOFOLLOW: the path was resolved before; a link planted since then must not lead elsewhere.
    let flags = access | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    Connection::open_with_flags(uri(path) + query, flags)
}

/// Settings for content that a tenant may have made hostile: nothing in the schema is trusted, and
/// nothing is written.
fn prepare_for_reading(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(READ_PATIENCE)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA cell_size_check = ON;")
}

/// The path as a URI: every byte that could mean something else is escaped, so that names which are
/// not text work as well.
fn uri(path: &Path) -> String {
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}

/// Whether only a read-write connection can read on: a crashed writer left a journal that must be
/// rolled back first.
pub(super) fn needs_rollback(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_READONLY_ROLLBACK)
}

/// Whether SQLite says that the file's content is no sound database.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::QueryReturnedNoRows)
        || matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}

pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// SQLite's answer to `action` on the database at `path`.
pub(super) fn failure(action: &'static str, path: &Path, error: &rusqlite::Error) -> Error {
    let shown_path = shown(path.as_os_str().as_bytes());
    if is_damage(error) {
        return damaged(path, describe(error));
    }
    if is_busy(error) {
        return Error::Busy { path: shown_path, detail: describe(error), hint: FREEZE_HINT.into() };
    }
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => std::io::ErrorKind::StorageFull,
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied) => {
            std::io::ErrorKind::PermissionDenied
        }
        Some(ErrorCode::CannotOpen) => match rustix::fs::access(path, rustix::fs::Access::READ_OK) {
            Err(errno) => std::io::Error::from(errno).kind(),
            Ok(()) => std::io::ErrorKind::Other,
        },
        _ => std::io::ErrorKind::Other,
    };
    Error::io(action, path.as_os_str().as_bytes(), std::io::Error::new(kind, describe(error)))
}

fn describe(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(code, Some(message)) => format!("sqlite says `{message}` ({code})"),
        rusqlite::Error::SqliteFailure(code, None) => format!("sqlite says `{code}`"),
        rusqlite::Error::QueryReturnedNoRows => "a page is missing".into(),
        other => other.to_string(),
    }
}

pub(super) fn damaged(path: &Path, detail: String) -> Error {
    Error::Damaged {
        path: shown(path.as_os_str().as_bytes()),
        detail,
        hint: "look at it with `sqlite3 FILE 'PRAGMA integrity_check'`; restore an earlier point of the site, or take \
               the path out of the source if it is no plain SQLite database (an encrypted one, say)"
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_any_bytes_becomes_a_uri_of_plain_ones() {
        use std::ffi::OsStr;
        let check = |bytes: &[u8], want: &str| assert_eq!(uri(Path::new(OsStr::from_bytes(bytes))), want);
        check(b"/srv/a.db", "file:/srv/a.db");
        check(b"/srv/a b?c#d%e.db", "file:/srv/a%20b%3Fc%23d%25e.db");
        check(b"/srv/caf\xe9", "file:/srv/caf%E9");
    }

    #[test]
    fn the_bundled_library_has_the_page_table() {
        let connection = open_scratch().unwrap();
        connection.execute_batch("CREATE TABLE t(a)").unwrap();
        let pages: i64 = connection.query_row("SELECT count(*) FROM sqlite_dbpage", [], |row| row.get(0)).unwrap();
        assert_eq!(pages, 2);
    }
}
