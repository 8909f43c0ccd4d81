//! What an earlier attempt of the same restore left in its staging, kept so that it need not be read again.
//!
//! There is no journal of it: the staged files are one. A kill leaves them as they were written, a power failure may leave
//! less, or zeros; so nothing of them counts until the caller has read it and compared it with what is wanted. Kept are files
//! with one name, at the place of a file that is wanted, and in a tree the directories above them. All else goes.

use lifeboat_model::{Entry, EntryKind, EntryPath};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::{Errno, Result};

use super::apply::Owner;
use super::staged::{STAGED_MODE, StagedFile};
use super::target::{FilesTarget, is_staged_name};
use super::wipe;
use super::xattr::{self, Subject};
use crate::Error;
use crate::beneath::{self, DIRECTORY, Mounts, Names, file_type, stat_at, stat_fd};

/// Whether something of this kind is wanted at a path.
pub(super) type Wanted<'a> = dyn Fn(&EntryPath, FileType) -> bool + 'a;

impl FilesTarget {
    /// What an earlier attempt had staged of a file, opened to be compared and gone on with; `None`: nothing, or nothing
    /// that can be used. What is not kept of it ([`StagedFile::keep`]) must be written again.
    pub fn earlier(&self, entry: &Entry) -> std::result::Result<Option<StagedFile>, Error> {
        let work = self.working()?;
        if !work.earlier || entry.kind != EntryKind::File {
            return Ok(None);
        }
        let (dir, name) = self.staged_place(work, entry);
        // What cannot be opened or has further names is staged anew, which says why where it cannot be.
        Ok(open_earlier(dir, &name, entry.metadata.size)
            .ok()
            .flatten()
            .map(|(file, owner)| StagedFile::new(file, entry, owner, self.unset.clone()).earlier()))
    }
}

fn open_earlier(dir: impl AsFd, name: &[u8], size: u64) -> Result<Option<(OwnedFd, Owner)>> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = beneath::open(dir, name, flags, Mounts::Stay)?;
    let stat = stat_fd(&file)?;
    if file_type(&stat) != FileType::RegularFile || stat.stx_nlink != 1 {
        return Ok(None);
    }
    // It may have its final mode already, and is half a file again.
    rustix::fs::fchmod(&file, Mode::from_raw_mode(STAGED_MODE))?;
    if stat.stx_size > size {
        rustix::fs::ftruncate(&file, size)?;
    }
    Ok(Some((file, Owner { uid: stat.stx_uid, gid: stat.stx_gid })))
}

/// Leaves the staged files of a merge, whose names are made of their paths.
pub(super) fn tidy_flat(dir: &OwnedFd) -> Result<()> {
    for (name, _) in Names::read(rustix::fs::openat(dir, c".", DIRECTORY, Mode::empty())?)?.iter() {
        let stat = stat_at(dir, name)?;
        let is_directory = file_type(&stat) == FileType::Directory;
        if !(is_staged_name(name) && file_type(&stat) == FileType::RegularFile && stat.stx_nlink == 1) {
            rustix::fs::unlinkat(dir, name, if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() })?;
        }
    }
    Ok(())
}

/// What is made in a directory inherits none of the final ACLs that it may have already.
pub(super) fn drop_acls(dir: &OwnedFd) -> Result<()> {
    for inherited in [&b"system.posix_acl_default"[..], b"system.posix_acl_access"] {
        match xattr::remove(Subject::Open(dir.as_fd()), inherited) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Leaves of a tree the wanted files and the directories above them.
pub(super) fn tidy_tree(tree: &OwnedFd, is_wanted: &Wanted<'_>) -> Result<()> {
    let mut pending = vec![EntryPath::root()];
    while let Some(path) = pending.pop() {
        let dir = beneath::open(tree, path.as_bytes(), DIRECTORY, Mounts::Stay)?;
        drop_acls(&dir)?;
        for (name, _) in Names::read(&dir)?.iter() {
            let stat = stat_at(&dir, name)?;
            let kind = file_type(&stat);
            let inner = path.join(name).map_err(|_| Errno::INVAL)?;
            match (kind, is_wanted(&inner, kind)) {
                (FileType::Directory, true) => {
                    // It may have its final mode already, which may be closed to ourselves.
                    rustix::fs::chmodat(&dir, name, Mode::RWXU, AtFlags::empty())?;
                    pending.push(inner);
                }
                (FileType::Directory, false) => {
                    if !wipe::remove_tree(&dir, name)?.is_empty() {
                        return Err(Errno::NOTEMPTY);
                    }
                }
                (FileType::RegularFile, true) if stat.stx_nlink == 1 => {}
                _ => rustix::fs::unlinkat(&dir, name, AtFlags::empty())?,
            }
        }
    }
    Ok(())
}
