//! The files source: which sites there are, and a reader for one of them.

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use lifeboat_model::{Entry, PartIdentity, Position, SiteId, SourceKind, SourceName, Timestamp};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::content::FileContent;
use super::exclude::{Excluded, Exclusion};
use super::walk::Walk;
use crate::beneath::{self, DIRECTORY, Mounts, proc_path};
use crate::error::shown;
use crate::identity::identity_of;
use crate::{Content, Cutting, Discovery, Error, Expected, PartReader, PartSummary, PathTemplate, Place, Source};

/// A directory tree per site.
#[derive(Debug, Clone)]
pub struct FilesSource {
    name: SourceName,
    template: PathTemplate,
    exclusions: Vec<Exclusion>,
}

impl FilesSource {
    /// `exclusions`: what other sources own below this one's parts.
    pub fn new(name: SourceName, template: PathTemplate, exclusions: Vec<Exclusion>) -> Self {
        Self { name, template, exclusions }
    }

    pub fn template(&self) -> &PathTemplate {
        &self.template
    }

    /// Where the site's part is or would be; input of a target.
    pub fn place(&self, site: &SiteId) -> Result<Place, Error> {
        self.template.place(site)
    }

    /// What is left out of the site's part, relative to its root; input of a target.
    pub fn excluded(&self, site: &SiteId) -> Result<Vec<lifeboat_model::EntryPath>, Error> {
        Ok(Exclusion::within(&self.exclusions, site, &self.template.path_for(site)?))
    }
}

impl Source for FilesSource {
    fn name(&self) -> &SourceName {
        &self.name
    }

    fn kind(&self) -> SourceKind {
        SourceKind::Files
    }

    fn discover(&self) -> Result<Discovery, Error> {
        self.template.discover(&self.name, Expected::Directory)
    }

    fn open(&self, site: &SiteId) -> Result<Option<Box<dyn PartReader>>, Error> {
        let place = self.place(site)?;
        let base = open_base(&place).map_err(|errno| self.template.failed(&self.name, errno))?;
        let Some(root) = open_root(&base, &place)? else { return Ok(None) };
        let excluded = Excluded::new(self.excluded(site)?);
        Ok(Some(Box::new(FilesReader::new(Arc::new(root), excluded, identity_of(&place.path())?)?)))
    }

    fn identity(&self, site: &SiteId) -> Result<PartIdentity, Error> {
        identity_of(&self.template.path_for(site)?)
    }
}

/// Opens the directory the operator vouched for.
pub(crate) fn open_base(place: &Place) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(place.base(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens the part's root: a real directory, reached through real directories; `None` when absent.
pub(crate) fn open_root(base: &OwnedFd, place: &Place) -> Result<Option<OwnedFd>, Error> {
    match beneath::open(base, place.relative().as_bytes(), DIRECTORY, Mounts::Cross) {
        Ok(root) => Ok(Some(root)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::LOOP) => Err(not_a_part(place, "a symbolic link stands where the part's directory should be")),
        Err(Errno::NOTDIR) => Err(not_a_part(place, "a file or link stands where the part's directory should be")),
        Err(errno) => Err(Error::io("cannot open the part's directory", place.path().as_os_str().as_bytes(), errno)),
    }
}

fn not_a_part(place: &Place, detail: &str) -> Error {
    let path = shown(place.path().as_os_str().as_bytes());
    let hint = format!("look with `ls -ld {path}`; move away what stands there, or correct `path` of the source");
    Error::Conflict { detail: detail.into(), path, hint }
}

/// One tree, being read.
pub(crate) struct FilesReader {
    root: Arc<OwnedFd>,
    walk: Walk,
    identity: PartIdentity,
    began: Timestamp,
}

impl FilesReader {
    pub fn new(root: Arc<OwnedFd>, excluded: Excluded, identity: PartIdentity) -> Result<Self, Error> {
        if rustix::fs::stat(proc_path(&*root, b"")).is_err() {
            return Err(Error::io("extended attributes are read through /proc: mount it", "/proc", Errno::NOENT));
        }
        let walk = Walk::new(root.clone(), excluded)?;
        Ok(Self { root, walk, identity, began: Timestamp::now() })
    }
}

impl PartReader for FilesReader {
    fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        self.walk.next()
    }

    fn open_content(&mut self, entry: &Entry) -> Result<Box<dyn Content>, Error> {
        let content = FileContent::open(&*self.root, &entry.path)?;
        let listed = entry.metadata.inode;
        if content.inode() != listed && self.walk.is_first_name(listed, &entry.path) {
            // The names that follow still belong to the file that was here before.
            self.walk.report(&entry.path, "it was replaced while it was read, and the file it was has other names");
        }
        Ok(Box::new(content))
    }

    fn cutting(&self) -> Cutting {
        Cutting::Content
    }

    fn finish(self: Box<Self>) -> Result<PartSummary, Error> {
        let Self { walk, identity, began, .. } = *self;
        let position = Position(format!("listing {began}"));
        Ok(PartSummary { position, identity, problems: walk.problems, left_out: walk.left_out })
    }
}
