//! What can go wrong with an operator's system.

use lifeboat_model::{Fault, Faulty};

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The source as a whole is not there or not itself: nothing may be concluded from it.
    #[error("the source has failed: source=`{source_name}`, {detail}")]
    SourceFailed { source_name: String, detail: String, hint: String },
    #[error("the site id cannot stand in a path: site=`{site}`, template=`{template}`")]
    UnsafeSiteId { site: String, template: String },
    #[error("{action}: path=`{path}`: {io}")]
    Io { action: &'static str, path: String, io: std::io::Error },
    /// What is stored there is damaged at the source itself.
    #[error("the source is damaged: path=`{path}`, {detail}")]
    Damaged { path: String, detail: String, hint: String },
    /// Somebody else uses it in a way that rules the operation out for now.
    #[error("in use: path=`{path}`, {detail}")]
    Busy { path: String, detail: String, hint: String },
    #[error("{detail}: path=`{path}`")]
    Conflict { path: String, detail: String, hint: String },
    #[error("bad source configuration: source=`{source_name}`, {detail}")]
    BadConfig { source_name: String, detail: String, hint: String },
    /// Rows were asked for that cannot be.
    #[error("{detail}")]
    BadKey { detail: String, hint: String },
    /// A database server refused or failed; `fault` says who must act.
    #[error("{action}: source=`{source_name}`, {detail}")]
    Database { source_name: String, action: String, detail: String, hint: String, fault: Fault },
    /// A transaction's COMMIT was sent, and nobody can say what became of it.
    #[error("it cannot be found out whether the transaction committed: source=`{source_name}`, {detail}")]
    Unsure { source_name: String, detail: String },
    /// It was listed and is no longer there: nothing to read, and nothing wrong.
    #[error("no longer there: path=`{path}`")]
    Gone { path: String },
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// Whether a server does not answer at all: it is down, or nobody is there.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Error::Database { hint, .. } if hint == crate::postgres::UNREACHABLE)
    }

    /// What the operating system answered to `action` on `path` (raw bytes, shown escaped).
    pub(crate) fn io(action: &'static str, path: impl AsRef<[u8]>, io: impl Into<std::io::Error>) -> Self {
        Error::Io { action, path: shown(path.as_ref()), io: io.into() }
    }
}

/// Bytes of a path as text: UTF-8 as it is, anything else and control characters as `\xNN`.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || character == '\\' {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

impl Faulty for Error {
    fn fault(&self) -> Fault {
        match self {
            Error::SourceFailed { .. } | Error::Busy { .. } | Error::Conflict { .. } | Error::Damaged { .. } => {
                Fault::Operator
            }
            Error::Io { .. } => Fault::Operator,
            Error::UnsafeSiteId { .. } | Error::BadConfig { .. } | Error::BadKey { .. } => Fault::Usage,
            Error::Database { fault, .. } => *fault,
            Error::Gone { .. } | Error::Unsure { .. } => Fault::Retry,
            Error::Cancelled => Fault::Cancelled,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::SourceFailed { hint, .. }
            | Error::Damaged { hint, .. }
            | Error::Busy { hint, .. }
            | Error::Conflict { hint, .. }
            | Error::BadKey { hint, .. }
            | Error::BadConfig { hint, .. } => Some(hint.clone()),
            Error::Database { hint, .. } if !hint.is_empty() => Some(hint.clone()),
            Error::Unsure { .. } => Some("when the server is back, run the same command again".into()),
            Error::UnsafeSiteId { .. } => {
                Some("in a `path` the site's id is the name itself, and this version maps it to no other: give the site an id that is one plain name, as `ls` shows it (no `/`, neither `.` nor `..`, at most 255 bytes)".into())
            }
            Error::Io { io, .. }
                if matches!(io.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) =>
            {
                Some("free some space there, then run the same command again".into())
            }
            Error::Io { io, .. } if io.kind() == std::io::ErrorKind::PermissionDenied => {
                Some("run as a user who may read and write there; docs/operations lists what is needed".into())
            }
            _ => None,
        }
    }
}
