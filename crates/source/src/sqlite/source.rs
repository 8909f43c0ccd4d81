//! `SqliteSource`: lists the sites' databases and opens them.

use std::path::{Path, PathBuf};

use lifeboat_model::{
    Entry, EntryKind, EntryMetadata, EntryPath, PartIdentity, PartProblem, Position, SiteId, SourceKind, SourceName,
};

use super::check::Depth;
use super::connect::{damaged, failure, is_damage, open_immutable};
use super::metadata;
use super::stat::{DatabaseStat, JOURNAL, SHM, WAL};
use super::view::View;
use crate::error::shown;
use crate::identity::identity_of;
use crate::{
    Content, ContentCheck, Cutting, Discovery, Error, Expected, PartReader, PartSummary, PathTemplate, Place, Read,
    Source,
};

/// SQLite's largest page. Every page size divides it, so chunks of this length never cut a page.
const CHUNK_LEN: u32 = 64 * 1024;

/// One SQLite file a site, at the path that a template gives.
#[derive(Debug)]
pub struct SqliteSource {
    name: SourceName,
    template: PathTemplate,
}

impl SqliteSource {
    pub fn new(name: SourceName, template: PathTemplate) -> Self {
        Self { name, template }
    }

    /// The place of one site's database, for a [`super::SqliteTarget`].
    pub fn place(&self, site: &SiteId) -> Result<Place, Error> {
        self.template.place(site)
    }

    /// The site's change detector by `stat` alone, without opening anything; `None`: no database.
    ///
    /// Equal to the stamp in a snapshot's entry: nothing was written since. A file written within
    /// one tick of the file system's clock gives a stamp that equals none.
    pub fn stamp(&self, site: &SiteId) -> Result<Option<Vec<u8>>, Error> {
        let Some(path) = self.resolved(site)? else { return Ok(None) };
        Ok(DatabaseStat::take(&path)?.map(|stat| stat.stamp()))
    }

    /// Where the site's database is, without links; `None`: a directory on the way is missing.
    pub fn database_path(&self, site: &SiteId) -> Result<Option<PathBuf>, Error> {
        self.resolved(site)
    }

    /// The path without links; `None`: a directory on the way is missing.
    fn resolved(&self, site: &SiteId) -> Result<Option<PathBuf>, Error> {
        let place = self.template.place(site)?;
        // A root that is gone is a failed source, never an absent database.
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        rustix::fs::open(self.template.root(), flags, rustix::fs::Mode::empty())
            .map_err(|errno| self.template.failed(&self.name, errno))?;
        resolve(&place)
    }
}

/// The place as a path that holds no symbolic link; `None`: a directory on the way is missing.
pub(super) fn resolve(place: &Place) -> Result<Option<PathBuf>, Error> {
    use std::os::unix::ffi::OsStrExt;
    let fail = |path: &Path, io| Error::io("cannot find the database", path.as_os_str().as_bytes(), io);
    let mut path = std::fs::canonicalize(place.base()).map_err(|io| fail(place.base(), io))?;
    let mut components = place.relative().components().peekable();
    while let Some(component) = components.next() {
        path.push(std::ffi::OsStr::from_bytes(component));
        let kind = match std::fs::symlink_metadata(&path) {
            Ok(metadata) => metadata.file_type(),
            Err(io) if io.kind() == std::io::ErrorKind::NotFound && components.peek().is_none() => break,
            Err(io) if io.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(io) => return Err(fail(&path, io)),
        };
        let detail = match components.peek() {
            _ if kind.is_symlink() => "a symbolic link stands where a part of one site should be",
            Some(_) if !kind.is_dir() => "not a directory",
            _ => continue,
        };
        return Err(Error::Conflict {
            detail: detail.into(),
            path: shown(path.as_os_str().as_bytes()),
            hint: "links are followed only above the first segment with {site}; move it away or mend `path`".into(),
        });
    }
    Ok(Some(path))
}

impl Source for SqliteSource {
    fn name(&self) -> &SourceName {
        &self.name
    }

    fn kind(&self) -> SourceKind {
        SourceKind::Sqlite
    }

    fn discover(&self) -> Result<Discovery, Error> {
        let mut discovery = self.template.discover(&self.name, Expected::File)?;
        // A template that ends with {site} also matches what SQLite lays beside its databases.
        let (sites, companions) =
            discovery.sites.iter().cloned().partition(|site| !is_companion(site, &discovery.sites));
        discovery.sites = sites;
        for site in companions {
            let path = self.template.path_for(&site)?;
            discovery.left_out.push(PartProblem {
                entry: shown(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())),
                reason: "belongs to the SQLite database beside it".into(),
            });
        }
        Ok(discovery)
    }

    fn open(&self, site: &SiteId) -> Result<Option<Box<dyn PartReader>>, Error> {
        let Some(path) = self.resolved(site)? else { return Ok(None) };
        if DatabaseStat::take(&path)?.is_none() {
            return Ok(None);
        }
        let identity = self.identity(site)?;
        Ok(Some(Box::new(DatabaseReader::new(path, identity, Soundness::Required)?)))
    }

    fn identity(&self, site: &SiteId) -> Result<PartIdentity, Error> {
        identity_of(&self.template.path_for(site)?)
    }
}

fn is_companion(site: &SiteId, all: &[SiteId]) -> bool {
    [WAL, SHM, JOURNAL]
        .iter()
        .filter_map(|suffix| site.as_str().strip_suffix(suffix))
        .any(|of| all.binary_search_by(|other| other.as_str().cmp(of)).is_ok())
}

