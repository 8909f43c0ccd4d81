//! The switch of a merge: one path after the other, each change repeatable.
//!
//! A repeated run finds earlier changes done: the staged file is gone and its entry stands at its
//! path, the link is there, the removed name is absent.
//!
//! What is not here: bringing one thing out of staging to its place (`install`).

use lifeboat_model::{Entry, EntryKind, PartProblem};
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx};
use rustix::io::Errno;

use super::action::{Action, Over, Removal};
use super::apply::Setter;
use super::content::FileContent;
use super::install::{Put, changed, failed, is_seen, look, same_kind, spot_of};
use super::metadata::metadata;
use super::staged::{STAGED_MODE, StagedFile};
use super::target::{FilesTarget, Work, staged_name};
use super::xattr::{self, Subject};
use crate::beneath::{Spot, file_type, stat_at, stat_fd};
use crate::{Content, ContentCheck, Error, Read};

impl FilesTarget {
    pub(super) fn change(&self, work: &Work, action: &Action) -> Result<(), Error> {
        match action {
            Action::Put { entry, over } => self.put(work, entry, *over),
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

    /// Gives directories their time back after something else was put into them: a database that
    /// lies inside the part.
    pub fn finish_again(&self, directories: &[Entry]) -> Result<(), Error> {
        let work = self.working()?;
        directories.iter().rev().try_for_each(|entry| self.finish_directory(work, entry))
    }

    fn finish_directory(&self, work: &Work, entry: &Entry) -> Result<(), Error> {
        if entry.path.is_root() {
            let subject = Subject::Open(work.finder.root().as_fd());
            let stat = stat_fd(&**work.finder.root()).map_err(|errno| failed(entry, errno))?;
            return self.bring(subject, entry, &stat);
        }
        let spot = self.spot(work, entry)?;
        let stat = stat_at(&*spot.dir, spot.name).map_err(|errno| failed(entry, errno))?;
        if file_type(&stat) != FileType::Directory {
            return Err(changed(&entry.path, "a directory of the plan was replaced by something else"));
        }
        self.bring(Subject::Name { dir: spot.dir.as_fd(), name: spot.name }, entry, &stat)
    }

    pub(super) fn bring(&self, subject: Subject<'_>, entry: &Entry, stat: &Statx) -> Result<(), Error> {
        let xattrs = xattr::read_all(subject).map_err(|errno| failed(entry, errno))?;
        Setter { subject, entry, unset: &self.unset }.apply_changes(&metadata(stat, xattrs))
    }

    fn spot<'a>(&self, work: &Work, entry: &'a Entry) -> Result<Spot<'a>, Error> {
        spot_of(work, &entry.path)
    }

    fn put(&self, work: &Work, entry: &Entry, over: Over) -> Result<(), Error> {
        if entry.path.is_root() {
            return Ok(());
        }
        let put = Put { work, entry, over, spot: self.spot(work, entry)? };
        if entry.kind == EntryKind::File {
            return put.install(&staged_name(&entry.path));
        }
        let scratch = work.scratch_name();
        if !put.make(&scratch)? {
            return Ok(());
        }
        // The names of a file share its metadata.
        if !matches!(entry.kind, EntryKind::HardLink { .. }) {
            self.dress(work, entry, &scratch)?;
        }
        put.install(&scratch)
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
        let scratch = work.scratch_name();
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
        // It was not there when everything staged was made durable.
        staged.sync()?;
        rustix::fs::renameat(&work.staging, scratch.as_slice(), &*spot.dir, spot.name)
            .map_err(|errno| failed(entry, errno))
    }

    fn remove_one(&self, work: &Work, removal: &Removal) -> Result<Option<PartProblem>, Error> {
        let kept =
            |reason: &str| Ok(Some(PartProblem { entry: removal.path.to_string(), reason: format!("kept: {reason}") }));
        let io = |errno| Error::io("cannot remove the entry", removal.path.as_bytes(), errno);
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
            FileType::Directory => {
                work.finder.forget();
                AtFlags::REMOVEDIR
            }
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
