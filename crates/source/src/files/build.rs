//! Building a fresh tree in staging, out of everybody's sight.

use lifeboat_model::{Entry, EntryKind, EntryPath};
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;

use super::action::Action;
use super::apply::Setter;
use super::target::{FilesTarget, PASSAGE, Work};
use super::xattr::Subject;
use crate::Error;
use crate::beneath::{self, DIRECTORY, Mounts, file_type, stat_at, stat_fd};

impl FilesTarget {
    pub(super) fn build(&self, work: &Work, action: &Action) -> Result<(), Error> {
        let Action::Put { entry, .. } = action else {
            return Err(self.misuse(action.path(), "an absent part has nothing to change or remove"));
        };
        let failed = |errno| Error::io("cannot build the entry", entry.path.as_bytes(), errno);
        if entry.kind == EntryKind::Directory {
            return self.build_directories(work, &entry.path);
        }
        // Entries come in path order, so the directory is nearly always there and known.
        let spot = match (work.finder.spot(&entry.path), entry.path.parent()) {
            (Err(Errno::NOENT), Some(parent)) => {
                self.build_directories(work, &parent)?;
                work.finder.spot(&entry.path)
            }
            (spot, _) => spot,
        }
        .map_err(failed)?;
        let (dir, name) = (spot.dir.as_fd(), spot.name);
        match &entry.kind {
            EntryKind::File => {
                let stat = stat_at(dir, name).map_err(failed)?;
                return match file_type(&stat) == FileType::RegularFile {
                    true => Ok(()),
                    false => Err(self.misuse(&entry.path, "the file was not staged")),
                };
            }
            EntryKind::HardLink { to } => {
                let first = work.finder.spot(to).map_err(failed)?;
                return again(
                    || rustix::fs::linkat(&*first.dir, first.name, dir, name, AtFlags::empty()),
                    || rustix::fs::unlinkat(dir, name, AtFlags::empty()),
                )
                .map_err(failed);
            }
            EntryKind::Symlink { target } => again(
                || rustix::fs::symlinkat(target.as_slice(), dir, name),
                || rustix::fs::unlinkat(dir, name, AtFlags::empty()),
            ),
            EntryKind::Fifo => again(
                || rustix::fs::mkfifoat(dir, name, Mode::RUSR | Mode::WUSR),
                || rustix::fs::unlinkat(dir, name, AtFlags::empty()),
            ),
            kind => {
                return Err(self.misuse(&entry.path, &format!("a target of files cannot hold this: kind=`{kind:?}`")));
            }
        }
        .map_err(failed)?;
        let subject = Subject::Name { dir, name };
        Setter { subject, entry, unset: &self.unset }.apply_new(work.owner, None)
    }

    /// Makes a directory of the tree and those above it. Any thread may do so at the same time.
    pub(super) fn build_directories(&self, work: &Work, path: &EntryPath) -> Result<(), Error> {
        let failed = |errno| Error::io("cannot build the directory", path.as_bytes(), errno);
        if path.is_root() || beneath::open(&**work.finder.root(), path.as_bytes(), PASSAGE, Mounts::Stay).is_ok() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.build_directories(work, &parent)?;
        }
        let spot = work.finder.spot(path).map_err(failed)?;
        match rustix::fs::mkdirat(&*spot.dir, spot.name, Mode::from_raw_mode(0o755)) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) if beneath::open(&*spot.dir, spot.name, PASSAGE, Mounts::Stay).is_ok() => Ok(()),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Gives the built directories their metadata, children before parents, and the directories
    /// that had to be made above the part the owner of the part.
    pub(super) fn finish_built(&self, work: &Work, directories: &[Entry]) -> Result<(), Error> {
        let mut directories: Vec<&Entry> =
            directories.iter().filter(|entry| entry.kind == EntryKind::Directory).collect();
        directories.sort_by(|a, b| b.path.cmp(&a.path));
        for entry in directories {
            let failed = |errno| Error::io("cannot finish the directory", entry.path.as_bytes(), errno);
            let dir =
                beneath::open(&**work.finder.root(), entry.path.as_bytes(), DIRECTORY, Mounts::Stay).map_err(failed)?;
            // A killed attempt may have made it, and given it another owner or other attributes.
            self.bring(Subject::Open(dir.as_fd()), entry, &stat_fd(&dir).map_err(failed)?)?;
            if entry.path.is_root() {
                self.finish_parents(work, entry)?;
            }
        }
        Ok(())
    }

    /// The application must be able to use what lies above its part; nothing says whose it was, and
    /// the part's own owner is the best guess.
    fn finish_parents(&self, work: &Work, root: &Entry) -> Result<(), Error> {
        for (dir, name) in &work.made {
            let failed = |errno| self.failed("cannot finish a directory above the part", errno);
            let made = beneath::open(&**dir, name, DIRECTORY, Mounts::Cross).map_err(failed)?;
            let modified = super::metadata::time(stat_fd(&made).map_err(failed)?.stx_mtime);
            let mut entry = root.clone();
            entry.metadata.mode = (root.metadata.mode & 0o777) | 0o700;
            entry.metadata.xattrs = Vec::new();
            entry.metadata.modified = modified;
            let subject = Subject::Open(made.as_fd());
            Setter { subject, entry: &entry, unset: &self.unset }.apply_new(work.owner, None)?;
        }
        Ok(())
    }
}

/// Makes something; what an earlier batch left at its name is replaced.
fn again(
    make: impl Fn() -> rustix::io::Result<()>,
    remove: impl Fn() -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    match make() {
        Err(Errno::EXIST) => remove().and_then(|()| make()),
        result => result,
    }
}
