//! The switch of a merge: one path after the other, each change atomic and repeatable.
//!
//! What is new comes out of staging by a rename onto a free name; what replaces something by a
//! rename over it, after a look that it is still what the plan saw. A directory makes way only when
//! it is empty, so that nothing is ever removed that no plan knows.
//!
//! A repeated run finds earlier changes done: the staged file is gone and its entry stands at its
//! path, the link is there, the removed name is absent.

use std::sync::atomic::Ordering;

use lifeboat_model::{Entry, EntryKind, PartProblem};
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Statx};
use rustix::io::Errno;

use super::action::{Action, Over, Removal, Seen};
use super::apply::Setter;
use super::content::FileContent;
use super::metadata::{metadata, time};
use super::staged::{STAGED_MODE, StagedFile};
use super::target::{FilesTarget, Work, slot_name};
use super::xattr::{self, Subject};
use crate::beneath::{Spot, file_type, rename_noreplace, stat_at};
use crate::{Content, ContentCheck, Error, Read};

impl FilesTarget {
    pub(super) fn change(&self, work: &Work, action: &Action) -> Result<(), Error> {
        match action {
            Action::Put { entry, slot, over } => self.put(work, entry, *slot, *over),
            Action::SetMetadata { entry } => self.set_metadata(work, entry),
            Action::Remove(removal) => match self.remove_one(work, removal)? {
                None => Ok(()),
                Some(problem) => Err(changed(&removal.path, &problem.reason)),
            },
        }
    }

    /// Removes extra entries, children before parents. What is not as it was seen, or a directory
    /// that is not empty, is kept and returned by name.
    pub fn remove(&self, removals: &[Removal]) -> Result<Vec<PartProblem>, Error> {
        let work = self.working()?;
        let mut removals: Vec<&Removal> = removals.iter().collect();
        removals.sort_by(|a, b| b.path.cmp(&a.path));
        let mut kept = Vec::new();
        for removal in removals {
            kept.extend(self.remove_one(work, removal)?);
        }
        Ok(kept)
    }

    /// Gives live directories their owner, mode, attributes and times, children before parents;
    /// nothing that is equal is touched. A fresh part has them since `seal`.
    pub fn finish_directories(&self, directories: &[Entry]) -> Result<(), Error> {
        let work = self.working()?;
        if work.fresh {
            return Ok(());
        }
        let mut directories: Vec<&Entry> =
            directories.iter().filter(|entry| entry.kind == EntryKind::Directory).collect();
        directories.sort_by(|a, b| b.path.cmp(&a.path));
        directories.into_iter().try_for_each(|entry| self.finish_directory(work, entry))
    }

    fn finish_directory(&self, work: &Work, entry: &Entry) -> Result<(), Error> {
        if entry.path.is_root() {
            let subject = Subject::Open(work.finder.root().as_fd());
            let stat = crate::beneath::stat_fd(&**work.finder.root()).map_err(|errno| failed(entry, errno))?;
            return self.bring(subject, entry, &stat);
        }
        let spot = self.spot(work, entry)?;
        let stat = stat_at(&*spot.dir, spot.name).map_err(|errno| failed(entry, errno))?;
        if file_type(&stat) != FileType::Directory {
            return Err(changed(&entry.path, "a directory of the plan was replaced by something else"));
        }
        self.bring(Subject::Name { dir: spot.dir.as_fd(), name: spot.name }, entry, &stat)
    }

    fn bring(&self, subject: Subject<'_>, entry: &Entry, stat: &Statx) -> Result<(), Error> {
        let xattrs = xattr::read_all(subject).map_err(|errno| failed(entry, errno))?;
        Setter { subject, entry, unset: &self.unset }.apply_changes(&metadata(stat, xattrs))
    }

