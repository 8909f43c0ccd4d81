//! The catalog: what the bucket said last, and nothing else of value.
//!
//! ```text
//! lifeboat.catalog/            mode 0700
//!   catalog.sqlite             mode 0600; with its -wal and -shm
//!   catalog.sqlite.aside-<n>   one that was damaged or of another version
//! ```
//!
//! Three uses. Listings are answered without asking the bucket about every site. The newest commit
//! seen of each site, and the newest entry of the audit log, are high-water marks: a bucket that has less has lost
//! some. And footers of change logs that were read are not fetched again. Besides, it remembers what no bucket says: what
//! the last checks from this host found, and who was told of which alarm.
//!
//! Invariants: deleting the catalog never changes what the bucket answers, it only slows that down and forgets the
//! marks, and that a check found damage, until the next one; a mark never sinks (but for [`Catalog::replace`], which says which ones would); a catalog
//! that cannot be read is moved aside and begun anew, never mended and never deleted.
//!
//! What is not here: reading the bucket (the engine does, and tells the catalog).

mod audit;
mod checks;
mod footers;
mod jobs;
mod rebuild;
mod record;
mod rows;
mod schema;
mod signals;
mod standing;
#[cfg(test)]
mod tests;

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use lifeboat_model::{
    DrillFailed, Generation, Proven, RunNumber, RunOutcome, RunSite, SiteHandle, SiteId, SnapshotId, SnapshotRecord,
    Timestamp,
};
use rusqlite::Connection;

use crate::Error;

pub use audit::AuditMark;
pub use checks::{CheckNote, CheckReach, CheckScope, CheckSeen, ChecksSeen};
pub use jobs::ReadBack;
pub use rebuild::{Content, Lost, Marks};
pub use signals::SignalNote;
pub use standing::{NewestSnapshot, Standing};

const FILE: &str = "catalog.sqlite";

/// The cache of one repository.
pub struct Catalog {
    file: PathBuf,
    connection: Connection,
    /// Bytes of footers, where they were counted.
    footer_bytes: Option<u64>,
}

/// A catalog, and what had to be done to open it.
pub struct Opened {
    pub catalog: Catalog,
    /// The one that was there could not be used: where it is now, and why.
    pub set_aside: Option<SetAside>,
    /// It had nothing: made just now. The engine fills it as it goes, `catalog rebuild` at once.
    pub is_new: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    pub to: PathBuf,
    pub reason: String,
}

/// The newest commit of a site that was ever seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub generation: Generation,
    /// SHA-256 of the whole commit object.
    pub hash: [u8; 32],
}

/// What a site's state said at its head: enough for a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SiteSummary {
    /// The newest good snapshot.
    pub latest: Option<SnapshotId>,
    /// When its cut was complete.
    pub latest_at: Option<Timestamp>,
    /// Plain bytes and entries of it.
    pub logical_bytes: u64,
    pub entries: u64,
    /// Snapshots of each mark.
    pub good: u64,
    pub incomplete: u64,
    pub suspect: u64,
    pub undo: u64,
    pub holds: u64,
    /// A restore is open.
    pub has_intent: bool,
    /// The newest drill in which it came back whole.
    pub proven: Option<Proven>,
    /// The drill since then in which it did not.
    pub drill_failed: Option<DrillFailed>,
    /// `None`: noted by a version that did not remember it.
    pub standing: Option<Standing>,
}

impl SiteSummary {
    /// Whether it has points of its own: what a restore kept, to undo it, is none.
    pub fn has_points(&self) -> bool {
        self.good + self.incomplete + self.suspect > 0
    }

    /// Whether all that is known of it is that it was born in the change log: nobody has backed it up yet.
    pub fn is_only_born(&self) -> bool {
        self.has_points() && self.standing.as_ref().is_some_and(|standing| standing.newest.is_none())
    }
}

/// A site as its newest commit says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteHead {
    pub site: SiteId,
    pub handle: SiteHandle,
    pub head: Head,
    pub summary: SiteSummary,
}

/// A run, and what it found at each site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSeen {
    pub number: RunNumber,
    pub finished_at: Timestamp,
    pub sites: Vec<(SiteHandle, RunSite)>,
}

/// A site that has not changed: as long as its head and the digest of its sources stay the same,
/// the snapshot still is the site, and nothing of it has to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteFingerprint {
    pub head: Head,
    /// Over everything that change detection compares.
    pub digest: [u8; 32],
    pub snapshot: SnapshotRecord,
}

