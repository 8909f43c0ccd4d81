//! Choosing how to read a database, and reading it.
//!
//! | the file | way | whom it hinders |
//! |---|---|---|
//! | quiet, log and journal empty | *cold*: immutable, no locks; stats compared at the end | nobody; a write means to read again |
//! | write-ahead log | *streamed* from one read transaction | no writer; the log grows until the end |
//! | rollback mode, in use | *spooled* in one go into a scratch database, then read from there | writers wait while it is copied, at disk speed |
//!
//! In rollback mode a reader's lock stops every commit. Streaming would hold it for as long as the
//! upload takes, so the copy is made first; it costs the size of the database in SQLite's temporary
//! directory. A database that is in rollback mode but idle is read cold, without any of this.
//!
//! One trace can remain: a log that a crash left without its index (`-shm`) gets one, as from any
//! reader. It is not removed, because by then an application may be using it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::check::{Depth, Findings, check};
use super::connect::{
    READ_PATIENCE, failure, is_busy, needs_rollback, open_immutable, open_read_only, open_scratch, open_to_read,
};
use super::pages::Pages;
use super::stat::{DatabaseStat, racy_stamp};
use crate::Error;

/// How often a file that was just written is given time to become quiet.
const SETTLE_ROUNDS: u32 = 2;

/// One consistent state of a database, being read.
pub(super) struct View {
    path: PathBuf,
    pages: Pages,
    is_cold: bool,
    stat: DatabaseStat,
    stamp: Vec<u8>,
}

impl View {
    /// `None`: no database is there. `may_be_cold` is false once a cold read was overtaken by a
    /// writer. In rollback mode writers are held up until [`View::detached`] or the end.
    pub fn open(path: &Path, may_be_cold: bool) -> Result<Option<Self>, Error> {
        Self::open_within(path, may_be_cold, READ_PATIENCE)
    }

    /// The same, but a writer in rollback mode is waited for only so long.
    pub fn open_within(path: &Path, may_be_cold: bool, patience: Duration) -> Result<Option<Self>, Error> {
        if may_be_cold {
            for _ in 0..=SETTLE_ROUNDS {
                let Some(stat) = DatabaseStat::take(path)? else { return Ok(None) };
                if !stat.is_whole() {
                    break;
                }
                let wait = stat.settles_in();
                if wait.is_zero() {
                    if let Some(view) = Self::open_cold(path, stat)? {
                        return Ok(Some(view));
                    }
                    break;
                }
                std::thread::sleep(wait);
            }
        }
        Self::open_shared(path, patience)
    }

    /// `None`: somebody began to write; read it the ordinary way.
    fn open_cold(path: &Path, stat: DatabaseStat) -> Result<Option<Self>, Error> {
        let pages = open_immutable(path).and_then(Pages::begin);
        let is_free = pages.as_ref().map_or(true, |pages| is_without_writer(path, pages));
        let is_same = DatabaseStat::take(path)?.is_some_and(|now| now.is_same(&stat));
        match pages {
            _ if !is_same || !is_free => Ok(None),
            Ok(pages) => {
                let stamp = stat.stamp();
                Ok(Some(Self { path: path.to_owned(), pages, is_cold: true, stat, stamp }))
            }
            Err(error) => Err(failure("cannot open the database", path, &error)),
        }
    }

    fn open_shared(path: &Path, patience: Duration) -> Result<Option<Self>, Error> {
        let Some(before) = DatabaseStat::take(path)? else { return Ok(None) };
        let begin = |connection: Connection| {
            connection.busy_timeout(patience)?;
            Pages::begin(connection)
        };
        let opened = || -> rusqlite::Result<Pages> {
            // Beside the operator's log or journal: read only, so that neither is touched. Without
            // them the right to write lets SQLite take its own empty log away again.
            if before.is_alone() {
                return begin(open_to_read(path)?);
            }
            match begin(open_read_only(path)?) {
                Err(error) if needs_rollback(&error) => {
                    // The file is torn, and only its journal makes it whole. Rolling back is what
                    // the application's own next open would do; there is nothing else to read.
                    tracing::warn!(path = %path.display(), "rolling back the journal of a crashed writer");
                    begin(open_to_read(path)?)
                }
                other => other,
            }
        };
        let pages = opened().map_err(|error| failure("cannot open the database", path, &error))?;
        let Some(after) = DatabaseStat::take(path)? else { return Ok(None) };
        let stamp = if after.is_same(&before) { before.stamp() } else { racy_stamp() };
        Ok(Some(Self { path: path.to_owned(), pages, is_cold: false, stat: after, stamp }))
    }