    fn spot<'a>(&self, work: &Work, entry: &'a Entry) -> Result<Spot<'a>, Error> {
        spot_of(work, &entry.path)
    }

    fn put(&self, work: &Work, entry: &Entry, slot: Option<u64>, over: Over) -> Result<(), Error> {
        if entry.path.is_root() {
            return Ok(());
        }
        let spot = self.spot(work, entry)?;
        let scratch = format!("x{}", work.scratch.fetch_add(1, Ordering::Relaxed)).into_bytes();
        let staging = work.staging.as_fd();
        let made = match &entry.kind {
            EntryKind::File => {
                let Some(slot) = slot else { return Err(self.misuse(&entry.path, "the file has no slot")) };
                return self.install(work, entry, &spot, &slot_name(slot), over);
            }
            EntryKind::Directory => {
                let live = look(&spot).map_err(|errno| failed(entry, errno))?;
                if live.is_some_and(|stat| file_type(&stat) == FileType::Directory) {
                    return Ok(());
                }
                rustix::fs::mkdirat(staging, scratch.as_slice(), Mode::RWXU)
            }
            EntryKind::Symlink { target } => rustix::fs::symlinkat(target.as_slice(), staging, scratch.as_slice()),
            EntryKind::Fifo => rustix::fs::mkfifoat(staging, scratch.as_slice(), Mode::RUSR | Mode::WUSR),
            EntryKind::HardLink { to } => {
                if !self.link(work, entry, to, &spot, &scratch)? {
                    return Ok(());
                }
                return self.install(work, entry, &spot, &scratch, over);
            }
            EntryKind::Absent | EntryKind::Database { .. } => {
                return Err(self.misuse(&entry.path, "a target of files cannot hold this"));
            }
        };
        made.map_err(|errno| failed(entry, errno))?;
        self.dress(work, entry, &scratch)?;
        self.install(work, entry, &spot, &scratch, over)
    }

    /// Metadata of something made in staging. A directory stays open to us until it is finished.
    fn dress(&self, work: &Work, entry: &Entry, scratch: &[u8]) -> Result<(), Error> {
        let subject = Subject::Name { dir: work.staging.as_fd(), name: scratch };
        let mut open = entry.clone();
        if entry.kind == EntryKind::Directory {
            open.metadata.mode |= 0o700;
        }
        Setter { subject, entry: &open, unset: &self.unset }.apply_new(work.owner, None)
    }

    /// Makes a further name in staging; `false`: the name is there already.
    fn link(
        &self,
        work: &Work,
        entry: &Entry,
        to: &lifeboat_model::EntryPath,
        spot: &Spot<'_>,
        scratch: &[u8],
    ) -> Result<bool, Error> {
        let first = spot_of(work, to)?;
        let target = stat_at(&*first.dir, first.name).map_err(|errno| failed(entry, errno))?;
        if file_type(&target) != FileType::RegularFile {
            return Err(changed(to, "a file that has further names was replaced by something else"));
        }
        let live = look(spot).map_err(|errno| failed(entry, errno))?;
        if live.is_some_and(|live| live.stx_ino == target.stx_ino) {
            return Ok(false);
        }
        rustix::fs::linkat(&*first.dir, first.name, &work.staging, scratch, AtFlags::empty())
            .map_err(|errno| failed(entry, errno))?;
        Ok(true)
    }

    /// Brings `staged` to its place.
    fn install(&self, work: &Work, entry: &Entry, spot: &Spot<'_>, staged: &[u8], over: Over) -> Result<(), Error> {
        let from = work.staging.as_fd();
        // Twice, for a name that appears between the look and the rename.
        for _ in 0..2 {
            let live = look(spot).map_err(|errno| failed(entry, errno))?;
            let result = match live {
                None => rename_noreplace(from, staged, &*spot.dir, spot.name),
                Some(live) => {
                    if !may_replace(&live, entry, over) {
                        return Err(changed(&entry.path, "it changed since the plan was made"));
                    }
                    work.finder.forget();
                    self.replace(work, entry, spot, staged, &live)
                }
            };
            match (result, live) {
                (Ok(()), _) => return Ok(()),
                (Err(Errno::EXIST), None) => {}
                // Done by the run before this one.
                (Err(Errno::NOENT), Some(live)) if looks_like(&live, entry) => return Ok(()),
                (Err(Errno::NOENT), _) => return Err(changed(&entry.path, "its staged content is gone")),
                (Err(Errno::NOTEMPTY), _) => {
                    return Err(changed(&entry.path, "the directory holds what the plan does not know"));
                }
                (Err(errno), _) => return Err(failed(entry, errno)),
            }
        }
        Err(changed(&entry.path, "something appeared there since the plan was made"))
    }

    fn replace(
        &self,
        work: &Work,
        entry: &Entry,
        spot: &Spot<'_>,
        staged: &[u8],
        live: &Statx,
    ) -> rustix::io::Result<()> {
        let (from, dir, name) = (work.staging.as_fd(), spot.dir.as_fd(), spot.name);
        if file_type(live) == FileType::Directory {
            stat_at(from, staged)?;
            rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?;
            return rename_noreplace(from, staged, dir, name);
        }
        if entry.kind != EntryKind::Directory {
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

    fn set_metadata(&self, work: &Work, entry: &Entry) -> Result<(), Error> {
        if entry.kind == EntryKind::Directory {
            return self.finish_directory(work, entry);
        }
        let spot = self.spot(work, entry)?;
        let Some(live) = look(&spot).map_err(|errno| failed(entry, errno))? else {
            return Err(changed(&entry.path, "it vanished since the plan was made"));
        };
        if !same_kind(&live, &entry.kind) {
            return Err(changed(&entry.path, "it was replaced by another kind of file since the plan was made"));
        }
        if file_type(&live) == FileType::RegularFile && live.stx_nlink > 1 {
            return self.detach(work, entry, &spot);
        }
        self.bring(Subject::Name { dir: spot.dir.as_fd(), name: spot.name }, entry, &live)
    }

    /// A file with a name elsewhere, perhaps in another site: its metadata is set on a copy, which
    /// then takes the name in this part.
    fn detach(&self, work: &Work, entry: &Entry, spot: &Spot<'_>) -> Result<(), Error> {
        let scratch = format!("x{}", work.scratch.fetch_add(1, Ordering::Relaxed)).into_bytes();
        let mut content = FileContent::open_ours(&**work.finder.root(), &entry.path)?;
        let mut copied = entry.clone();
        copied.kind = EntryKind::File;
        copied.extents = Vec::new();
        copied.metadata.size = content.size();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&work.staging, scratch.as_slice(), flags, Mode::from_raw_mode(STAGED_MODE))
            .map_err(|errno| failed(entry, errno))?;
        let staged = StagedFile::new(file, &copied, work.owner, self.unset.clone());
        let mut buffer = vec![0u8; 256 * 1024];
        let mut offset = 0;
        loop {
            match content.read(&mut buffer)? {
                Read::Data(count) => {
                    staged.write_at(offset, &buffer[..count])?;
                    offset += count as u64;
                }
                Read::Hole(len) => offset += len,
                Read::End => break,
            }
        }
        if content.check()? == ContentCheck::Changed {
            return Err(changed(&entry.path, "it was written to while it was restored"));
        }
        staged.finish()?;
        rustix::fs::renameat(&work.staging, scratch.as_slice(), &*spot.dir, spot.name)
            .map_err(|errno| failed(entry, errno))
    }

    fn remove_one(&self, work: &Work, removal: &Removal) -> Result<Option<PartProblem>, Error> {
        let kept =
            |reason: &str| Ok(Some(PartProblem { entry: removal.path.to_string(), reason: format!("kept: {reason}") }));
        let io = |errno| Error::io("cannot remove the entry", removal.path.as_bytes(), errno);
        work.finder.forget();
        if removal.path.is_root() {
            return self.remove_root(work, removal);
        }
        let spot = match work.finder.spot(&removal.path) {
            Ok(spot) => spot,
            // What held it is gone or was replaced, and it with it.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(Errno::XDEV) => return kept("another file system is mounted there"),
            Err(errno) => return Err(io(errno)),
        };
        let Some(live) = look(&spot).map_err(io)? else { return Ok(None) };
        if removal.seen.is_some_and(|seen| !is_seen(&live, seen)) {
            return kept("it changed since the plan was made");
        }
        let flags = match file_type(&live) {
            FileType::Directory => AtFlags::REMOVEDIR,
            _ => AtFlags::empty(),
        };
        match rustix::fs::unlinkat(&*spot.dir, spot.name, flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOTEMPTY) => kept("the directory holds what the plan does not know"),
            Err(Errno::BUSY) => kept("another file system is mounted here"),
            Err(errno) => Err(io(errno)),
        }
    }

    fn remove_root(&self, work: &Work, removal: &Removal) -> Result<Option<PartProblem>, Error> {
        if work.fresh {
            return Err(self.misuse(&removal.path, "a part that was absent is not removed"));
        }
        self.discard_merge(work.finder.root())?;
        match rustix::fs::unlinkat(&*work.parent, self.place.relative().file_name(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOTEMPTY) => Ok(Some(PartProblem {
                entry: String::new(),
                reason: "kept: the part's directory holds what the plan does not know".into(),
            })),
            Err(Errno::BUSY) => Ok(Some(PartProblem {
                entry: String::new(),
                reason: "kept: the part's directory is a mount point".into(),
            })),
            Err(errno) => Err(self.failed("cannot remove the part's directory", errno)),
        }
    }
}

