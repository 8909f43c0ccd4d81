//! What can go wrong with the catalog, and with listening.

use lifeboat_model::{Fault, Faulty};

/// A failure of the catalog stops no verb: whoever gets one warns and goes on without it. That nobody listens is told to the
/// operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is not what was written. It holds nothing of value.
    #[error("the catalog is damaged: file=`{file}`, reason=`{reason}`")]
    Damaged { file: String, reason: String },
    #[error("no space left for the catalog: file=`{file}`")]
    Full { file: String },
    /// Another process keeps it for itself.
    #[error("the catalog is in use: file=`{file}`")]
    Busy { file: String },
    /// Another process captures, and is to be the only one.
    #[error("another process of this host captures it: file=`{file}`")]
    Taken { file: String },
    /// Another daemon of this repository runs on this host.
    #[error("another daemon of this repository runs on this host: pid=`{pid}`, file=`{file}`")]
    DaemonRuns { pid: String, file: String },
    /// What is backed up to is not what was backed up to before.
    #[error("this is not the repository that this host has backed up to: its catalog is of another one: file=`{file}`")]
    OtherRepository { file: String },
    /// Other hosts could ask, and nobody would ask them who they are.
    #[error("an address that other hosts can reach needs a token: address=`{address}`")]
    OpenToAll { address: String },
    #[error("cannot listen: address=`{address}`, reason=`{reason}`")]
    NotListening { address: String, reason: String },
    #[error("cannot use the catalog: file=`{file}`, reason=`{reason}`")]
    Unusable { file: String, reason: String },
}

impl Error {
    pub(crate) fn of_sqlite(file: &std::path::Path, error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let (file, reason) = (file.display().to_string(), error.to_string());
        match error {
            rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
                ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt => Self::Damaged { file, reason },
                ErrorCode::DiskFull => Self::Full { file },
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Self::Busy { file },
                // A table or column that is not there: somebody else's database, or a torn one.
                ErrorCode::Unknown => Self::Damaged { file, reason },
                _ => Self::Unusable { file, reason },
            },
            // A value that cannot be what we wrote.
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..) => Self::Damaged { file, reason },
            _ => Self::Unusable { file, reason },
        }
    }

    pub(crate) fn of_io(file: &std::path::Path, error: &std::io::Error) -> Self {
        let file_text = file.display().to_string();
        match error.kind() {
            std::io::ErrorKind::StorageFull => Self::Full { file: file_text },
            _ => Self::Unusable { file: file_text, reason: error.to_string() },
        }
    }
}

impl Faulty for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Busy { .. } => Fault::Retry,
            Self::Taken { .. } | Self::DaemonRuns { .. } => Fault::Fenced,
            // Never `Damage`: that is said of the repository only.
            _ => Fault::Operator,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Damaged { .. } => "run `lifeboat catalog rebuild`; nothing is lost, the bucket has everything".into(),
            Self::Full { .. } => {
                "free some space there; until then, a bucket that loses its newest commits goes unseen".into()
            }
            Self::Busy { .. } => "run the same command again when the other one is done".into(),
            Self::Taken { .. } => {
                "one capture a source: let that one go on, or stop it and run the same command again".into()
            }
            Self::DaemonRuns { pid, .. } => {
                format!(
                    "one daemon is enough: let it go on, reload it with `kill -HUP {pid}`, or stop it with `kill {pid}`"
                )
            }
            Self::OtherRepository { file } => {
                let directory = std::path::Path::new(file).parent().unwrap_or(std::path::Path::new(file));
                format!(
                    "is the right disk mounted, and `repository.url` right? If another repository is meant, move the \
                     catalog away first: mv {0} {0}.old",
                    directory.display()
                )
            }
            Self::OpenToAll { .. } => "set `metrics.token`, or listen on 127.0.0.1 and put a proxy before it".into(),
            Self::NotListening { .. } => "free the address, or name another one with `metrics.listen`".into(),
            Self::Unusable { .. } => {
                "make its directory writable, or name another one with `repository.catalog`".into()
            }
        })
    }
}
