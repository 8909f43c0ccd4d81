//! An epoch's own commit sequence: which long segments stand for which segments, and where what is kept begins.
//!
//!   LIST newest ─▶ GET commit ─▶ state      one commit answers every question, as for sites
//!   decide(state) ─▶ event ─▶ create n+1 ─ lost ─▶ read what came first ─▶ decide again
//!
//! Invariant (one-log-sequence): of two that compact the same segments one is published, and readers see one or
//! the other, whole.

use bytes::Bytes;
use lifeboat_format::{commit_hash, decode_log_commit, encode_log_commit, names};
use lifeboat_model::{
    EpochId, Fault, Faulty, LogCommit, LogCommitNumber, LogEvent, LogState, ObjectId, SegmentNumber, SourceName,
    Timestamp, WriterIdentity,
};
use lifeboat_store::ObjectName;

use super::ChangeLog;
use crate::upload::object_name;
use crate::{Error, random_id};

/// The newest commit of an epoch, and what the next one must name.
#[derive(Debug, Clone)]
pub(super) struct LogHead {
    /// 0: there is none yet.
    pub number: LogCommitNumber,
    /// SHA-256 of its object; zeros before the first.
    pub hash: [u8; 32],
    pub state: LogState,
}

impl LogHead {
    /// Before any commit.
    pub fn first(source: &SourceName, epoch: EpochId) -> Self {
        Self { number: LogCommitNumber(0), hash: [0; 32], state: LogState::new(source.clone(), epoch) }
    }
}

impl ChangeLog {
    /// What an epoch's newest commit says; before the first, nothing stands for anything.
    pub async fn log_state(&self, epoch: EpochId) -> Result<LogState, Error> {
        Ok(self.log_head(epoch).await?.state)
    }

    pub(super) async fn log_head(&self, epoch: EpochId) -> Result<LogHead, Error> {
        let prefix = names::log_commits_prefix(&self.source, epoch);
        self.read_afresh(&prefix, || self.read_log_head(epoch, &prefix)).await
    }

    async fn read_log_head(&self, epoch: EpochId, prefix: &str) -> Result<LogHead, Error> {
        let Some(listed) = self.repository.store().list(prefix, None, 1).await?.into_iter().next() else {
            return Ok(LogHead::first(&self.source, epoch));
        };
        match names::parse_object_name(listed.name.as_str()) {
            Some(names::ParsedName::LogCommit(_, _, number)) => {
                let (commit, hash) = self.log_commit(epoch, number).await?;
                Ok(LogHead { number, hash, state: commit.state })
            }
            _ => Err(super::foreign(&listed.name)),
        }
    }

    /// One commit, and the hash that the next one names.
    pub(super) async fn log_commit(
        &self,
        epoch: EpochId,
        number: LogCommitNumber,
    ) -> Result<(LogCommit, [u8; 32]), Error> {
        let name = object_name(names::log_commit(&self.source, epoch, number))?;
        let body = self.repository.store().get(&name).await?;
        let own = self.repository.keys().object_keys();
        let commit = decode_log_commit(own, (&self.source, epoch), number, &body).map_err(Error::of_object(&name))?;
        Ok((commit, commit_hash(&body)))
    }

    /// Commits what `decide` makes of the newest state. False: it makes nothing of it, or what it makes cannot happen any
    /// more.
    pub(super) async fn commit_log(
        &self,
        epoch: EpochId,
        writer: &WriterIdentity,
        decide: impl Fn(&LogState) -> Option<LogEvent>,
    ) -> Result<bool, Error> {
        self.commit_log_of(epoch, writer, (None, decide)).await
    }

    /// The same, if an object is there that the event names: whoever deletes it has committed first.
    pub(super) async fn commit_log_of(
        &self,
        epoch: EpochId,
        writer: &WriterIdentity,
        (needed, decide): (Option<&ObjectName>, impl Fn(&LogState) -> Option<LogEvent>),
    ) -> Result<bool, Error> {
        loop {
            let head = self.log_head(epoch).await?;
            if let Some(name) = needed {
                match self.repository.store().get_range(name, 0..1).await {
                    Err(lifeboat_store::Error::NotFound { .. }) => return Ok(false),
                    found => found?,
                };
            }
            let number = LogCommitNumber(head.number.0.saturating_add(1));
            let decided = decide(&head.state).and_then(|event| Some((head.state.after(&event, number)?, event)));
            let Some((state, event)) = decided else { return Ok(false) };
            let commit = LogCommit {
                number,
                previous: head.hash,
                nonce: ObjectId(random_id()?),
                written_at: Timestamp::now(),
                writer: writer.clone(),
                event,
                state,
            };
            let body: Bytes = encode_log_commit(self.repository.keys().object_keys(), &commit)?.into();
            let name = object_name(names::log_commit(&self.source, epoch, number))?;
            match self.create_own(&name, body, (epoch, SegmentNumber(0))).await {
                Err(Error::LogFenced { .. }) => {}
                other => return other.map(|()| true),
            }
        }
    }

    /// What an epoch's newest commit says that is not damaged. What later ones named is there a second time, and what they
    /// have condemned nobody deletes behind a damaged one.
    pub async fn kept(&self, epoch: EpochId) -> Result<LogState, Error> {
        let error = match self.log_state(epoch).await {
            Err(error) if error.fault() == Fault::Damage => error,
            other => return other,
        };
        tracing::warn!(%error, source = %self.source, "a log commit is damaged; the one before it is gone by");
        let (prefix, mut after) = (names::log_commits_prefix(&self.source, epoch), None);
        while let Some(listed) = self.repository.store().list(&prefix, after.as_ref(), 1).await?.into_iter().next() {
            if let Some(names::ParsedName::LogCommit(_, _, number)) = names::parse_object_name(listed.name.as_str()) {
                match self.log_commit(epoch, number).await {
                    Err(error) if error.fault() == Fault::Damage => {}
                    other => return Ok(other?.0.state),
                }
            }
            after = Some(listed.name);
        }
        Ok(LogState::new(self.source.clone(), epoch))
    }
}
