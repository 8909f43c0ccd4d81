//! Writing metadata: owner, attributes, mode, times, in this order.
//!
//! A change of owner clears set-user-id bits and file capabilities, so it comes first; times come
//! last because everything else moves them. What the process has no privilege for, or the file
//! system cannot hold, is named and the rest goes on.

use std::sync::{Mutex, PoisonError};

use lifeboat_model::{Entry, EntryKind, EntryMetadata, EntryPath, FileTime, PartProblem, Xattr};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::{Errno, Result};

use super::xattr::{self, Subject};
use crate::Error;
use crate::beneath::proc_path;

/// The owner that files made by this process get in the staging directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// Metadata that could not be set, by name.
#[derive(Debug, Default)]
pub(crate) struct Unset(Mutex<Vec<PartProblem>>);

impl Unset {
    pub fn report(&self, path: &EntryPath, reason: String) {
        let mut problems = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let problem = PartProblem { entry: path.to_string(), reason };
        // A repeated call (a run taken up again) says the same once.
        if problems.last() != Some(&problem) {
            problems.push(problem);
        }
    }

    pub fn list(&self) -> Vec<PartProblem> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One thing whose metadata is being set.
pub(crate) struct Setter<'a> {
    pub subject: Subject<'a>,
    pub entry: &'a Entry,
    pub unset: &'a Unset,
}

