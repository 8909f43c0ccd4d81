//! What a failed operation on a directory means for whoever runs Lifeboat.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::Error;

/// Turns errors of the file system into ours; knows the root, for messages.
#[derive(Debug, Clone)]
pub struct Faults {
    root: PathBuf,
}

impl Faults {
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub fn root(&self) -> String {
        format!("file://{}", self.root.display())
    }

    /// Opening or making the root itself failed.
    pub fn of_root(&self, io: &io::Error) -> Error {
        let (detail, hint) = match io.kind() {
            io::ErrorKind::NotFound => (
                "the directory does not exist",
                "if it is on another disk, mount that disk; `lifeboat init` makes a repository where there never was one",
            ),
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                ("a file stands where the directory should be", "name a directory in the repository's `url`")
            }
            _ => return self.of("open", "", io),
        };
        Error::Refused { detail: format!("{detail}: path=`{}`", self.root.display()), hint: hint.to_owned() }
    }

    /// `path` is relative to the root; empty: the root itself.
    pub fn of(&self, action: &str, path: &str, io: &io::Error) -> Error {
        let place = if path.is_empty() { self.root.clone() } else { self.root.join(path) };
        let detail = format!("{io}: action=`{action}`, path=`{}`", place.display());
        let refused = |hint: &str| Error::Refused { detail: detail.clone(), hint: hint.to_owned() };
        match io.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => return Error::Full { detail },
            io::ErrorKind::PermissionDenied => {
                return refused("run as the user who owns the repository's directory, or give this user access to it");
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                return refused(
                    "the file system is read-only: mount it for writing (a failing disk may have been remounted read-only; see `dmesg`)",
                );
            }
            io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
                return self.not_a_file(path);
            }
            io::ErrorKind::Interrupted | io::ErrorKind::ResourceBusy | io::ErrorKind::TimedOut => {
                return Error::Unavailable { detail, after: None };
            }
            _ => {}
        }
        match io.raw_os_error().map(Errno::from_raw_os_error) {
            // Passing: too many open files, a stale network handle.
            Some(Errno::AGAIN | Errno::MFILE | Errno::NFILE | Errno::STALE | Errno::NOMEM) => {
                Error::Unavailable { detail, after: None }
            }
            Some(Errno::LOOP) => self.not_a_file(path),
            // Never tried again here: after a failed sync the kernel may report the next one as done.
            _ => refused("the file system failed: look at `dmesg`, mend the disk, then run the same command again"),
        }
    }

    /// The link that gives an object its name failed, other than because the name exists.
    pub fn of_link(&self, path: &str, io: &io::Error) -> Error {
        match io.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Error::Unfit {
                detail: format!(
                    "the file system can neither link a file nor rename without replacing: root=`{}`",
                    self.root.display()
                ),
                hint: "use a local file system such as ext4, xfs, btrfs or zfs, or S3".to_owned(),
            },
            _ => self.of("link", path, io),
        }
    }

    /// Something else stands where an object or one of its directories should be.
    pub fn not_a_file(&self, path: &str) -> Error {
        Error::Refused {
            detail: format!(
                "files, directories and symbolic links are mixed up in the repository: path=`{}`",
                self.root.join(path).display()
            ),
            hint: "something else wrote into the repository's directory: move it away; Lifeboat follows no symbolic links there".to_owned(),
        }
    }

    pub fn no_random(&self, error: &dyn Display) -> Error {
        Error::Refused {
            detail: format!("the system gives no random numbers: {error}"),
            hint: "see why getrandom(2) fails on this host".to_owned(),
        }
    }
}
