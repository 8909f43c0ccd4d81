//! Where one part lies: a base the operator vouches for, and a path beneath it that is not trusted.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use lifeboat_model::EntryPath;

use crate::Error;
use crate::error::shown;

/// The place of one part.
///
/// Symbolic links are followed in `base` alone, because the operator wrote it down; from there on
/// they are refused, so that a link planted in place of one site cannot lead into another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    base: PathBuf,
    relative: EntryPath,
}

impl Place {
    pub(crate) fn new(base: PathBuf, relative: EntryPath) -> Self {
        Self { base, relative }
    }

    /// A place given by the operator as one absolute path (`--beside`, `--export`); what is missing
    /// of it may be made.
    pub fn at(path: &Path) -> Result<Self, Error> {
        let bytes = path.as_os_str().as_bytes();
        let bad = |detail: &str| Error::Conflict {
            detail: detail.to_owned(),
            path: shown(bytes),
            hint: "give an absolute path of a directory below `/`, without `..`".into(),
        };
        if !path.is_absolute() {
            return Err(bad("not an absolute path"));
        }
        let mut base = path.parent().ok_or_else(|| bad("not a place for a part"))?;
        while !base.exists() {
            base = base.parent().unwrap_or(Path::new("/"));
        }
        let relative = path.strip_prefix(base).map_err(|_| bad("not a place for a part"))?;
        let relative = EntryPath::new(relative.as_os_str().as_bytes()).map_err(|_| bad("not a place for a part"))?;
        if relative.is_root() {
            return Err(bad("not a place for a part"));
        }
        Ok(Self { base: base.to_owned(), relative })
    }

    /// The directory that is taken as it is, links included.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The way from the base to the part; never empty.
    pub fn relative(&self) -> &EntryPath {
        &self.relative
    }

    pub fn path(&self) -> PathBuf {
        self.base.join(OsStr::from_bytes(self.relative.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_begins_at_the_deepest_directory_that_exists() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::at(&dir.path().join("a/b/c")).unwrap();
        assert_eq!((place.base(), place.relative().to_string().as_str()), (dir.path(), "a/b/c"));
        assert_eq!(Place::at(dir.path()).unwrap().base(), dir.path().parent().unwrap());
        for bad in ["a/b", "/", "", "/none/../etc"] {
            assert!(Place::at(Path::new(bad)).is_err(), "{bad}");
        }
    }
}