/// Whether a database with a broken structure may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Soundness {
    /// For a snapshot: a broken one is named and never recorded as good.
    Required,
    /// For an undo: it is kept as it is.
    AsItIs,
}

/// One database as a part with one entry.
pub(super) struct DatabaseReader {
    path: PathBuf,
    name: EntryPath,
    identity: PartIdentity,
    soundness: Soundness,
    is_listed: bool,
    /// Whether a cold read was begun before: when asked again, a writer has overtaken it.
    was_cold: bool,
    position: Option<Position>,
}

impl DatabaseReader {
    pub fn new(path: PathBuf, identity: PartIdentity, soundness: Soundness) -> Result<Self, Error> {
        let name = path.file_name().map(std::os::unix::ffi::OsStrExt::as_bytes).unwrap_or_default();
        let name = EntryPath::new(name).map_err(|_| Error::Conflict {
            detail: "not the name of a file".into(),
            path: identity.path.clone(),
            hint: "mend the source's `path` in the configuration".into(),
        })?;
        Ok(Self { path, name, identity, soundness, is_listed: false, was_cold: false, position: None })
    }
}

impl PartReader for DatabaseReader {
    /// The database by `stat` and its header: `stamp` decides whether it must be read at all; size
    /// and page size are those of the file and become exact with [`Content::check`].
    fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        if std::mem::replace(&mut self.is_listed, true) {
            return Ok(None);
        }
        let Some(stat) = DatabaseStat::take(&self.path)? else { return Ok(None) };
        self.position = Some(stat.position());
        let page_size = open_immutable(&self.path)
            .and_then(|connection| connection.query_row("PRAGMA page_size", [], |row| row.get(0)))
            .unwrap_or(0);
        let metadata = metadata::read(&self.path, &stat.main, stat.main.size)?;
        Ok(Some(entry(&self.name, page_size, stat.stamp(), metadata)))
    }

    fn open_content(&mut self, _entry: &Entry) -> Result<Box<dyn Content>, Error> {
        let view =
            View::open(&self.path, !self.was_cold)?.ok_or_else(|| Error::Gone { path: self.identity.path.clone() })?;
        let view = view.detached()?;
        self.was_cold = true;
        self.position = Some(view.stat().position());
        let metadata = metadata::read(&self.path, &view.stat().main, view.pages().len())?;
        Ok(Box::new(DatabaseContent {
            entry: entry(&self.name, view.pages().page_size(), view.stamp().to_vec(), metadata),
            path: self.path.clone(),
            view,
            soundness: self.soundness,
            is_torn: false,
        }))
    }

    fn cutting(&self) -> Cutting {
        Cutting::Fixed(CHUNK_LEN)
    }

    fn finish(self: Box<Self>) -> Result<PartSummary, Error> {
        Ok(PartSummary {
            position: self.position.unwrap_or_else(|| Position(String::new())),
            identity: self.identity,
            problems: Vec::new(),
            left_out: Vec::new(),
        })
    }
}

fn entry(name: &EntryPath, page_size: u32, stamp: Vec<u8>, metadata: EntryMetadata) -> Entry {
    Entry { path: name.clone(), kind: EntryKind::Database { page_size, stamp }, metadata, extents: Vec::new() }
}

/// The pages of one database.
struct DatabaseContent {
    entry: Entry,
    path: PathBuf,
    view: View,
    soundness: Soundness,
    /// A cold read met nonsense because a writer was at work: to be read again, not damage.
    is_torn: bool,
}

impl Content for DatabaseContent {
    fn read(&mut self, buffer: &mut [u8]) -> Result<Read, Error> {
        match self.view.read(buffer) {
            Ok(0) => Ok(Read::End),
            Ok(len) => Ok(Read::Data(len)),
            Err(_) if !self.view.is_unchanged()? => {
                self.is_torn = true;
                Ok(Read::End)
            }
            Err(error) => Err(failure("cannot read the database", &self.path, &error)),
        }
    }

    fn check(&mut self) -> Result<ContentCheck, Error> {
        let findings = match self.soundness {
            Soundness::Required => Some(self.view.check(Depth::Structure)),
            Soundness::AsItIs => None,
        };
        if self.is_torn || !self.view.is_unchanged()? {
            return Ok(ContentCheck::Changed);
        }
        match findings {
            None => {}
            Some(Err(error)) if is_damage(&error) || !error.sqlite_error_code().is_some_and(is_of_the_system) => {
                return Err(damaged(&self.path, format!("its structure cannot be checked: {error}")));
            }
            Some(Err(error)) => return Err(failure("cannot check the database", &self.path, &error)),
            Some(Ok(findings)) => {
                for note in &findings.notes {
                    tracing::warn!(path = %self.path.display(), note, "the database has a flaw that costs no data");
                }
                if !findings.damage.is_empty() {
                    return Err(damaged(&self.path, format!("quick_check says `{}`", findings.damage.join("; "))));
                }
            }
        }
        Ok(ContentCheck::Stable(Box::new(self.entry.clone())))
    }
}

/// Errors that say nothing about the database.
fn is_of_the_system(code: rusqlite::ErrorCode) -> bool {
    use rusqlite::ErrorCode as Code;
    matches!(code, Code::OutOfMemory | Code::SystemIoFailure | Code::DiskFull | Code::OperationInterrupted)
}
