//! Directories of a live part that keep even their owner from writing into them (mode 0555, say).
//!
//! Root passes those. For anybody else a merge opens those that are its own, and the last step gives them the mode
//! they are to have; what cannot be opened is found before anything is switched.

use std::collections::BTreeSet;

use lifeboat_model::EntryPath;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Access, AtFlags, CWD, Mode, Statx};
use rustix::io::Errno;

use super::target::{FilesTarget, PASSAGE};
use crate::Error;
use crate::beneath::{self, Mounts, proc_path, stat_fd};
use crate::error::shown;

/// What keeps a merge out of a directory.
enum Closed {
    /// Its mode, which is ours to change.
    ToUs,
    Other(Errno),
}

impl FilesTarget {
    /// Whether the merge will be able to write into these directories; to be asked before the switch.
    ///
    /// # Errors
    /// A conflict that names the first directory that is closed and not our own, or is on a medium that takes no writes.
    pub fn check_writable(&self, directories: &BTreeSet<EntryPath>) -> Result<(), Error> {
        self.each_closed(directories, |_, path, closed| match closed {
            Closed::ToUs => Ok(()),
            Closed::Other(errno) => Err(Error::Conflict {
                detail: format!(
                    "this directory of the part cannot be written to (entry=`{path}`): {}",
                    std::io::Error::from(errno)
                ),
                path: shown(self.place.path().as_os_str().as_encoded_bytes()),
                hint: "nothing was changed; run as root or as the directory's owner, then run the same command again"
                    .into(),
            }),
        })
    }

    /// Opens those of these directories that are our own and closed to us, until [`Self::finish_directories`].
    pub fn make_writable(&self, directories: &BTreeSet<EntryPath>) -> Result<(), Error> {
        self.each_closed(directories, |dir, path, _| {
            stat_fd(dir)
                .and_then(|stat| {
                    let mode = Mode::from_raw_mode(stat.stx_mode.into()) | Mode::RWXU;
                    rustix::fs::chmod(proc_path(dir, b""), mode)
                })
                .map_err(|errno| Error::io("cannot open the directory for writing", path.as_bytes(), errno))
        })
    }

    /// Does something in a directory of ours that may be closed even to us: then it is open meanwhile.
    pub(super) fn while_open<T>(&self, dir: &OwnedFd, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let failed = |errno| self.failed("cannot open the part's directory for writing", errno);
        let stat = stat_fd(dir).map_err(failed)?;
        if !matches!(closed(dir, &stat), Some(Closed::ToUs)) {
            return work();
        }
        let (path, mode) = (proc_path(dir, b""), Mode::from_raw_mode(stat.stx_mode.into()));
        rustix::fs::chmod(&path, mode | Mode::RWXU).map_err(failed)?;
        let result = work();
        rustix::fs::chmod(&path, mode).map_err(failed)?;
        result
    }

    fn each_closed(
        &self,
        directories: &BTreeSet<EntryPath>,
        act: impl Fn(&OwnedFd, &EntryPath, Closed) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let work = self.working()?;
        if work.fresh {
            return Ok(());
        }
        for path in directories {
            let failed = |errno| Error::io("cannot look at the directory", path.as_bytes(), errno);
            let dir = match beneath::open(&**work.finder.root(), path.as_bytes(), PASSAGE, Mounts::Stay) {
                // Gone or replaced meanwhile: what is to be done in it says so.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => continue,
                opened => opened.map_err(failed)?,
            };
            if let Some(closed) = closed(&dir, &stat_fd(&dir).map_err(failed)?) {
                act(&dir, path, closed)?;
            }
        }
        Ok(())
    }
}

/// What keeps this process from writing into a directory; `None`: nothing.
fn closed(dir: &OwnedFd, stat: &Statx) -> Option<Closed> {
    let wanted = Access::WRITE_OK | Access::EXEC_OK;
    let errno = rustix::fs::accessat(CWD, proc_path(dir.as_fd(), b""), wanted, AtFlags::EACCESS).err()?;
    let ours = stat.stx_uid == rustix::process::geteuid().as_raw();
    Some(if ours && errno == Errno::ACCESS { Closed::ToUs } else { Closed::Other(errno) })
}
