//! What can go wrong with a verb.

use lifeboat_model::{Fault, Faulty, SiteId};

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(transparent)]
    Repo(#[from] lifeboat_repo::Error),
    #[error(transparent)]
    Source(#[from] lifeboat_source::Error),
    #[error("no such site: site=`{site}`")]
    NoSuchSite { site: SiteId, hint: String },
    #[error("{detail}")]
    NoSuchThing { detail: String, hint: String },
    #[error("no restorable point at or before the asked time: site=`{site}`, asked=`{asked}`")]
    NoPoint { site: SiteId, asked: String, hint: String },
    /// A person must look and decide; nothing was changed.
    #[error("{detail}")]
    Conflict { detail: String, hint: String },
    /// The newest run that this host knows of cannot be read any more.
    #[error("the store has lost a run that was recorded there: run=`{run}`: {source}")]
    LostRun { run: lifeboat_model::RunNumber, source: lifeboat_repo::Error },
    #[error("the world has changed since the plan was approved: approved=`{approved}`, now=`{now}`")]
    PlanChanged { approved: String, now: String },
    /// The switch began and did not end: some parts are restored, others are as they were.
    #[error("the restore stopped in the middle of its switch: site=`{site}`: {source}")]
    HalfSwitched { site: SiteId, source: Box<Error> },
    /// All of it is done; only its end is not in the repository.
    #[error("the site is restored, and its end could not be recorded: site=`{site}`, restore=`{restore}`: {source}")]
    NotRecorded { site: SiteId, restore: lifeboat_model::RestoreId, source: Box<Error> },
    #[error("another restore of this site took over: site=`{site}`")]
    TakenOver { site: SiteId },
    /// Of two that capture a source one stops.
    #[error("somebody else captures this source: source=`{source_name}`, {detail}")]
    CapturedElsewhere { source_name: lifeboat_model::SourceName, detail: String },
    /// What was followed ends here: the next capture begins a new epoch.
    #[error("the source's changes cannot be followed over this: source=`{source_name}`, {detail}")]
    EpochBroken {
        source_name: lifeboat_model::SourceName,
        detail: String,
        /// It may have been so since then; `None`: all before the end is whole.
        sound_till: Option<lifeboat_model::Timestamp>,
    },
    /// The server does not send it again: the next capture begins a new epoch.
    #[error("what was only on this host cannot be read: source=`{source_name}`, {detail}")]
    SpillLost { source_name: lifeboat_model::SourceName, detail: String },
    #[error("stored data of the site is damaged: site=`{site}`, {detail}")]
    Damaged { site: SiteId, detail: String },
    #[error("the restored data is not what the snapshot holds: site=`{site}`, {detail}")]
    NotVerified { site: SiteId, detail: String },
    /// What is asked of a recovery cannot follow what happened to it.
    #[error("{detail}")]
    NotNow { detail: String },
    /// What is asked of a case whose process was killed.
    #[error("the process that was at this site is gone: site=`{site}`, host=`{host}`, pid=`{pid}`")]
    LeftBehind { recovery: lifeboat_model::RecoveryId, site: SiteId, host: String, pid: u32 },
    /// Another restore of a case's site is open. What is done about it is not what is done about one restore alone.
    #[error("{source}")]
    CaseHeld { site: SiteId, source: Box<Error> },
    #[error("another process runs this recovery: host=`{host}`, pid=`{pid}`, last heard of=`{last}`")]
    RunsElsewhere { host: String, pid: u32, last: String },
    #[error("another process has taken this recovery over: host=`{host}`, pid=`{pid}`")]
    RunTakenOver { host: String, pid: u32 },
    #[error("the journal of the recovery is damaged: recovery=`{recovery}`, {detail}")]
    BadJournal { recovery: lifeboat_model::RecoveryId, detail: String },
    #[error("a hook failed: hook=`{hook}`, {detail}")]
    Hook { hook: &'static str, detail: String },
    #[error("cancelled")]
    Cancelled,
    #[error("internal: {0}")]
    Bug(String),
}

impl Error {
    /// Whether a source's server does not answer at all: whoever can wait may.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Error::Source(error) if error.is_unreachable())
    }
}

impl Faulty for Error {
    fn fault(&self) -> Fault {
        match self {
            Error::Repo(error) => error.fault(),
            Error::Source(error) => error.fault(),
            Error::NoSuchSite { .. } | Error::NoSuchThing { .. } => Fault::Usage,
            Error::NoPoint { .. } | Error::Conflict { .. } | Error::PlanChanged { .. } | Error::Hook { .. } => {
                Fault::Operator
            }
            Error::NotNow { .. } | Error::LeftBehind { .. } => Fault::Usage,
            Error::HalfSwitched { source, .. } | Error::NotRecorded { source, .. } | Error::CaseHeld { source, .. } => {
                source.fault()
            }
            Error::TakenOver { .. }
            | Error::CapturedElsewhere { .. }
            | Error::RunsElsewhere { .. }
            | Error::RunTakenOver { .. } => Fault::Fenced,
            Error::EpochBroken { .. } | Error::SpillLost { .. } => Fault::Retry,
            Error::LostRun { .. } | Error::Damaged { .. } | Error::NotVerified { .. } | Error::BadJournal { .. } => {
                Fault::Damage
            }
            Error::Cancelled => Fault::Cancelled,
            Error::Bug(_) => Fault::Bug,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::Repo(error) => error.hint(),
            Error::Source(error) => error.hint(),
            Error::NoSuchSite { hint, .. }
            | Error::NoSuchThing { hint, .. }
            | Error::NoPoint { hint, .. }
            | Error::Conflict { hint, .. } => Some(hint.clone()),
            // The way out of the cause comes first.
            Error::HalfSwitched { source, .. } => Some(format!(
                "{}the same command, run again, goes on from here, and its undo is kept; until then no backup of this site is good, and a frozen site stays frozen",
                source.hint().map(|hint| format!("{hint}; ")).unwrap_or_default()
            )),
            Error::NotRecorded { restore, source, .. } => Some(format!(
                "{}the same command, run again, records it; `lifeboat undo {restore}` takes it back",
                source.hint().map(|hint| format!("{hint}; ")).unwrap_or_default()
            )),
            Error::LostRun { .. } => Some(
                "the bucket was rolled back or damaged: run `lifeboat check`, and look at the store's own versions"
                    .into(),
            ),
            Error::PlanChanged { .. } => Some("look at the new plan with --dry-run, and approve that one".into()),
            Error::Damaged { site, .. } => Some(format!(
                "nothing was changed; an older point may be whole (`lifeboat points {site}`), or restore what is whole with --skip-damaged"
            )),
            Error::NotVerified { .. } => Some("nothing was opened; run the same command again".into()),
            Error::CapturedElsewhere { .. } => {
                Some("one capture a source: let that one go on, or stop it and run the same command again".into())
            }
            Error::EpochBroken { .. } | Error::SpillLost { .. } => {
                Some("run the same command again: it begins a new epoch".into())
            }
            Error::TakenOver { .. } => Some(
                "nothing more was changed by this one; see `lifeboat points` for the restore that is open now".into(),
            ),
            Error::Hook { hook: "before", .. } => Some(
                "nothing was written; see what the command printed: it is set in [recovery] of the configuration; then \
                 `lifeboat recover retry`"
                    .into(),
            ),
            Error::Hook { .. } => {
                Some("see what the command printed; hooks are set in [hooks] of the configuration".into())
            }
            Error::RunsElsewhere { .. } => Some(
                "wait for it, or stop it; if it is surely dead or cut off, run the same command with --take-over"
                    .into(),
            ),
            Error::RunTakenOver { .. } => Some("nothing more is begun here; see `lifeboat recover status`".into()),
            Error::NotNow { .. } => Some("`lifeboat recover status RECOVERY` shows how far each site is".into()),
            Error::LeftBehind { recovery, .. } => Some(format!(
                "`lifeboat recover run {recovery}` goes on with it; after `lifeboat recover pause {recovery}` that run only lets it wait, and it can be skipped"
            )),
            Error::CaseHeld { site, .. } => Some(format!(
                "wait for it; if its process is surely dead, end it with `lifeboat restore {site} --take-over`; then `lifeboat recover retry RECOVERY {site}`"
            )),
            Error::BadJournal { .. } => {
                Some("restore the sites that are left one by one, and report this with `lifeboat check`".into())
            }
            Error::Cancelled | Error::Bug(_) => None,
        }
    }
}
