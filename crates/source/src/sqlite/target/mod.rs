//! `SqliteTarget`: one database of one site, and nothing else.
//!
//! ```text
//! open ▸ live ▸ (keep undo: read_live or raw_live) ▸ begin ▸ write_at… ▸ finish ▸ verify ▸ switch ▸ verify_live
//!        reads only                                   staging file beside the database      the one visible step
//! ```
//!
//! The switch takes a [`VerifiedDatabase`]: opening what was not verified does not compile. Killed
//! anywhere, the same calls in the same order finish: staging starts over, and the switch is a
//! rename or one SQLite transaction.
//!
//! What is not here: freezing the application, choosing what to restore, keeping the undo.

mod holders;
mod staging;
mod switch;

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lifeboat_model::{EntryKind, EntryMetadata, EntryPath, PartIdentity, RestoreId};
use sha2::{Digest, Sha256};

use super::connect::is_damage;
use super::metadata;
use super::source::{DatabaseReader, Soundness, resolve};
use super::stat::{JOURNAL, SHM, WAL, beside, file_stat};
use super::view::{View, is_wal};
use crate::error::shown;
use crate::identity::identity_of;
use crate::{Content, Error, PartReader, Place};

pub use staging::{Expect, SqliteStaging, StagedDatabase, VerifiedDatabase};
pub use switch::{How, LiveCheck, Switched};

/// One database of one site, to be written under one restore id.
#[derive(Debug)]
pub struct SqliteTarget {
    place: Place,
    path: PathBuf,
    staging_name: OsString,
    identity: PartIdentity,
    /// How long the switch waits for the application's running transactions.
    patience: Duration,
}

/// What is at the target now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Live {
    /// No database. `leftovers` are files of a former one (`-wal`, `-shm`, `-journal`) that the
    /// switch removes, because SQLite would play them into the restored database.
    Absent {
        leftovers: Vec<PathBuf>,
    },
    Database {
        page_size: u32,
        page_count: u32,
        is_wal: bool,
    },
    /// A file that SQLite cannot read as a database, and why.
    Unusable {
        bytes: u64,
        reason: String,
    },
}

impl SqliteTarget {
    /// Finds the place and writes nothing. A base that is missing, a link or a file on the way are
    /// errors.
    pub fn open(place: &Place, restore: RestoreId) -> Result<Self, Error> {
        let path = match resolve(place)? {
            Some(path) => path,
            // A directory on the way is missing: nothing there can be a link either.
            None => std::fs::canonicalize(place.base())
                .map_err(|io| Error::io("cannot find the database", bytes(place.base()), io))?
                .join(std::ffi::OsStr::from_bytes(place.relative().as_bytes())),
        };
        let staging_name = staging_name(restore, &path);
        let identity = identity_of(&place.path())?;
        Ok(Self { place: place.clone(), path, staging_name, identity, patience: Duration::from_secs(30) })
    }

