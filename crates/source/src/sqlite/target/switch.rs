//! The switch: the one step after which the application sees the restored database.
//!
//! | live | how | atomic by |
//! |---|---|---|
//! | absent | renamed into place, never over anything | `renameat2(RENAME_NOREPLACE)` |
//! | a database | copied into the same file | one SQLite transaction, taken back by its own journal |
//! | not a database | renamed over, when no process has it open | `rename` |

use std::path::PathBuf;
use std::time::Duration;

use lifeboat_model::EntryMetadata;
use rusqlite::Connection;
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::holders::{holders_of, holders_of_removed};
use super::staging::{VerifiedDatabase, remove_if_there, sync_directory};
use super::{Live, SqliteTarget, bytes, is_unusable};
use crate::Error;
use crate::sqlite::connect::{damaged, failure, is_busy, open_immutable, open_to_write};
use crate::sqlite::metadata;
use crate::sqlite::pages::Pages;
use crate::sqlite::stat::{FileStat, SHM, WAL, beside, file_stat};
use crate::sqlite::view::{copy_all, is_wal};

/// How long it waits for all others to leave, where it must be alone.
const ALONE_PATIENCE: Duration = Duration::from_secs(2);

/// How the database came to its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Nothing was there: renamed into place.
    Placed,
    /// Copied into the live file, which applications may keep open.
    CopiedInto,
    /// Renamed over a file that was no usable database and that no process had open.
    Replaced,
}

/// A switch that has happened.
#[derive(Debug)]
pub struct Switched {
    how: How,
    warnings: Vec<String>,
    path: PathBuf,
    verified: VerifiedDatabase,
    /// For [`How::CopiedInto`]: our connection, and the database's version before the copy.
    connection: Option<(Connection, i64)>,
    /// For the others: the file as it was renamed.
    placed: Option<FileStat>,
}

/// What reading the live database back has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveCheck {
    /// Its pages are those of the snapshot.
    Equal,
    /// The application has written since the switch: the pages cannot be compared any more. In a
    /// frozen site that is a failed check.
    ChangedSince,
}

impl SqliteTarget {
    /// Puts the verified database in place of what is live, with owner, mode and (where the file is
    /// new) times of the entry. Durable when it returns.
    ///
    /// [`Error::Conflict`] and [`Error::Busy`]: somebody uses the live file in a way that would lose
    /// their writes; nothing was changed.
    pub fn switch(&self, verified: VerifiedDatabase, metadata: &EntryMetadata) -> Result<Switched, Error> {
        match self.live()? {
            Live::Absent { .. } => self.rename_into_place(verified, metadata, How::Placed),
            Live::Database { .. } if !verified.is_raw => self.copy_into(verified, metadata),
            _ => {
                self.prove_unopened("the live file cannot be written through SQLite")?;
                self.rename_into_place(verified, metadata, How::Replaced)
            }
        }
    }

    /// Removes the live database and what belongs to it, when no process has it open. For a point at
    /// which the site had no database, and for undoing a restore that added one.
    pub fn remove_live(&self) -> Result<(), Error> {
        if file_stat(&self.path)?.is_some() {
            self.prove_unopened("the live file is to be removed")?;
            remove_if_there(&self.path)?;
        }
        // The file first: a log without its database is harmless, a database without its log is not.
        self.remove_companions()?;
        if self.path.parent().is_some_and(|directory| directory.is_dir()) {
            sync_directory(&self.path)?;
        }
        Ok(())
    }

    fn prove_unopened(&self, why: &str) -> Result<(), Error> {
        let Some(stat) = file_stat(&self.path)? else { return Ok(()) };
        let holders = holders_of(&stat);
        if holders.is_proven_free() {
            return Ok(());
        }
        Err(self.conflict(format!("{why}, and must not be while it may be open: {}", holders.describe())))
    }

    fn rename_into_place(
        &self,
        mut verified: VerifiedDatabase,
        metadata: &EntryMetadata,
        how: How,
    ) -> Result<Switched, Error> {
        let mut warnings = metadata::apply(&verified.path, metadata, true)?;
        std::fs::File::open(&verified.path)
            .and_then(|file| file.sync_all())
            .map_err(|io| Error::io("cannot sync the staging file", bytes(&verified.path), io))?;
        self.make_directories(metadata)?;
        let removed = self.remove_companions()?;
        warnings.extend(removed.iter().map(|path| format!("a leftover was removed: path=`{}`", path.display())));
        let flags = if how == How::Placed { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
        match rustix::fs::renameat_with(CWD, &verified.path, CWD, &self.path, flags) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(self.conflict("a file appeared where none was when the restore began")),
            Err(errno) => return Err(Error::io("cannot rename the staging file into place", bytes(&self.path), errno)),
        }
        sync_directory(&self.path)?;
        let removed = holders_of_removed(&self.path);
        if !removed.processes.is_empty() {
            warnings.push(format!(
                "the database that was removed before is still in use and its writes are lost until it is opened \
                 anew: {}",
                removed.describe()
            ));
        }
        verified.path.clone_from(&self.path);
        let placed = file_stat(&self.path)?;
        Ok(Switched { how, warnings, path: self.path.clone(), verified, connection: None, placed })
    }