fn spot_of<'a>(work: &Work, path: &'a lifeboat_model::EntryPath) -> Result<Spot<'a>, Error> {
    work.finder.spot(path).map_err(|errno| match errno {
        Errno::LOOP => changed(path, "a symbolic link stands where a directory was planned"),
        Errno::NOTDIR => changed(path, "a file stands where a directory was planned"),
        Errno::NOENT => changed(path, "the directory it belongs into is not there"),
        Errno::XDEV => changed(path, "another file system is mounted on the way to it"),
        errno => Error::io("cannot reach the entry", path.as_bytes(), errno),
    })
}

fn look(spot: &Spot<'_>) -> rustix::io::Result<Option<Statx>> {
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

fn is_seen(live: &Statx, seen: Seen) -> bool {
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

fn same_kind(live: &Statx, kind: &EntryKind) -> bool {
    let live = file_type(live);
    match kind {
        EntryKind::File | EntryKind::HardLink { .. } => live == FileType::RegularFile,
        EntryKind::Directory => live == FileType::Directory,
        EntryKind::Symlink { .. } => live == FileType::Symlink,
        EntryKind::Fifo => live == FileType::Fifo,
        EntryKind::Absent | EntryKind::Database { .. } => false,
    }
}

fn failed(entry: &Entry, errno: Errno) -> Error {
    Error::io("cannot restore the entry", entry.path.as_bytes(), errno)
}

fn changed(path: &lifeboat_model::EntryPath, detail: &str) -> Error {
    Error::Conflict {
        detail: detail.to_owned(),
        path: path.to_string(),
        hint: "run the same restore again: it makes a new plan from what is there now".into(),
    }
}