/// What became of a head that was told to the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// The catalog knows it now, or knew it.
    Current,
    /// The catalog has seen a newer one: the bucket it came from has lost commits, or answered
    /// late. Nothing was changed.
    Older { known: Head },
    /// The same generation with other bytes: two histories of one site. Nothing was changed.
    Forked { known: Head },
}

/// Everything the catalog knows of one site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteRow {
    pub site: SiteId,
    pub handle: SiteHandle,
    pub head: Head,
    pub summary: SiteSummary,
    /// What the newest run that looked at it found.
    pub last_run: Option<SiteRun>,
}

/// What a run did with a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteRun {
    pub run: RunNumber,
    pub seen_at: Timestamp,
    /// The snapshot that holds the site as the run saw it.
    pub snapshot: Option<SnapshotId>,
    pub outcome: RunOutcome,
}

impl Catalog {
    /// Opens the catalog of the repository with this identity, and makes it when there is none.
    ///
    /// One that is damaged or of another schema version is moved aside. One of another repository is an error:
    /// it is the witness that another bucket, or disk, was here before.
    pub fn open(directory: &Path, repository: &str) -> Result<Opened, Error> {
        let file = directory.join(FILE);
        prepare(directory, &file)?;
        match Self::try_open(&file, repository) {
            Ok((catalog, is_new)) => Ok(Opened { catalog, set_aside: None, is_new }),
            Err(Refusal::Foreign(reason)) => {
                let to = set_aside(&file)?;
                prepare(directory, &file)?;
                let (catalog, _) = Self::try_open(&file, repository).map_err(|refusal| refusal.into_error(&file))?;
                Ok(Opened { catalog, set_aside: Some(SetAside { to, reason }), is_new: true })
            }
            Err(Refusal::Failed(error)) => Err(error),
        }
    }

    /// The catalog that is there, of whichever repository, for when no store says which; `None`: there is none that can be
    /// used.
    pub fn open_existing(directory: &Path) -> Result<Option<Self>, Error> {
        let file = directory.join(FILE);
        let identity = Connection::open_with_flags(&file, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)
            .and_then(|known| known.query_row("SELECT identity FROM repository", [], |row| row.get::<_, String>(0)));
        let Ok(identity) = identity else { return Ok(None) };
        Ok(Some(Self::open(directory, &identity)?.catalog))
    }

    /// The identity of the repository that it is of.
    pub fn repository(&self) -> Result<String, Error> {
        let read = self.connection.query_row("SELECT identity FROM repository", [], |row| row.get(0));
        read.map_err(|error| self.failed(error))
    }

    /// A catalog that is forgotten at the end, for when the real one cannot be used.
    pub fn in_memory(repository: &str) -> Result<Self, Error> {
        let file = PathBuf::from(":memory:");
        let connection = Connection::open_in_memory().map_err(|error| Error::of_sqlite(&file, error))?;
        schema::prepare(&connection, repository).map_err(|refusal| refusal.into_error(&file))?;
        Ok(Self { file, connection, footer_bytes: None })
    }

    fn try_open(file: &Path, repository: &str) -> Result<(Self, bool), Refusal> {
        let connection = Connection::open(file).map_err(|error| Refusal::of(file, error))?;
        let is_new = schema::prepare(&connection, repository).map_err(|refusal| refusal.with_file(file))?;
        Ok((Self { file: file.to_owned(), connection, footer_bytes: None }, is_new))
    }

    /// The newest commit of the site that was ever seen.
    pub fn head(&self, handle: SiteHandle) -> Result<Option<Head>, Error> {
        rows::head(&self.connection, handle).map_err(|error| self.failed(error))
    }

    /// Remembers a head that was read from the bucket, unless a newer one was seen already.
    pub fn note_head(&mut self, site: &SiteHead) -> Result<Noted, Error> {
        rows::note_head(&mut self.connection, site).map_err(|error| Error::of_sqlite(&self.file, error))
    }

    /// The newest run that was ever seen.
    pub fn last_run(&self) -> Result<Option<RunNumber>, Error> {
        rows::last_run(&self.connection).map_err(|error| self.failed(error))
    }

    /// Remembers a run and what it found at each site; an older run never replaces a newer one.
    pub fn note_run(&mut self, run: &RunSeen) -> Result<(), Error> {
        rows::note_run(&mut self.connection, run).map_err(|error| Error::of_sqlite(&self.file, error))
    }

