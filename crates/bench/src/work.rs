//! The directory that a bench works in: new, its own, and gone afterwards.
//!
//! Invariant: what is removed has the bench's mark in it, and was made by this process.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, at};

/// Says whose a directory is.
pub const MARK: &str = ".lifeboat-bench";
const MARK_TEXT: &str = "Made by `lifeboat bench` for its data. No site of yours is here: it may be deleted.\n";

/// A bench's directory; removed when it is dropped, unless it is to be kept.
#[derive(Debug)]
pub struct Work {
    root: PathBuf,
    keeps: bool,
    /// The parent, where it was made as well: it goes too when nothing is left in it.
    made: Option<PathBuf>,
}

impl Work {
    /// Makes `parent/name`, which must not exist, where `needed` bytes are free.
    ///
    /// # Errors
    /// [`Error::NoSpace`], or when it cannot be made.
    pub fn make(parent: &Path, name: &str, (needed, keeps): (u64, bool)) -> Result<Self, Error> {
        let had_parent = parent.is_dir();
        fs::create_dir_all(parent).map_err(at(parent))?;
        let parent = fs::canonicalize(parent).map_err(at(parent))?;
        let root = parent.join(name);
        let made = enough_space(&parent, needed).and_then(|()| fs::create_dir(&root).map_err(at(&root)));
        if let Err(error) = made {
            if !had_parent {
                let _ = fs::remove_dir(&parent); // it is empty
            }
            return Err(error);
        }
        let work = Self { root, keeps, made: (!had_parent).then_some(parent) };
        fs::write(work.path(MARK), MARK_TEXT).map_err(at(&work.root))?;
        Ok(work)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Refuses to go on where `needed` bytes are not free.
    pub(crate) fn expect_space(&self, needed: u64) -> Result<(), Error> {
        enough_space(&self.root, needed)
    }

    /// A directory in it, made where it is missing.
    pub(crate) fn dir(&self, name: &str) -> Result<PathBuf, Error> {
        let dir = self.path(name);
        fs::create_dir_all(&dir).map_err(at(&dir))?;
        Ok(dir)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if !self.keeps && self.path(MARK).is_file() {
            // What cannot be removed stays with its mark, which says what it is.
            let _ = fs::remove_dir_all(&self.root);
            if let Some(parent) = &self.made {
                let _ = fs::remove_dir(parent); // only an empty one goes
            }
        }
    }
}

fn enough_space(place: &Path, needed: u64) -> Result<(), Error> {
    let stat = rustix::fs::statvfs(place).map_err(|errno| at(place)(errno.into()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    match free < needed {
        true => Err(Error::NoSpace { needed, free, place: place.to_owned() }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_bench_made_is_gone_afterwards_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("theirs"), b"").unwrap();
        let work = Work::make(dir.path(), "run", (1, false)).unwrap();
        fs::write(work.path("data"), b"").unwrap();
        drop(work);
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["theirs"]);
        drop(Work::make(dir.path(), "kept", (1, true)).unwrap());
        assert!(dir.path().join("kept").join(MARK).is_file());
    }

    #[test]
    fn what_was_there_is_not_worked_in() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("run")).unwrap();
        let refused = Work::make(dir.path(), "run", (1, false));
        assert!(matches!(refused, Err(Error::Disk { .. })), "{refused:?}");
        assert!(dir.path().join("run").is_dir());
    }

    #[test]
    fn too_little_space_is_refused_before_anything_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let refused = Work::make(&dir.path().join("new/place"), "run", (u64::MAX, false));
        assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
        assert!(!dir.path().join("new/place").exists());
    }
}
