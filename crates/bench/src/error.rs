//! Why a measured run did not come to its end.

use std::io;
use std::path::{Path, PathBuf};

use lifeboat_model::{Fault, Faulty};

/// A variant exists where somebody does something else about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was asked for cannot be measured.
    #[error("{detail}")]
    Asked { detail: String, hint: String },
    #[error("cannot use what the bench works on: path=`{}`, reason=`{reason}`", path.display())]
    Disk { path: PathBuf, reason: io::Error },
    #[error("a database of the fleet cannot be used: path=`{}`, reason=`{detail}`", path.display())]
    Database { path: PathBuf, detail: String },
    #[error("not enough free space: needed=`{} MB`, free=`{} MB`, place=`{}`", needed / 1_000_000, free / 1_000_000, place.display())]
    NoSpace { needed: u64, free: u64, place: PathBuf },
    /// The program said itself what is wrong.
    #[error("`lifeboat {command}` failed: {message}")]
    Program { command: String, message: String, hint: Option<String>, fault: Fault },
    #[error("it was restored otherwise than it was: site=`{site}`, path=`{}`", path.display())]
    Differs { site: String, path: PathBuf },
    #[error(transparent)]
    Store(#[from] lifeboat_store::Error),
    #[error("stopped as asked")]
    Cancelled,
    #[error("a thread of the bench panicked")]
    Panicked,
}

impl Faulty for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Asked { .. } => Fault::Usage,
            Self::Disk { .. } | Self::Database { .. } | Self::NoSpace { .. } => Fault::Operator,
            Self::Program { fault, .. } => *fault,
            Self::Differs { .. } => Fault::Damage,
            Self::Store(error) => error.fault(),
            Self::Cancelled => Fault::Cancelled,
            Self::Panicked => Fault::Bug,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Asked { hint, .. } => Some(hint.clone()),
            Self::Disk { .. } | Self::Database { .. } => Some("name a directory that can be written with --dir".into()),
            Self::NoSpace { .. } => {
                Some("name a place that has it with --dir, or measure less: --bytes, --rounds, --no-floor".into())
            }
            Self::Program { hint, .. } => hint.clone(),
            Self::Differs { .. } => Some("run it again with --keep, and look at both trees".into()),
            Self::Store(error) => error.hint(),
            Self::Cancelled | Self::Panicked => None,
        }
    }
}

/// Puts a path to what the disk says.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |reason| Error::Disk { path, reason }
}
