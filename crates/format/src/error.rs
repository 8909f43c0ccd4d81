//! What can be wrong with bytes, keys and requests, and who must act.

use lifeboat_model::{Fault, Faulty, KeyNumber};

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Stored bytes are not what was written. The caller adds the object's name and the entry.
    #[error("{what} is damaged: {detail}")]
    Damaged { what: &'static str, detail: String },
    /// Written by a later version of Lifeboat, or one from before version 1, in a layout this one does not know.
    #[error("{what} is of another format version: found=`{found}`, supported=`{supported}`")]
    NewerVersion { what: &'static str, found: u32, supported: u32 },
    /// The repository uses something this version cannot read, or must not write beside.
    #[error("the repository needs a feature this version does not have: feature=`{feature}`, for=`{}`", if *.writing { "writing" } else { "reading" })]
    UnknownFeature { feature: String, writing: bool },
    /// A master or recovery key that does not belong to what it should open.
    #[error("the key does not open this: {detail}")]
    WrongKey { detail: String },
    /// The object was sealed under another of its site's keys than the one given.
    #[error("the object is sealed under another key of its site: needed=`{needed}`, given=`{given}`")]
    OtherKeyNumber { needed: KeyNumber, given: KeyNumber },
    /// Text that is not a master or recovery key; never quotes the text.
    #[error("not a {form}: {detail}")]
    NotAKey { form: &'static str, detail: &'static str },
    /// More than the format can hold in one frame.
    #[error("{what} is too large for the format: len=`{len}`, max=`{max}`")]
    TooLarge { what: &'static str, len: u64, max: u64 },
    /// The caller asked to write something no reader would accept.
    #[error("refused to write what could not be read again: {detail}")]
    Misuse { detail: String },
    /// The cryptographic library failed at something that cannot fail on good input.
    #[error("the cryptographic library failed: operation=`{operation}`")]
    Crypto { operation: &'static str },
}

impl Error {
    pub(crate) fn damaged(what: &'static str, detail: impl Into<String>) -> Self {
        Self::Damaged { what, detail: detail.into() }
    }

    pub(crate) fn misuse(detail: impl Into<String>) -> Self {
        Self::Misuse { detail: detail.into() }
    }
}

impl Faulty for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Damaged { .. } | Self::OtherKeyNumber { .. } => Fault::Damage,
            Self::NewerVersion { .. } | Self::UnknownFeature { .. } | Self::WrongKey { .. } | Self::TooLarge { .. } => {
                Fault::Operator
            }
            Self::NotAKey { .. } => Fault::Usage,
            Self::Misuse { .. } | Self::Crypto { .. } => Fault::Bug,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NewerVersion { found, supported, .. } if found < supported => Some(format!(
                "format {found} is from before the first release: restore with the lifeboat that wrote it, and begin a new repository"
            )),
            Self::NewerVersion { found, .. } => Some(format!(
                "upgrade lifeboat to a version that reads format {found}; `lifeboat --version` shows this one"
            )),
            Self::UnknownFeature { feature, .. } => {
                Some(format!("upgrade lifeboat to a version that knows `{feature}`"))
            }
            Self::WrongKey { .. } => {
                Some("give the master or recovery key that `lifeboat init` made for this repository".to_owned())
            }
            Self::NotAKey { form, .. } => Some(format!("copy the whole {form} as `lifeboat init` printed it")),
            Self::Damaged { .. } | Self::OtherKeyNumber { .. } => {
                Some("`lifeboat check` names everything that is damaged".to_owned())
            }
            _ => None,
        }
    }
}