    fn copy_into(&self, verified: VerifiedDatabase, metadata: &EntryMetadata) -> Result<Switched, Error> {
        let failed = |error: &rusqlite::Error| failure("cannot write the live database", &self.path, error);
        let mut live = open_to_write(&self.path, self.patience).map_err(|error| failed(&error))?;
        let live_is_wal = is_wal(&live).map_err(|error| failed(&error))?;
        let page_size: u32 =
            live.query_row("PRAGMA page_size", [], |row| row.get(0)).map_err(|error| failed(&error))?;
        let is_empty = verified.size == 0;
        let must_leave_wal = live_is_wal && !is_empty && page_size != verified.page_size;
        if must_leave_wal {
            self.leave_wal(&live)?;
        }
        let before = data_version(&live).map_err(|error| failed(&error))?;
        set_rollback_format(&verified)?;
        let staged = open_immutable(&verified.path).map_err(|error| failed(&error))?;
        match copy_all(&staged, &mut live, self.patience) {
            Err(error) if is_unusable(&error) => {
                drop((staged, live));
                self.prove_unopened("the live database is damaged beyond writing into it")?;
                return self.rename_into_place(verified, metadata, How::Replaced);
            }
            other => other.map_err(|error| failed(&error))?,
        }
        drop(staged);
        if must_leave_wal {
            // Others may be there by now; the mode then stays as it is, and works as well.
            let _ = live.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()));
        } else if live_is_wal {
            // Best effort: what stays in the log is as durable there.
            let _ = live.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        }
        let mut warnings = Vec::new();
        for path in [self.path.clone(), beside(&self.path, WAL), beside(&self.path, SHM)] {
            if file_stat(&path)?.is_some() {
                warnings.extend(metadata::apply(&path, &companion_metadata(metadata), false)?);
            }
        }
        Ok(Switched {
            how: How::CopiedInto,
            warnings,
            path: self.path.clone(),
            verified,
            connection: Some((live, before)),
            placed: None,
        })
    }

    /// SQLite cannot change the page size of a database that uses a log; outside of it it can, and
    /// to get out of it a connection must be alone.
    fn leave_wal(&self, live: &Connection) -> Result<(), Error> {
        let alone = live
            .busy_timeout(ALONE_PATIENCE)
            .and_then(|()| live.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get::<_, String>(0)));
        match alone {
            Ok(mode) if mode.eq_ignore_ascii_case("delete") => {}
            Err(error) if !is_busy(&error) => {
                return Err(failure("cannot write the live database", &self.path, &error));
            }
            _ => {
                return Err(self.conflict(
                    "the snapshot has another page size than the live database, which cannot change while an \
                     application has it open",
                ));
            }
        }
        live.busy_timeout(self.patience).map_err(|error| failure("cannot write the live database", &self.path, &error))
    }
}

impl Switched {
    pub fn how(&self) -> How {
        self.how
    }

    /// What a person should know: leftovers removed, owners not set, processes that hold a removed
    /// database.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Reads the live database back, compares it page by page with what was verified in staging, and
    /// removes the staging file. Pages that differ though nobody wrote are [`Error::Damaged`].
    pub fn verify_live(self) -> Result<LiveCheck, Error> {
        let failed = |error: rusqlite::Error| failure("cannot read the restored database", &self.path, &error);
        if let Some((connection, before)) = self.connection {
            let mut pages = Pages::begin(connection).map_err(failed)?;
            let is_restored = is_restored(&mut pages, &self.verified).map_err(failed)?;
            remove_if_there(&self.verified.path)?;
            if is_restored {
                return Ok(LiveCheck::Equal);
            }
            if data_version(pages.connection()).map_err(failed)? != before {
                return Ok(LiveCheck::ChangedSince);
            }
            return Err(damaged(&self.path, "it does not hold the pages that were written".into()));
        }
        // The very file that was verified, not written since: nothing could be learned by reading it.
        let now = file_stat(&self.path)?;
        let is_untouched = now == self.placed && now.is_some_and(|now| now.inode == self.verified.stat.inode);
        Ok(if is_untouched { LiveCheck::Equal } else { LiveCheck::ChangedSince })
    }
}

/// Whether the live pages are the staged ones.
fn is_restored(live: &mut Pages, wanted: &VerifiedDatabase) -> rusqlite::Result<bool> {
    if wanted.size == 0 {
        // SQLite writes one page for an empty database.
        let objects: i64 =
            live.connection().query_row("SELECT count(*) FROM main.sqlite_schema", [], |row| row.get(0))?;
        return Ok(live.page_count() <= 1 && objects == 0);
    }
    live.is_equal(&mut Pages::begin(open_immutable(&wanted.path)?)?)
}

fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA main.data_version", [], |row| row.get(0))
}

/// The live database keeps its own journal mode. The copy sets the header's mark itself when that is
/// the log; otherwise the staged header decides, so it must say rollback.
fn set_rollback_format(staged: &VerifiedDatabase) -> Result<(), Error> {
    use std::os::unix::fs::FileExt;
    if staged.size == 0 {
        return Ok(());
    }
    std::fs::OpenOptions::new()
        .write(true)
        .open(&staged.path)
        .and_then(|file| file.write_all_at(&[1, 1], 18))
        .map_err(|io| Error::io("cannot write the staging file", bytes(&staged.path), io))
}

/// The log and its index have the owner and mode of the database, and no attributes of their own.
fn companion_metadata(metadata: &EntryMetadata) -> EntryMetadata {
    EntryMetadata { xattrs: Vec::new(), ..metadata.clone() }
}
