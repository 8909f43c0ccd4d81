//! Bringing one thing out of staging to its place in the live part.
//!
//! What is new comes by a rename onto a free name; what replaces something by a rename over it,
//! after a look that it is still what the plan saw. A directory makes way only when it is empty, so
//! that nothing is ever removed that no plan knows.

use lifeboat_model::{Entry, EntryKind, EntryPath};
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, FileType, Mode, RenameFlags, Statx};
use rustix::io::Errno;

use super::action::{Over, Seen};
use super::metadata::time;
use super::target::Work;
use crate::Error;
use crate::beneath::{Spot, file_type, rename_noreplace, stat_at};

/// One entry on its way to its place.
pub(super) struct Put<'a> {
    pub work: &'a Work,
    pub entry: &'a Entry,
    pub over: Over,
    pub spot: Spot<'a>,
}

impl Put<'_> {
    /// Makes anything but a file in staging, under the name `scratch`; `false`: it is in place already.
    pub fn make(&self, scratch: &[u8]) -> Result<bool, Error> {
        let staging = self.work.staging.as_fd();
        match &self.entry.kind {
            EntryKind::Directory => {
                if self.live()?.is_some_and(|live| file_type(&live) == FileType::Directory) {
                    return Ok(false);
                }
                rustix::fs::mkdirat(staging, scratch, Mode::RWXU)
            }
            EntryKind::Symlink { target } => rustix::fs::symlinkat(target.as_slice(), staging, scratch),
            EntryKind::Fifo => rustix::fs::mkfifoat(staging, scratch, Mode::RUSR | Mode::WUSR),
            EntryKind::HardLink { to } => return self.link(to, scratch),
            EntryKind::File | EntryKind::Absent | EntryKind::Database { .. } | EntryKind::Table { .. } => {
                let hint = "this is a fault of Lifeboat: please report it".into();
                let detail = "a target of files cannot make this".into();
                return Err(Error::Conflict { detail, path: self.entry.path.to_string(), hint });
            }
        }
        .map_err(|errno| failed(self.entry, errno))?;
        Ok(true)
    }

    fn link(&self, to: &EntryPath, scratch: &[u8]) -> Result<bool, Error> {
        let first = spot_of(self.work, to)?;
        let target = stat_at(&*first.dir, first.name).map_err(|errno| failed(self.entry, errno))?;
        if file_type(&target) != FileType::RegularFile {
            return Err(changed(to, "a file that has further names was replaced by something else"));
        }
        if self.live()?.is_some_and(|live| live.stx_ino == target.stx_ino) {
            return Ok(false);
        }
        rustix::fs::linkat(&*first.dir, first.name, &self.work.staging, scratch, AtFlags::empty())
            .map_err(|errno| failed(self.entry, errno))?;
        Ok(true)
    }

    fn live(&self) -> Result<Option<Statx>, Error> {
        look(&self.spot).map_err(|errno| failed(self.entry, errno))
    }

    /// Brings `staged` to its place.
    pub fn install(&self, staged: &[u8]) -> Result<(), Error> {
        let path = &self.entry.path;
        // Twice, for a name that appears between the look and the rename.
        for _ in 0..2 {
            let live = self.live()?;
            let result = match live {
                None => rename_noreplace(&self.work.staging, staged, &*self.spot.dir, self.spot.name),
                Some(live) if !may_replace(&live, self.entry, self.over) => {
                    return Err(changed(path, "it changed since the plan was made"));
                }
                Some(live) => {
                    if file_type(&live) == FileType::Directory {
                        self.work.finder.forget();
                    }
                    self.replace(staged, &live)
                }
            };
            match (result, live) {
                (Ok(()), _) => return Ok(()),
                (Err(Errno::EXIST), None) => {}
                // Done by the run before this one.
                (Err(Errno::NOENT), Some(live)) if looks_like(&live, self.entry) => return Ok(()),
                (Err(Errno::NOENT), _) => return Err(changed(path, "its staged content is gone")),
                (Err(Errno::NOTEMPTY), _) => {
                    return Err(changed(path, "the directory holds what the plan does not know"));
                }
                (Err(errno), _) => return Err(failed(self.entry, errno)),
            }
        }
        Err(changed(path, "something appeared there since the plan was made"))
    }

    fn replace(&self, staged: &[u8], live: &Statx) -> rustix::io::Result<()> {
        let (from, dir, name) = (self.work.staging.as_fd(), self.spot.dir.as_fd(), self.spot.name);
        if file_type(live) == FileType::Directory {
            stat_at(from, staged)?;
            rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?;
            return rename_noreplace(from, staged, dir, name);
        }
        if self.entry.kind != EntryKind::Directory {
            return rustix::fs::renameat(from, staged, dir, name);
        }
        match rustix::fs::renameat_with(from, staged, dir, name, RenameFlags::EXCHANGE) {
            Ok(()) => rustix::fs::unlinkat(from, staged, AtFlags::empty()),
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
                rename_noreplace(from, staged, dir, name)
            }
            Err(errno) => Err(errno),
        }
    }
}

pub(super) fn spot_of<'a>(work: &Work, path: &'a EntryPath) -> Result<Spot<'a>, Error> {
    work.finder.spot(path).map_err(|errno| match errno {
        Errno::LOOP => changed(path, "a symbolic link stands where a directory was planned"),
        Errno::NOTDIR => changed(path, "a file stands where a directory was planned"),
        Errno::NOENT => changed(path, "the directory it belongs into is not there"),
        Errno::XDEV => changed(path, "another file system is mounted on the way to it"),
        errno => Error::io("cannot reach the entry", path.as_bytes(), errno),
    })
}

pub(super) fn look(spot: &Spot<'_>) -> rustix::io::Result<Option<Statx>> {
    match stat_at(&*spot.dir, spot.name) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn may_replace(live: &Statx, wanted: &Entry, over: Over) -> bool {
    looks_like(live, wanted)
        || match over {
            Over::Nothing => false,
            Over::Seen(seen) => is_seen(live, seen),
            Over::Anything => true,
        }
}

pub(super) fn is_seen(live: &Statx, seen: Seen) -> bool {
    live.stx_ino == seen.inode && seen.modified.is_none_or(|modified| modified == time(live.stx_mtime))
}

/// Whether an earlier run of the same restore put this here: it carries the restored times.
fn looks_like(live: &Statx, wanted: &Entry) -> bool {
    if !same_kind(live, &wanted.kind) {
        return false;
    }
    match wanted.kind {
        EntryKind::Directory => true,
        EntryKind::File => live.stx_size == wanted.metadata.size && time(live.stx_mtime) == wanted.metadata.modified,
        _ => time(live.stx_mtime) == wanted.metadata.modified,
    }
}

pub(super) fn same_kind(live: &Statx, kind: &EntryKind) -> bool {
    let live = file_type(live);
    match kind {
        EntryKind::File | EntryKind::HardLink { .. } => live == FileType::RegularFile,
        EntryKind::Directory => live == FileType::Directory,
        EntryKind::Symlink { .. } => live == FileType::Symlink,
        EntryKind::Fifo => live == FileType::Fifo,
        EntryKind::Absent | EntryKind::Database { .. } | EntryKind::Table { .. } => false,
    }
}

pub(super) fn failed(entry: &Entry, errno: Errno) -> Error {
    Error::io("cannot restore the entry", entry.path.as_bytes(), errno)
}

pub(super) fn changed(path: &EntryPath, detail: &str) -> Error {
    Error::Conflict {
        detail: detail.to_owned(),
        path: path.to_string(),
        hint: "run the same restore again: it makes a new plan from what is there now".into(),
    }
}
