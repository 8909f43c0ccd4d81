//! What can go wrong with a bucket; a variant exists only where somebody acts differently on it.

use std::time::Duration;

use lifeboat_model::{Fault, Faulty};

#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("no such object: object=`{name}`")]
    NotFound { name: String },
    #[error("the object exists already: object=`{name}`")]
    AlreadyExists { name: String },
    #[error("the object is shorter than its reference says: object=`{name}`, wanted till=`{wanted}`, len=`{len}`")]
    Truncated { name: String, wanted: u64, len: u64 },
    /// Passing: time-outs, resets, 5xx, SlowDown. `after` is what the store asked us to wait.
    #[error("the store did not answer as it should: {detail}")]
    Unavailable { detail: String, after: Option<Duration> },
    /// The store answered, and will not do it: credentials, permissions, a missing bucket.
    #[error("the store refuses: {detail}")]
    Refused { detail: String, hint: String },
    #[error("no space left in the store: {detail}")]
    Full { detail: String },
    /// The store does not keep a promise that the repository stands on.
    #[error("the store cannot hold a repository: {detail}")]
    Unfit { detail: String, hint: String },
    #[error("bad store address: {detail}")]
    BadAddress { detail: String, hint: String },
    #[error("cancelled")]
    Cancelled,
}

impl Faulty for Error {
    fn fault(&self) -> Fault {
        match self {
            Error::NotFound { .. } | Error::Truncated { .. } => Fault::Damage,
            Error::AlreadyExists { .. } => Fault::Fenced,
            Error::Unavailable { .. } => Fault::Retry,
            Error::Refused { .. } | Error::Full { .. } | Error::Unfit { .. } => Fault::Operator,
            Error::BadAddress { .. } => Fault::Usage,
            Error::Cancelled => Fault::Cancelled,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::Refused { hint, .. } | Error::Unfit { hint, .. } | Error::BadAddress { hint, .. } => {
                Some(hint.clone())
            }
            Error::Full { .. } => {
                Some("free some space, then run the same command again; nothing half-written is ever read".into())
            }
            Error::Unavailable { .. } => {
                Some("check that the endpoint is up and reachable, then run the same command again".into())
            }
            _ => None,
        }
    }
}
