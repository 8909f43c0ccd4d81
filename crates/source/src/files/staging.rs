//! The staging directory of a restore: made, locked, emptied, removed.
//!
//! It is closed to everybody else, inherits nothing from the directory it is in (no set-group-id,
//! no default ACL), and lies on the file system of the part, so that every switch is a rename.

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lifeboat_model::{EntryPath, PartProblem};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FlockOperation, IFlags, Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::apply::{Owner, set_modified};
use super::metadata::time;
use super::reader::open_base;
use super::resume::{Wanted, drop_acls, tidy_flat, tidy_tree};
use super::staged::STAGED_MODE;
use super::target::{FilesTarget, PASSAGE, TREE};
use super::wipe;
use super::xattr::Subject;
use crate::Error;
use crate::beneath::{self, DIRECTORY, Mounts, stat_at, stat_fd};
use crate::error::shown;

/// How long a held lock is tried again, far above what lies between a `fork` and its `exec`.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// An open staging directory.
pub(super) struct Staging {
    /// Where things lie that are staged.
    pub dir: OwnedFd,
    /// What is locked, where that is another directory.
    pub lock: Option<OwnedFd>,
    /// An earlier attempt left files in it.
    pub earlier: bool,
}

impl FilesTarget {
    /// Staging inside the live part, whose root keeps its time. `keeps`: with the files that an earlier attempt left.
    pub(super) fn stage_in_part(&self, live: &OwnedFd, keeps: bool) -> Result<Staging, Error> {
        let failed = |errno| self.failed("cannot make the staging directory", errno);
        self.keeping_time(live, || {
            let (lock, is_new) = self.make_staging(live, &self.merge_name(), keeps)?;
            match rustix::fs::mkdirat(&lock, wipe::FILES, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed(errno)),
            }
            let foreign = |errno: Errno| match errno {
                Errno::NOTDIR | Errno::LOOP | Errno::NOTEMPTY => self.misuse_at(format!(
                    "an earlier staging directory holds what no restore put there (name=`{}/files`)",
                    shown(&self.merge_name())
                )),
                errno => self.failed("cannot tidy up an earlier staging directory", errno),
            };
            let dir = rustix::fs::openat(&lock, wipe::FILES, DIRECTORY, Mode::empty()).map_err(foreign)?;
            if !is_new {
                tidy_flat(&dir).map_err(foreign)?;
            }
            Ok(Staging { dir, lock: Some(lock), earlier: !is_new })
        })
    }

    /// Staging beside an absent part, and the root of the tree that is built in it.
    pub(super) fn stage_beside(&self, parent: &OwnedFd) -> Result<(Staging, Arc<OwnedFd>), Error> {
        let failed = |errno| self.failed("cannot make the staging directory", errno);
        let (dir, _) = self.make_staging(parent, &self.fresh_name(), false)?;
        rustix::fs::mkdirat(&dir, TREE, Mode::from_raw_mode(0o755)).map_err(failed)?;
        let tree = rustix::fs::openat(&dir, TREE, DIRECTORY, Mode::empty()).map_err(failed)?;
        Ok((Staging { dir, lock: None, earlier: false }, Arc::new(tree)))
    }

    /// The tree that a killed attempt was building, with those of its files that are wanted; `None`: there is none that
    /// can be gone on with, and what there was is gone.
    pub(super) fn keep_attempt(
        &self,
        parent: &OwnedFd,
        is_wanted: &Wanted<'_>,
    ) -> Result<Option<(Staging, Arc<OwnedFd>)>, Error> {
        if let Ok(dir) = rustix::fs::openat(parent, self.fresh_name(), DIRECTORY, Mode::empty()) {
            self.lock(&dir)?;
            let tree = rustix::fs::openat(&dir, TREE, DIRECTORY, Mode::empty())
                .and_then(|tree| rustix::fs::fchmod(&tree, Mode::RWXU).map(|()| tree))
                .and_then(|tree| tidy_tree(&tree, is_wanted).map(|()| tree));
            if let Ok(tree) = tree {
                return Ok(Some((Staging { dir, lock: None, earlier: true }, Arc::new(tree))));
            }
        }
        self.discard_attempt(parent)?;
        Ok(None)
    }

    /// Removes the staging inside the live part.
    pub(super) fn discard_merge(&self, live: &OwnedFd) -> Result<Vec<PartProblem>, Error> {
        let name = self.merge_name();
        if matches!(stat_at(live, &name), Err(Errno::NOENT)) {
            return Ok(Vec::new());
        }
        self.keeping_time(live, || {
            wipe::remove_flat(live, &name).map_err(|errno| self.failed("cannot remove the staging directory", errno))
        })
    }

    /// Removes the staging beside the part.
    pub(super) fn discard_fresh(&self) -> Result<Vec<PartProblem>, Error> {
        let parent = self.place.relative().parent().unwrap_or_else(EntryPath::root);
        let removed = open_base(&self.place)
            .and_then(|base| beneath::open(base, parent.as_bytes(), PASSAGE, Mounts::Cross))
            .and_then(|parent| wipe::remove_tree(&parent, &self.fresh_name()));
        match removed {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(Vec::new()),
            result => result.map_err(|errno| self.failed("cannot remove the staging directory", errno)),
        }
    }

    /// A fresh attempt that was killed leaves its tree beside the part.
    pub(super) fn discard_attempt(&self, parent: &OwnedFd) -> Result<(), Error> {
        match rustix::fs::openat(parent, self.fresh_name(), DIRECTORY, Mode::empty()) {
            Ok(old) => self.lock(&old)?,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(self.failed("cannot open an earlier staging directory", errno)),
        }
        let kept = wipe::remove_tree(parent, &self.fresh_name())
            .map_err(|errno| self.failed("cannot remove an earlier staging directory", errno))?;
        match kept.first() {
            None => Ok(()),
            Some(problem) => {
                let detail = format!("an earlier staging directory cannot be removed: {}", problem.reason);
                Err(self.misuse_at(detail))
            }
        }
    }

    /// Does something in the part's root that moves its time, and moves the time back. Where that is
    /// not allowed (another owner's directory), the time is the only thing that differs.
    fn keeping_time<T>(&self, live: &OwnedFd, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let before = stat_fd(live).map_err(|errno| self.failed("cannot look at the part's directory", errno))?;
        let result = self.while_open(live, work)?;
        match set_modified(Subject::Open(live.as_fd()), time(before.stx_mtime)) {
            Ok(()) | Err(Errno::PERM | Errno::ACCESS) => Ok(result),
            Err(errno) => Err(self.failed("cannot set the time of the part's directory", errno)),
        }
    }

    pub(super) fn make_parents(&self, made: &mut Vec<(Arc<OwnedFd>, Vec<u8>)>) -> Result<Arc<OwnedFd>, Error> {
        let failed = |errno| self.failed("cannot make the directories above the part", errno);
        let parent = self.place.relative().parent().unwrap_or_else(EntryPath::root);
        let base = open_base(&self.place).map_err(|errno| Self::no_base(&self.place, errno))?;
        let mut here = Arc::new(base);
        for name in parent.components() {
            match rustix::fs::mkdirat(&*here, name, Mode::from_raw_mode(0o755)) {
                Ok(()) => made.push((here.clone(), name.to_vec())),
                Err(Errno::EXIST) => {}
                // A read-only parent answers so before it says that the name exists.
                Err(Errno::ROFS | Errno::ACCESS) if stat_at(&*here, name).is_ok() => {}
                Err(errno) => return Err(failed(errno)),
            }
            here = Arc::new(beneath::open(&*here, name, PASSAGE, Mounts::Cross).map_err(failed)?);
        }
        Ok(here)
    }

    /// Makes the staging directory, or locks and empties (`keeps`: and keeps) the one of an earlier attempt. Tells whether
    /// it is a new one.
    fn make_staging(&self, dir: &OwnedFd, name: &[u8], keeps: bool) -> Result<(OwnedFd, bool), Error> {
        let failed = |errno| self.failed("cannot make the staging directory", errno);
        match rustix::fs::mkdirat(dir, name, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let old = rustix::fs::openat(dir, name, DIRECTORY, Mode::empty()).map_err(failed)?;
                self.lock(&old)?;
                if keeps {
                    return Ok((old, false));
                }
                if let Some(problem) = wipe::remove_flat(dir, name).map_err(failed)?.first() {
                    let what = format!("the staging directory holds something else: {}", problem.entry);
                    return Err(self.misuse_at(what));
                }
                rustix::fs::mkdirat(dir, name, Mode::RWXU).map_err(failed)?;
            }
            Err(errno) => return Err(failed(errno)),
        }
        let staging = rustix::fs::openat(dir, name, DIRECTORY, Mode::empty()).map_err(failed)?;
        self.lock(&staging)?;
        // What the parent hands down (set-group-id, a default ACL) must not reach staged files.
        drop_acls(&staging).map_err(failed)?;
        rustix::fs::fchmod(&staging, Mode::RWXU).map_err(failed)?;
        spread(&staging);
        Ok((staging, true))
    }

    fn lock(&self, staging: &OwnedFd) -> Result<(), Error> {
        self.lock_or(staging, || Error::Busy {
            path: shown(self.place.path().as_os_str().as_bytes()),
            detail: "another process runs this very restore".into(),
            hint: "wait for it, or stop it and run the command again".into(),
        })
    }

    /// The part's root, locked.
    pub(super) fn switch_lock(&self, live: &OwnedFd) -> Result<OwnedFd, Error> {
        let root = rustix::fs::openat(live, c".", DIRECTORY, Mode::empty())
            .map_err(|errno| self.failed("cannot lock the part's directory", errno))?;
        self.lock_or(&root, || Error::Busy {
            path: shown(self.place.path().as_os_str().as_bytes()),
            detail: "another restore is in the middle of its switch here".into(),
            hint: "wait for it; if it stands still, kill that process (its pid is in the message about the open restore), \
                   then run the same command again"
                .into(),
        })?;
        Ok(root)
    }

    /// Locks a directory. A child that was being started when an earlier attempt let go holds its lock until the child's
    /// `exec`: so a held lock is tried again for a moment.
    fn lock_or(&self, dir: &OwnedFd, busy: impl Fn() -> Error) -> Result<(), Error> {
        let patience = Instant::now() + LOCK_PATIENCE;
        loop {
            match rustix::fs::flock(dir, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(()),
                Err(Errno::AGAIN) if Instant::now() < patience => std::thread::sleep(LOCK_PAUSE),
                Err(Errno::AGAIN) => return Err(busy()),
                Err(errno) => return Err(self.failed("cannot lock the directory", errno)),
            }
        }
    }

    /// The owner of new files here, asked of the file system: mount options and set-group-id decide.
    pub(super) fn probe_owner(&self, staging: &OwnedFd) -> Result<Owner, Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        rustix::fs::openat(staging, c"probe", flags, Mode::from_raw_mode(STAGED_MODE))
            .and_then(stat_fd)
            .and_then(|stat| {
                rustix::fs::unlinkat(staging, c"probe", AtFlags::empty())?;
                Ok(Owner { uid: stat.stx_uid, gid: stat.stx_gid })
            })
            .map_err(|errno| self.failed("cannot write into the staging directory", errno))
    }

    fn merge_name(&self) -> Vec<u8> {
        format!(".lifeboat-stage-{}", self.restore).into_bytes()
    }

    fn fresh_name(&self) -> Vec<u8> {
        let digest = Sha256::digest(self.place.relative().as_bytes());
        let hash: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!(".lifeboat-{}-{hash}", self.restore).into_bytes()
    }
}

/// Asks ext4 to place what is made in this directory elsewhere on the disk than around it, as it does for the directories
/// at its top (`FS_TOPDIR_FL`, chattr(1) `+T`). Around it lies what was just deleted: for minutes ext4 gives none of those
/// inodes out again, and looks at each of them for every new file. Other file systems refuse, and need nothing.
fn spread(staging: &OwnedFd) {
    if let Ok(flags) = rustix::fs::ioctl_getflags(staging) {
        let _ = rustix::fs::ioctl_setflags(staging, flags | IFlags::TOPDIR);
    }
}