    /// Waits this long for the application's running transactions at the switch, not 30 seconds.
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The database's path, without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn identity(&self) -> &PartIdentity {
        &self.identity
    }

    /// What is there now; changes nothing.
    pub fn live(&self) -> Result<Live, Error> {
        let Some(stat) = file_stat(&self.path)? else {
            return Ok(Live::Absent { leftovers: self.companions()? });
        };
        match View::open(&self.path, true) {
            Ok(None) => Ok(Live::Absent { leftovers: self.companions()? }),
            Ok(Some(view)) => {
                let is_wal = is_wal(view.pages().connection()).unwrap_or(false) || self.header_says_wal(&view);
                Ok(Live::Database {
                    page_size: view.pages().page_size(),
                    page_count: view.pages().page_count(),
                    is_wal,
                })
            }
            Err(Error::Damaged { detail, .. }) => Ok(Live::Unusable { bytes: stat.size, reason: detail }),
            Err(error) => Err(error),
        }
    }

    /// A cold view opens no log, so its journal mode says nothing; the header does.
    fn header_says_wal(&self, view: &View) -> bool {
        view.pages().page_count() > 0 && view.pages().page(1).is_ok_and(|page| page.get(19) == Some(&2))
    }

    /// The live database as a part, for the undo: as it is, sound or not. `None`: absent.
    pub fn read_live(&self) -> Result<Option<Box<dyn PartReader>>, Error> {
        if file_stat(&self.path)?.is_none() {
            return Ok(None);
        }
        let reader = DatabaseReader::new(self.path.clone(), self.identity.clone(), Soundness::AsItIs)?;
        Ok(Some(Box::new(reader)))
    }

    /// A live file that is [`Live::Unusable`], as raw bytes for the undo: an entry of kind
    /// [`EntryKind::File`], to be restored with [`Expect::RawFile`].
    pub fn raw_live(&self) -> Result<Box<dyn Content>, Error> {
        let name = EntryPath::new(self.place.relative().file_name()).map_err(|_| self.conflict("not a file's name"))?;
        Ok(Box::new(staging::RawContent::open(&self.path, name)?))
    }

    /// Starts over with an empty staging file beside the database, or in the deepest directory above
    /// it that exists: directories are made by the switch, because a part of files that is restored
    /// around the database may bring them.
    pub fn begin(&self) -> Result<SqliteStaging, Error> {
        self.discard_staging()?;
        let places = self.staging_places();
        let place = places.iter().find(|place| place.parent().is_some_and(Path::is_dir));
        SqliteStaging::create(place.ok_or_else(|| self.conflict("the directory of the source is gone"))?)
    }

    /// Removes what a killed run has left behind under this restore id.
    pub fn discard_staging(&self) -> Result<(), Error> {
        self.staging_places().iter().try_for_each(|place| staging::remove_if_there(place))
    }

    /// Where the staging file may be: beside the database, else in a directory above it, up to the
    /// source's own.
    fn staging_places(&self) -> Vec<PathBuf> {
        let levels = self.place.relative().components().count();
        self.path.ancestors().skip(1).take(levels).map(|directory| directory.join(&self.staging_name)).collect()
    }

    fn companions(&self) -> Result<Vec<PathBuf>, Error> {
        let mut found = Vec::new();
        for suffix in [WAL, SHM, JOURNAL] {
            let path = beside(&self.path, suffix);
            if file_stat(&path)?.is_some() {
                found.push(path);
            }
        }
        Ok(found)
    }

    fn remove_companions(&self) -> Result<Vec<PathBuf>, Error> {
        let found = self.companions()?;
        for path in &found {
            staging::remove_if_there(path)?;
        }
        Ok(found)
    }

    fn make_directories(&self, metadata: &EntryMetadata) -> Result<(), Error> {
        let missing: Vec<&Path> = self.path.ancestors().skip(1).take_while(|dir| !dir.exists()).collect();
        for directory in missing.into_iter().rev() {
            let failed = |io| Error::io("cannot make the directory", bytes(directory), io);
            std::fs::create_dir(directory).map_err(failed)?;
            // Who may read the database may enter the directory.
            let mode = 0o700 | (metadata.mode & 0o077) | ((metadata.mode & 0o044) >> 2);
            let wanted = EntryMetadata { mode, xattrs: Vec::new(), ..metadata.clone() };
            for refusal in metadata::apply(directory, &wanted, false)? {
                tracing::warn!(path = %directory.display(), refusal, "a directory was made for the database");
            }
            staging::sync_directory(directory)?;
        }
        Ok(())
    }

    fn conflict(&self, detail: impl Into<String>) -> Error {
        Error::Conflict {
            detail: detail.into(),
            path: shown(bytes(&self.path)),
            hint: super::connect::FREEZE_HINT.into(),
        }
    }
}

/// Whether an entry of this kind is staged as a database or as raw bytes, and how it is verified.
impl Expect {
    /// For an entry of a snapshot (`is_undo` false) or of an undo.
    pub fn for_entry(kind: &EntryKind, is_undo: bool) -> Self {
        match kind {
            EntryKind::Database { page_size, .. } if is_undo => Expect::AsKept { page_size: *page_size },
            EntryKind::Database { page_size, .. } => Expect::Sound { page_size: *page_size },
            _ => Expect::RawFile,
        }
    }
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// `.lifeboat-<restore id>-<hash of the path>-<name>`; a name too long for that is replaced by its
/// own tail. The hash keeps databases of one name apart that are staged in one directory above them.
fn staging_name(restore: RestoreId, path: &Path) -> OsString {
    let hash: String = Sha256::digest(bytes(path)).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
    let mut staged = format!(".lifeboat-{restore}-{hash}-").into_bytes();
    let room = 255 - staged.len();
    staged.extend_from_slice(&name[name.len().saturating_sub(room)..]);
    OsString::from_vec(staged)
}

/// Whether an error means that SQLite cannot use the live file, rather than that it is in use.
fn is_unusable(error: &rusqlite::Error) -> bool {
    is_damage(error)
}