    /// Makes sure that no writer waits for us from here on, however slowly this is read.
    pub fn detached(mut self) -> Result<Self, Error> {
        let failed = |error| failure("cannot copy the database to SQLite's temporary directory", &self.path, &error);
        if !self.is_cold && !is_wal(self.pages.connection()).map_err(failed)? {
            self.pages = spool(self.pages).map_err(failed)?;
        }
        Ok(self)
    }

    pub fn pages(&self) -> &Pages {
        &self.pages
    }

    pub fn stat(&self) -> &DatabaseStat {
        &self.stat
    }

    /// The change detector of what is read here.
    pub fn stamp(&self) -> &[u8] {
        &self.stamp
    }

    pub fn read(&mut self, buffer: &mut [u8]) -> rusqlite::Result<usize> {
        self.pages.read(buffer)
    }

    pub fn digest(&mut self) -> rusqlite::Result<[u8; 32]> {
        self.pages.digest()
    }

    pub fn check(&self, depth: Depth) -> rusqlite::Result<Findings> {
        check(self.pages.connection(), depth)
    }

    /// Whether everything read so far is one state of the database.
    pub fn is_unchanged(&self) -> Result<bool, Error> {
        Ok(!self.is_cold || DatabaseStat::take(&self.path)?.is_some_and(|now| now.is_same(&self.stat)))
    }
}

/// Whether nobody is in the middle of a transaction on a file without a journal beside it.
///
/// A writer with its journal in memory leaves no file; the lock it holds is the only sign of its
/// half-written pages. In the log's format every writer has a log on disk, and locking would make
/// one, so there nothing is asked.
fn is_without_writer(path: &Path, cold: &Pages) -> bool {
    let is_log_format = cold.page_count() > 0 && cold.page(1).is_ok_and(|page| page.get(19) == Some(&2));
    let lock = || -> rusqlite::Result<()> {
        let connection = open_read_only(path)?;
        connection.busy_timeout(Duration::ZERO)?;
        Pages::begin(connection).map(drop)
    };
    // Any other failure is the cold read's own to tell.
    is_log_format || !lock().is_err_and(|error| is_busy(&error))
}

pub(super) fn is_wal(connection: &Connection) -> rusqlite::Result<bool> {
    let mode: String = connection.query_row("PRAGMA main.journal_mode", [], |row| row.get(0))?;
    Ok(mode.eq_ignore_ascii_case("wal"))
}

/// Copies the pages of the running read transaction into a scratch database and ends it.
fn spool(pages: Pages) -> rusqlite::Result<Pages> {
    if pages.page_count() == 0 {
        return Ok(pages);
    }
    // The backup counts up the schema cookie and change counter of its copy: keep the real page 1.
    let first = pages.page(1)?;
    let source = pages.into_connection();
    let mut scratch = open_scratch()?;
    copy_all(&source, &mut scratch, READ_PATIENCE)?;
    drop(source);
    Ok(Pages::begin(scratch)?.with_first(Some(first)))
}

/// Copies one database over another in one step, so that no writer can make it start again.
pub(super) fn copy_all(source: &Connection, target: &mut Connection, patience: Duration) -> rusqlite::Result<()> {
    let deadline = Instant::now() + patience;
    let busy = || {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        rusqlite::Error::SqliteFailure(code, Some("database is locked".into()))
    };
    let backup = Backup::new(source, target)?;
    loop {
        match backup.step(-1) {
            Ok(StepResult::Done) => return Ok(()),
            Err(error) if !is_busy(&error) => return Err(error),
            _ if Instant::now() >= deadline => return Err(busy()),
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
