//! The walk over one tree: entries strictly in path order, one directory's names at a time.
//!
//! A directory costs open, statx, listxattr and getdents; anything else statx and listxattr.
//! Descriptors are held for the deepest levels only, so that depth is limited by nothing.
//!
//! What cannot be read is named in `problems` and the walk goes on; what vanished since its
//! directory was listed is simply gone.

use std::collections::HashMap;
use std::sync::Arc;

use lifeboat_model::{Entry, EntryKind, EntryPath, PartProblem, Xattr};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Mode, Statx};
use rustix::io::Errno;

use super::content::open_quietly;
use super::exclude::{Excluded, is_staging};
use super::metadata::{InodeId, is_mounted_over, metadata};
use super::xattr::{self, Subject};
use crate::Error;
use crate::beneath::{self, DIRECTORY, Mounts, Names, file_type, stat_at, stat_fd};

/// Levels of the tree whose directories stay open; the others are opened again on the way back.
const OPEN_LEVELS_MAX: usize = 32;

pub(crate) struct Walk {
    root: Arc<OwnedFd>,
    root_id: InodeId,
    excluded: Excluded,
    levels: Vec<Level>,
    started: bool,
    /// The first name of every file that has more than one.
    links: HashMap<InodeId, EntryPath>,
    pub problems: Vec<PartProblem>,
    pub left_out: Vec<PartProblem>,
}

/// One directory on the way from the root to where the walk stands.
struct Level {
    path: EntryPath,
    id: InodeId,
    dir: Option<OwnedFd>,
    names: Names,
    next: usize,
}

impl Walk {
    pub fn new(root: Arc<OwnedFd>, excluded: Excluded) -> Result<Self, Error> {
        let stat = stat_fd(&*root).map_err(|errno| Error::io("cannot read the part's directory", "", errno))?;
        Ok(Self {
            root,
            root_id: InodeId::of(&stat),
            excluded,
            levels: Vec::new(),
            started: false,
            links: HashMap::new(),
            problems: Vec::new(),
            left_out: Vec::new(),
        })
    }

