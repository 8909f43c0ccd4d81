//! What can go wrong with a repository.

use lifeboat_model::{EpochId, Fault, Faulty, Generation, ObjectId, SegmentNumber, SiteId, SourceName, StateError};

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(transparent)]
    Store(#[from] lifeboat_store::Error),
    #[error("object=`{object}`: {source}")]
    Object { object: String, source: lifeboat_format::Error },
    #[error(transparent)]
    Format(#[from] lifeboat_format::Error),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("there is no repository here: store=`{store}`")]
    NoRepository { store: String },
    #[error("there is a repository here already: store=`{store}`")]
    RepositoryExists { store: String },
    #[error("the place for the repository is not empty: store=`{store}`, found=`{found}`")]
    NotEmpty { store: String, found: String },
    #[error("the key does not open this repository: store=`{store}`, key id=`{key}`")]
    WrongKey { store: String, key: String },
    #[error("a stored object is damaged: object=`{object}`, {detail}")]
    Damaged { object: String, detail: String },
    #[error("the store has lost its newest commits: site=`{site}`, newest there=`{found}`, seen before=`{known}`")]
    RolledBack { site: SiteId, found: u64, known: Generation },
    #[error(
        "the store has lost what it had of a change log: source=`{log}`, newest there=`{found}`, seen before=`{known}`"
    )]
    LogRolledBack { log: SourceName, found: String, known: String },
    /// Number 0 is the epoch itself.
    #[error("another process writes this change log: source=`{log}`, epoch=`{epoch}`, number=`{number}`")]
    LogFenced { log: SourceName, epoch: EpochId, number: SegmentNumber },
    #[error("the store gave back other bytes than it was given: object=`{object}`")]
    NotReadBack { object: String },
    #[error("content that this backup builds on was condemned meanwhile: site=`{site}`, object=`{object}`")]
    CondemnedMeanwhile { site: SiteId, object: ObjectId },
    #[error("the site was erased: site=`{site}`, object=`{object}`")]
    Erased { site: SiteId, object: String },
    #[error("a key of the site could not be destroyed: site=`{site}`, object=`{object}`")]
    NotErased { site: SiteId, object: String },
    #[error("somebody else changed the site meanwhile: site=`{site}`")]
    ChangedMeanwhile { site: SiteId },
    #[error("no clock can be trusted: {detail}")]
    Clock { detail: String },
    /// Of a file without a name that holds what is on its way.
    #[error("cannot keep content on its way: {source}")]
    LocalFile { source: std::io::Error },
    /// What a source said cannot be kept on this host.
    #[error("there is no more room for changes on this host: file=`{file}`, {detail}")]
    SpillFull { file: String, detail: String },
    #[error("changes cannot be kept on this host: file=`{file}`, reason=`{source}`")]
    SpillFailed { file: String, source: std::io::Error },
    #[error("changes that were only on this host are damaged: file=`{file}`, {detail}")]
    SpillDamaged { file: String, detail: String },
    #[error("cancelled")]
    Cancelled,
    #[error("internal: {0}")]
    Bug(String),
}

impl Error {
    /// Names the object an error of the format crate is about.
    pub(crate) fn of_object(object: impl ToString) -> impl FnOnce(lifeboat_format::Error) -> Self {
        move |source| Self::Object { object: object.to_string(), source }
    }

    /// Whether it is about something that the format has no room for.
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::Object { source, .. } | Self::Format(source)
            if matches!(source, lifeboat_format::Error::TooLarge { .. }))
    }
}

impl Faulty for Error {
    fn fault(&self) -> Fault {
        match self {
            Error::Store(error) => error.fault(),
            Error::Object { source, .. } | Error::Format(source) => source.fault(),
            Error::State(StateError::RestoreOpen(_) | StateError::NotTheOpenRestore(_)) => Fault::Fenced,
            Error::State(StateError::Held(_) | StateError::NoSuchSnapshot(_) | StateError::NotForgotten(_)) => {
                Fault::Operator
            }
            Error::State(_) | Error::Bug(_) => Fault::Bug,
            Error::CondemnedMeanwhile { .. } | Error::ChangedMeanwhile { .. } => Fault::Retry,
            Error::NotErased { .. } => Fault::Operator,
            Error::Erased { .. } => Fault::Fenced,
            Error::Clock { .. } => Fault::Operator,
            Error::NoRepository { .. } | Error::RepositoryExists { .. } | Error::NotEmpty { .. } => Fault::Operator,
            Error::WrongKey { .. } | Error::LocalFile { .. } => Fault::Operator,
            // Never `Damage`: that is said of the repository only.
            Error::SpillFull { .. } | Error::SpillFailed { .. } | Error::SpillDamaged { .. } => Fault::Operator,
            Error::LogFenced { .. } => Fault::Fenced,
            Error::Damaged { .. }
            | Error::RolledBack { .. }
            | Error::LogRolledBack { .. }
            | Error::NotReadBack { .. } => Fault::Damage,
            Error::Cancelled => Fault::Cancelled,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::Store(error) => error.hint(),
            Error::Object { source, .. } | Error::Format(source) => source.hint(),
            Error::State(StateError::RestoreOpen(open)) => Some(format!(
                "wait for it, or, when its process is surely dead, run again with --take-over (restore {} on {})",
                open.restore, open.owner.host
            )),
            Error::State(StateError::Held(_)) => Some("somebody, or an alarm, wants its points kept; `lifeboat hold SITE --release` ends that".into()),
            Error::Erased { .. } => Some("what it had till then cannot be brought back by anybody; run it again for what came since".into()),
            Error::NotErased { .. } => Some(
                "the site is not erased before that object is gone: let this credential delete below keys/ and sites/, and run it again".into(),
            ),
            Error::ChangedMeanwhile { .. } => Some("nothing was changed; run it again".into()),
            Error::CondemnedMeanwhile { .. } => Some("run it again: the content is stored anew".into()),
            Error::Clock { .. } => Some(
                "nothing was changed; set the clocks, or, when no backup ran for long, run `lifeboat backup --all` first".into(),
            ),
            Error::NoRepository { .. } => Some("is the right disk mounted, and repository.url right? `lifeboat init` makes a repository where there never was one".into()),
            Error::RepositoryExists { .. } => Some("nothing was changed; point repository.url elsewhere, or use the repository as it is".into()),
            Error::NotEmpty { .. } => Some("choose an empty place or another prefix; nothing was changed".into()),
            Error::WrongKey { .. } => {
                Some("check repository.key; every key that opens it is listed by `lifeboat key verify`, and the recovery key opens it too".into())
            }
            Error::Damaged { .. } | Error::NotReadBack { .. } => {
                Some("run `lifeboat check --read-data` to list all damage; older points and other sites may be whole".into())
            }
            Error::LocalFile { .. } => {
                Some("make room where temporary files are, or set TMPDIR to a directory that has some".into())
            }
            Error::SpillFull { .. } => Some("make room there, or raise `capture.spill_limit`; until then the server keeps what is not taken".into()),
            Error::SpillFailed { .. } => Some("make its directory writable, or name another one with `repository.catalog`".into()),
            Error::SpillDamaged { .. } => Some("the next `lifeboat capture` begins a new epoch, after a gap".into()),
            Error::LogFenced { .. } => Some(
                "nothing of it was overwritten; stop all but one of the processes that capture this source, perhaps on another host".into(),
            ),
            Error::RolledBack { .. } | Error::LogRolledBack { .. } => Some(
                "the bucket was rolled back or lost objects: stop backups and prunes, and bring the missing objects back from the store's own versions or copies".into(),
            ),
            _ => None,
        }
    }
}
