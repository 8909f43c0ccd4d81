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

    /// A place given by the operator as one absolute path (`--beside`, `--export`).
    pub fn at(path: &Path) -> Result<Self, Error> {
        let bad = |detail: &str| Error::Conflict {
            detail: detail.to_owned(),
            path: shown(path.as_os_str().as_bytes()),
            hint: "give an absolute path of a directory below `/`".into(),
        };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(bad("not a place for a part"));
        };
        if !path.is_absolute() {
            return Err(bad("not an absolute path"));
        }
        let relative = EntryPath::new(name.as_bytes()).map_err(|_| bad("not a place for a part"))?;
        Ok(Self { base: parent.to_owned(), relative })
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