    /// The next entry; an error only for the root itself.
    pub fn next(&mut self) -> Result<Option<Entry>, Error> {
        if !self.started {
            self.started = true;
            return self.enter_root().map(Some);
        }
        while let Some(level) = self.levels.last_mut() {
            let Some((name, kind)) = level.names.get(level.next) else {
                self.leave();
                continue;
            };
            level.next += 1;
            let (Ok(path), name) = (level.path.join(name), name.to_vec()) else {
                let entry = crate::error::shown(name);
                self.problems.push(PartProblem { entry, reason: "the path is too long".into() });
                continue;
            };
            if let Some(entry) = self.visit(&name, path, kind) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Whether `path` stands for all names of the inode in the entries given out so far.
    pub fn is_first_name(&self, inode: u64, path: &EntryPath) -> bool {
        self.links.get(&self.root_id.sibling(inode)) == Some(path)
    }

    pub fn report(&mut self, path: &EntryPath, reason: impl Into<String>) {
        self.problems.push(PartProblem { entry: path.to_string(), reason: reason.into() });
    }

    fn failed(&mut self, path: &EntryPath, action: &str, errno: Errno) {
        self.report(path, format!("{action}: {}", std::io::Error::from(errno)));
    }

    fn enter_root(&mut self) -> Result<Entry, Error> {
        let failed = |errno| Error::io("cannot list the part's directory", "", errno);
        let dir = open_quietly(|quiet| rustix::fs::openat(&*self.root, c".", DIRECTORY | quiet, Mode::empty()))
            .map_err(failed)?;
        let stat = stat_fd(&dir).map_err(failed)?;
        let xattrs = xattr::read_all(Subject::Open(dir.as_fd())).map_err(failed)?;
        let names = Names::read(&dir).map_err(failed)?;
        let path = EntryPath::root();
        self.levels.push(Level { path: path.clone(), id: self.root_id, dir: Some(dir), names, next: 0 });
        Ok(entry(path, EntryKind::Directory, &stat, xattrs))
    }

    fn visit(&mut self, name: &[u8], path: EntryPath, listed: FileType) -> Option<Entry> {
        if self.excluded.holds(&path) {
            return None;
        }
        if is_staging(name) {
            self.leave_out(&path, "staging of a restore");
            return None;
        }
        if listed == FileType::Directory {
            return self.enter(name, path);
        }
        let dir = self.levels.last()?.dir.as_ref()?;
        let stat = match stat_at(dir, name) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return None,
            Err(errno) => {
                self.failed(&path, "cannot be looked at", errno);
                return None;
            }
        };
        match file_type(&stat) {
            FileType::Directory => self.enter(name, path),
            FileType::Socket => self.leave_out(&path, "a socket"),
            FileType::BlockDevice | FileType::CharacterDevice => self.leave_out(&path, "a device"),
            _ if is_mounted_over(&stat, self.root_id) => {
                self.report(&path, "another file system is mounted here: it is not part of this backup");
                None
            }
            FileType::RegularFile => self.file(name, path, &stat),
            FileType::Symlink => self.symlink(name, path, &stat),
            FileType::Fifo => {
                let xattrs = self.xattrs_at(name, &path)?;
                Some(entry(path, EntryKind::Fifo, &stat, xattrs))
            }
            _ => self.leave_out(&path, "a file of an unknown kind"),
        }
    }

    fn leave_out(&mut self, path: &EntryPath, reason: &str) -> Option<Entry> {
        self.left_out.push(PartProblem { entry: path.to_string(), reason: reason.into() });
        None
    }

    fn file(&mut self, name: &[u8], path: EntryPath, stat: &Statx) -> Option<Entry> {
        let mut kind = EntryKind::File;
        if stat.stx_nlink > 1 {
            match self.links.get(&InodeId::of(stat)) {
                Some(first) => kind = EntryKind::HardLink { to: first.clone() },
                None => {
                    self.links.insert(InodeId::of(stat), path.clone());
                }
            }
        }
        let xattrs = self.xattrs_at(name, &path)?;
        let mut entry = entry(path, kind, stat, xattrs);
        if entry.kind != EntryKind::File {
            entry.metadata.size = 0;
        }
        Some(entry)
    }

    fn symlink(&mut self, name: &[u8], path: EntryPath, stat: &Statx) -> Option<Entry> {
        let target = match rustix::fs::readlinkat(self.levels.last()?.dir.as_ref()?, name, Vec::new()) {
            Ok(target) => target.into_bytes(),
            Err(Errno::NOENT) => return None,
            Err(errno) => {
                self.failed(&path, "cannot read the link", errno);
                return None;
            }
        };
        let xattrs = self.xattrs_at(name, &path)?;
        Some(entry(path, EntryKind::Symlink { target }, stat, xattrs))
    }

    /// The attributes of a name; unreadable ones are named and the entry goes on without. `None`:
    /// it vanished.
    fn xattrs_at(&mut self, name: &[u8], path: &EntryPath) -> Option<Vec<Xattr>> {
        let dir = self.levels.last()?.dir.as_ref()?;
        match xattr::read_all(Subject::Name { dir: dir.as_fd(), name }) {
            Ok(xattrs) => Some(xattrs),
            Err(Errno::NOENT) => None,
            Err(errno) => {
                self.failed(path, "cannot read the extended attributes", errno);
                Some(Vec::new())
            }
        }
    }

    fn enter(&mut self, name: &[u8], path: EntryPath) -> Option<Entry> {
        let parent = self.levels.last()?.dir.as_ref()?;
        let dir = match open_quietly(|quiet| rustix::fs::openat(parent, name, DIRECTORY | quiet, Mode::empty())) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return None,
            Err(Errno::LOOP | Errno::NOTDIR) => {
                self.report(&path, "it became another kind of file while it was read");
                return None;
            }
            Err(errno) => return self.closed_directory(name, path, errno),
        };
        let stat = match stat_fd(&dir) {
            Ok(stat) => stat,
            Err(errno) => {
                self.failed(&path, "cannot be looked at", errno);
                return None;
            }
        };
        let xattrs = match xattr::read_all(Subject::Open(dir.as_fd())) {
            Ok(xattrs) => xattrs,
            Err(errno) => {
                self.failed(&path, "cannot read the extended attributes", errno);
                Vec::new()
            }
        };
        if is_mounted_over(&stat, self.root_id) {
            self.report(&path, "another file system is mounted here: it is not part of this backup");
        } else {
            match Names::read(&dir) {
                Ok(names) => {
                    self.descend(Level { path: path.clone(), id: InodeId::of(&stat), dir: Some(dir), names, next: 0 })
                }
                Err(errno) => self.failed(&path, "cannot list the directory", errno),
            }
        }
        Some(entry(path, EntryKind::Directory, &stat, xattrs))
    }

    /// A directory that may not be opened is recorded all the same, without what is in it.
    fn closed_directory(&mut self, name: &[u8], path: EntryPath, errno: Errno) -> Option<Entry> {
        self.failed(&path, "cannot open the directory", errno);
        let stat = stat_at(self.levels.last()?.dir.as_ref()?, name).ok()?;
        let xattrs = self.xattrs_at(name, &path)?;
        Some(entry(path, EntryKind::Directory, &stat, xattrs))
    }

    fn descend(&mut self, level: Level) {
        self.levels.push(level);
        if let Some(far) = self.levels.len().checked_sub(OPEN_LEVELS_MAX + 1) {
            self.levels[far].dir = None;
        }
    }

    /// Goes back up, opening the directory above again where it had been closed.
    fn leave(&mut self) {
        self.levels.pop();
        let Some(level) = self.levels.last() else { return };
        if level.dir.is_some() {
            return;
        }
        let (path, id) = (level.path.clone(), level.id);
        let again = open_quietly(|quiet| beneath::open(&*self.root, path.as_bytes(), DIRECTORY | quiet, Mounts::Stay))
            .and_then(|dir| Ok((InodeId::of(&stat_fd(&dir)?), dir)));
        match again {
            Ok((found, dir)) if found == id => {
                if let Some(level) = self.levels.last_mut() {
                    level.dir = Some(dir);
                }
            }
            _ => {
                self.report(&path, "the directory was moved while it was read");
                if let Some(level) = self.levels.last_mut() {
                    level.next = level.names.len();
                }
            }
        }
    }
}

pub(crate) fn entry(path: EntryPath, kind: EntryKind, stat: &Statx, xattrs: Vec<Xattr>) -> Entry {
    Entry { path, kind, metadata: metadata(stat, xattrs), extents: Vec::new() }
}