impl Setter<'_> {
    /// Sets everything on what was just made with `owner` and mode bits `mode` (`None`: unknown).
    pub fn apply_new(&self, owner: Owner, mode: Option<u32>) -> std::result::Result<(), Error> {
        let wanted = &self.entry.metadata;
        self.with_context(|| {
            let owned = owner == (Owner { uid: wanted.uid, gid: wanted.gid }) || self.set_owner()?;
            for xattr in &wanted.xattrs {
                self.set_xattr(xattr)?;
            }
            // An access ACL has moved the mode's group bits.
            if mode != Some(self.mode(owned)) || !wanted.xattrs.is_empty() {
                self.set_mode(owned)?;
            }
            set_modified(self.subject, wanted.modified)
        })
    }

    /// Brings what is there from `live` to what is wanted; touches nothing that is equal.
    pub fn apply_changes(&self, live: &EntryMetadata) -> std::result::Result<(), Error> {
        let wanted = &self.entry.metadata;
        self.with_context(|| {
            let mut owned = true;
            let owner_differs = (live.uid, live.gid) != (wanted.uid, wanted.gid);
            if owner_differs {
                owned = self.set_owner()?;
            }
            let xattrs_differ = self.change_xattrs(live, owner_differs)?;
            if owner_differs || xattrs_differ || live.mode != self.mode(owned) {
                self.set_mode(owned)?;
            }
            if live.modified != wanted.modified {
                set_modified(self.subject, wanted.modified)?;
            }
            Ok(())
        })
    }

    fn with_context(&self, apply: impl FnOnce() -> Result<()>) -> std::result::Result<(), Error> {
        apply().map_err(|errno| Error::io("cannot set the metadata", self.entry.path.as_bytes(), errno))
    }

    /// The mode that may be set: never set-user-id for an owner it was not meant for.
    fn mode(&self, owned: bool) -> u32 {
        let mode = self.entry.metadata.mode & 0o7777;
        if owned || self.entry.kind == EntryKind::Directory { mode } else { mode & !0o6000 }
    }

    /// Whether the thing is now owned as wanted.
    fn set_owner(&self) -> Result<bool> {
        let wanted = &self.entry.metadata;
        let (uid, gid) = (Uid::from_raw(wanted.uid), Gid::from_raw(wanted.gid));
        match self.chown(Some(uid), Some(gid)) {
            Ok(()) => return Ok(true),
            Err(Errno::PERM | Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
        let refused = match self.chown(None, Some(gid)) {
            Ok(()) => format!("the owner could not be set: uid=`{}`", wanted.uid),
            Err(_) => format!("the owner could not be set: uid=`{}`, gid=`{}`", wanted.uid, wanted.gid),
        };
        self.unset.report(&self.entry.path, refused);
        Ok(false)
    }

    fn chown(&self, uid: Option<Uid>, gid: Option<Gid>) -> Result<()> {
        match self.subject {
            Subject::Open(fd) => rustix::fs::fchown(fd, uid, gid),
            Subject::Name { dir, name } => rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    fn set_mode(&self, owned: bool) -> Result<()> {
        // Linux keeps no mode for symbolic links.
        if matches!(self.entry.kind, EntryKind::Symlink { .. }) {
            return Ok(());
        }
        let mode = Mode::from_raw_mode(self.mode(owned));
        let result = match self.subject {
            Subject::Open(fd) => rustix::fs::fchmod(fd, mode),
            Subject::Name { dir, name } => {
                // chmod has no form that follows no link: pin the inode first.
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::openat(dir, name, flags, Mode::empty())
                    .and_then(|pinned| rustix::fs::chmod(proc_path(&pinned, b""), mode))
            }
        };
        match result {
            Err(Errno::PERM) => {
                self.unset.report(&self.entry.path, format!("the mode could not be set: mode=`{mode:?}`"));
                Ok(())
            }
            result => result,
        }
    }

    /// Whether anything was changed.
    fn change_xattrs(&self, live: &EntryMetadata, owner_changed: bool) -> Result<bool> {
        let wanted = &self.entry.metadata.xattrs;
        let mut changed = false;
        for old in live.xattrs.iter().filter(|old| !wanted.iter().any(|new| new.name == old.name)) {
            if is_kept(&old.name) {
                continue;
            }
            changed = true;
            match xattr::remove(self.subject, &old.name) {
                Ok(()) | Err(Errno::NODATA) => {}
                Err(errno) if is_refusal(errno) => self.refused(&old.name, "could not be removed", errno),
                Err(errno) => return Err(errno),
            }
        }
        for new in wanted.iter().filter(|new| owner_changed || !live.xattrs.contains(new)) {
            changed = true;
            self.set_xattr(new)?;
        }
        Ok(changed)
    }

    fn set_xattr(&self, wanted: &Xattr) -> Result<()> {
        match xattr::set(self.subject, wanted) {
            Err(errno) if is_refusal(errno) => {
                self.refused(&wanted.name, "could not be set", errno);
                Ok(())
            }
            result => result,
        }
    }

    fn refused(&self, name: &[u8], what: &str, errno: Errno) {
        let (name, io) = (crate::error::shown(name), std::io::Error::from(errno));
        self.unset.report(&self.entry.path, format!("an extended attribute {what}: name=`{name}`, {io}"));
    }
}

/// Answers that say "not here, not by you": the attribute is named and the restore goes on.
///
/// ext4 answers `ENOSPC` when a value does not fit into its one attribute block, however empty the
/// disk is.
fn is_refusal(errno: Errno) -> bool {
    use Errno as E;
    matches!(errno, E::PERM | E::ACCESS | E::OPNOTSUPP | E::INVAL | E::NOSPC | E::RANGE | E::TOOBIG)
}

/// Labels that the system's security module gives by itself and that nobody removes.
fn is_kept(name: &[u8]) -> bool {
    name.starts_with(b"security.") && name != b"security.capability"
}

/// Sets the modification time; the access time stays what it is.
pub(crate) fn set_modified(subject: Subject<'_>, modified: FileTime) -> Result<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: modified.seconds,
            // Larger numbers mean "now" and "leave it" to the kernel.
            tv_nsec: modified.nanoseconds.min(999_999_999).into(),
        },
    };
    match subject {
        Subject::Open(fd) => rustix::fs::futimens(fd, &times),
        Subject::Name { dir, name } => rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW),
    }
}

/// Whether a live entry's metadata is not what is wanted of it.
pub(crate) fn differs(live: &Entry, wanted: &Entry) -> bool {
    let (is, want) = (&live.metadata, &wanted.metadata);
    let has_mode = !matches!(wanted.kind, EntryKind::Symlink { .. });
    let comparable = |metadata: &EntryMetadata, other: &EntryMetadata| -> Vec<Xattr> {
        let kept = |x: &&Xattr| !is_kept(&x.name) || other.xattrs.iter().any(|y| y.name == x.name);
        metadata.xattrs.iter().filter(kept).cloned().collect()
    };
    (has_mode && is.mode != want.mode)
        || (is.uid, is.gid, is.modified) != (want.uid, want.gid, want.modified)
        || (is.xattrs != want.xattrs && comparable(is, want) != want.xattrs)
}

/// Whether a live entry has another mode or owner, or other attributes, than is wanted of it: all but its time.
pub fn has_other_rights(live: &Entry, wanted: &Entry) -> bool {
    let mut live = live.clone();
    live.metadata.modified = wanted.metadata.modified;
    differs(&live, wanted)
}