    /// What the site's sources looked like when its newest good snapshot was found to be the site.
    pub fn fingerprint(&self, handle: SiteHandle) -> Result<Option<SiteFingerprint>, Error> {
        rows::fingerprint(&self.connection, handle).map_err(|error| self.failed(error))
    }

    pub fn note_fingerprint(&self, handle: SiteHandle, fingerprint: &SiteFingerprint) -> Result<(), Error> {
        rows::note_fingerprint(&self.connection, handle, fingerprint).map_err(|error| self.failed(error))
    }

    /// Whether it knows every site that the bucket had when it was last asked for all of them. One that was begun
    /// anew knows only the sites that somebody has looked at since.
    pub fn is_whole(&self) -> Result<bool, Error> {
        let query = "SELECT EXISTS (SELECT 1 FROM whole)";
        self.connection.query_row(query, [], |row| row.get(0)).map_err(|error| self.failed(error))
    }

    /// The bucket was asked for all of its sites, and each was noted.
    pub fn note_whole(&self) -> Result<(), Error> {
        let noted = self.connection.execute("INSERT OR IGNORE INTO whole VALUES (1)", []);
        noted.map(|_| ()).map_err(|error| self.failed(error))
    }

    /// Every site it knows, by id.
    pub fn sites(&self) -> Result<Vec<SiteRow>, Error> {
        rows::sites(&self.connection).map_err(|error| self.failed(error))
    }

    /// One site.
    pub fn site(&self, site: &SiteId) -> Result<Option<SiteRow>, Error> {
        rows::site(&self.connection, site).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: rusqlite::Error) -> Error {
        Error::of_sqlite(&self.file, error)
    }
}

/// Why a catalog cannot be used as it is.
pub(crate) enum Refusal {
    /// It is of no use: damaged, or of another version.
    Foreign(String),
    /// It cannot be reached at all.
    Failed(Error),
}

impl Refusal {
    fn of(file: &Path, error: rusqlite::Error) -> Self {
        match Error::of_sqlite(file, error) {
            Error::Damaged { reason, .. } => Self::Foreign(reason),
            other => Self::Failed(other),
        }
    }

    fn with_file(self, file: &Path) -> Self {
        match self {
            Self::Failed(Error::Unusable { reason, .. }) => {
                Self::Failed(Error::Unusable { file: file.display().to_string(), reason })
            }
            Self::Failed(Error::OtherRepository { .. }) => {
                Self::Failed(Error::OtherRepository { file: file.display().to_string() })
            }
            Self::Failed(Error::Full { .. }) => Self::Failed(Error::Full { file: file.display().to_string() }),
            Self::Failed(Error::Busy { .. }) => Self::Failed(Error::Busy { file: file.display().to_string() }),
            other => other,
        }
    }

    fn into_error(self, file: &Path) -> Error {
        match self {
            Self::Foreign(reason) => Error::Damaged { file: file.display().to_string(), reason },
            Self::Failed(error) => error,
        }
    }
}

/// Makes the directory and the file with narrow modes before SQLite would make them with wide ones;
/// its -wal and -shm take the file's mode.
fn prepare(directory: &Path, file: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Error::of_io(directory, &error)),
    }
    let opened = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(file);
    let opened = opened.map_err(|error| Error::of_io(file, &error))?;
    let mode = opened.metadata().map_err(|error| Error::of_io(file, &error))?.permissions().mode();
    if mode & 0o077 != 0 {
        let narrow = std::fs::Permissions::from_mode(0o600);
        opened.set_permissions(narrow).map_err(|error| Error::of_io(file, &error))?;
    }
    Ok(())
}

/// Moves a catalog and its companions away under the first free name.
fn set_aside(file: &Path) -> Result<PathBuf, Error> {
    let with_end = |base: &Path, end: &str| {
        let mut name = base.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let free = (1..10_000).map(|number| with_end(file, &format!(".aside-{number}"))).find(|path| !path.exists());
    let to = free.ok_or_else(|| Error::Unusable {
        file: file.display().to_string(),
        reason: "ten thousand catalogs were set aside".into(),
    })?;
    std::fs::rename(file, &to).map_err(|error| Error::of_io(file, &error))?;
    for end in ["-wal", "-shm"] {
        // A companion that stayed would be taken for the new catalog's own.
        match std::fs::rename(with_end(file, end), with_end(&to, end)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::of_io(file, &error)),
            _ => {}
        }
    }
    Ok(to)
}
