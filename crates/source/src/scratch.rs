//! Scratch places: where sites are rebuilt for a drill, and taken away again.
//!
//!   claim the directory ▸ sweep what a killed drill left ▸ (a site is rebuilt ▸ taken away) …
//!
//! Everything a drill makes has a name of its own kind, below a directory that one process has to itself, or in a database
//! that was made for drills.
//!
//! Invariant (scratch-alone): what is taken away has a name that drills give, and in a database the mark of a copy too.
//!
//! What is not here: what a drill rebuilds and measures (`engine`).

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode};
use rustix::io::Errno;

use crate::Error;
use crate::beneath::{DIRECTORY, Names};
use crate::error::shown;
use crate::files::remove_tree;

/// What every name that a drill gives begins with: of a directory, a schema, a database.
pub const SCRATCH_PREFIX: &str = "lifeboat_drill_";
const OTHERS: u32 = 0o077;

/// A directory for drills, held by this process.
#[derive(Debug)]
pub struct ScratchDirectory {
    path: PathBuf,
    directory: OwnedFd,
}

impl ScratchDirectory {
    /// Makes the directory where it is absent, closed to others, and keeps every other drill out of it.
    ///
    /// # Errors
    /// When others may look into it, and when another drill is at work there.
    pub fn claim(path: &Path) -> Result<Self, Error> {
        let bytes = path.as_os_str().as_bytes();
        let failed = |errno: Errno| Error::io("cannot use the directory for drills", bytes, errno);
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|io| Error::io("cannot make the directory for drills", bytes, io))?;
        let directory = rustix::fs::open(path, DIRECTORY, Mode::empty()).map_err(failed)?;
        // Of the directory that was opened, not of what the name leads to by now.
        let found = rustix::fs::fstat(&directory).map_err(failed)?;
        if found.st_mode & OTHERS != 0 || found.st_uid != rustix::process::geteuid().as_raw() {
            return Err(Error::Conflict {
                path: shown(bytes),
                detail: "others may look into the directory for drills, where customers' data will lie".into(),
                hint: format!(
                    "name a new directory in [drill], or give this one to yourself: chmod 700 {}",
                    path.display()
                ),
            });
        }
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), directory }),
            Err(Errno::AGAIN) => Err(Error::Busy {
                path: shown(bytes),
                detail: "another drill is at work here".into(),
                hint: "wait for it, or name another `directory` in [drill]".into(),
            }),
            Err(errno) => Err(failed(errno)),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that may be written now.
    pub fn room(&self) -> Result<u64, Error> {
        let found = rustix::fs::fstatvfs(&self.directory).map_err(|errno| self.failed("cannot ask for room", errno))?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// Takes away what a drill has made under this name; none is as good.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        if !name.starts_with(SCRATCH_PREFIX) || name.contains('/') {
            return Err(self.failed("no drill gives such a name", Errno::INVAL));
        }
        let stays = |detail: String, hint: &str| Error::Conflict {
            path: shown(self.path.join(name).as_os_str().as_bytes()),
            detail,
            hint: hint.into(),
        };
        match remove_tree(&self.directory, name.as_bytes()) {
            Ok(kept) => match kept.first() {
                None => Ok(()),
                Some(problem) => Err(stays(
                    format!("what a drill made does not go: entry=`{}`, {}", problem.entry, problem.reason),
                    "remove it by hand: customers' data is in it",
                )),
            },
            Err(Errno::NOTDIR | Errno::LOOP) => Err(stays(
                "it has a name that drills give, and is no directory".into(),
                "no drill has made it: look at it, and move it away",
            )),
            Err(errno) => Err(self.failed("cannot take away what a drill made", errno)),
        }
    }

    /// Takes away what drills have left that did not come to their end.
    pub fn sweep(&self) -> Result<(), Error> {
        // A listing begins where the one before ended: each needs a descriptor of its own.
        let listing = rustix::fs::openat(&self.directory, c".", DIRECTORY, Mode::empty()).and_then(Names::read);
        let names = listing.map_err(|errno| self.failed("cannot list what drills left", errno))?;
        let ours = names.iter().filter_map(|(name, _)| std::str::from_utf8(name).ok());
        ours.filter(|name| name.starts_with(SCRATCH_PREFIX)).try_for_each(|name| self.remove(name))
    }

    fn failed(&self, action: &'static str, errno: Errno) -> Error {
        Error::io(action, self.path.as_os_str().as_bytes(), errno)
    }
}
