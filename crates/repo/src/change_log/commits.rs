//! An epoch's own commit sequence: which long segments stand for which segments.
//!
//!   LIST newest ─▶ GET commit ─▶ state      one commit answers every question, as for sites
//!   decide(state) ─▶ event ─▶ create n+1 ─ lost ─▶ read what came first ─▶ decide again
//!
//! Invariant (one-log-sequence): of two that compact the same segments one is published, and readers see one or
//! the other, whole.

use bytes::Bytes;
use lifeboat_format::{commit_hash, decode_log_commit, encode_log_commit, names};
use lifeboat_model::{
    EpochId, LogCommit, LogCommitNumber, LogEvent, LogState, LongSegment, ObjectId, SourceName, Timestamp,
    WriterIdentity,
};

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
        let state = LogState { source: source.clone(), epoch, long_segments: Vec::new() };
        Self { number: LogCommitNumber(0), hash: [0; 32], state }
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

    /// Publishes a long segment that is durable. False: somebody else's stands for some of its segments by now.
    pub(super) async fn publish(
        &self,
        epoch: EpochId,
        long: LongSegment,
        writer: &WriterIdentity,
    ) -> Result<bool, Error> {
        loop {
            let head = self.log_head(epoch).await?;
            let event = LogEvent::Compacted(long);
            let Some(state) = apply(&head.state, &event) else { return Ok(false) };
            let number = LogCommitNumber(head.number.0.saturating_add(1));
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
            match self.create_own(&name, body, (epoch, long.last)).await {
                Err(Error::LogFenced { .. }) => {}
                other => return other.map(|()| true),
            }
        }
    }
}

/// The state after an event; `None`: it would stand for a part of what another stands for already, or for the same.
pub(super) fn apply(state: &LogState, event: &LogEvent) -> Option<LogState> {
    let LogEvent::Compacted(long) = event;
    let is_covered = |one: &LongSegment| long.first <= one.first && one.last <= long.last;
    let is_apart = |one: &LongSegment| one.last < long.first || long.last < one.first;
    let is_same = |one: &LongSegment| (one.first, one.last) == (long.first, long.last);
    let all = &state.long_segments;
    if long.first > long.last || all.iter().any(|one| is_same(one) || !(is_covered(one) || is_apart(one))) {
        return None;
    }
    let mut long_segments: Vec<LongSegment> = all.iter().copied().filter(is_apart).collect();
    long_segments.push(*long);
    long_segments.sort_by_key(|one| one.first);
    Some(LogState { long_segments, ..state.clone() })
}

#[cfg(test)]
mod tests {
    use lifeboat_model::SegmentNumber;

    use super::*;

    fn long(first: u64, last: u64) -> LongSegment {
        LongSegment { id: ObjectId([first as u8; 16]), len: 1, first: SegmentNumber(first), last: SegmentNumber(last) }
    }

    #[test]
    fn a_long_segment_takes_the_place_of_those_it_stands_for_and_never_of_a_part() {
        let check = |before: &[(u64, u64)], new: (u64, u64), want: Option<&[(u64, u64)]>| {
            let state = LogState {
                source: SourceName::new("app").unwrap(),
                epoch: EpochId(1),
                long_segments: before.iter().map(|(first, last)| long(*first, *last)).collect(),
            };
            let after = apply(&state, &LogEvent::Compacted(long(new.0, new.1)));
            let got =
                after.map(|state| state.long_segments.iter().map(|one| (one.first.0, one.last.0)).collect::<Vec<_>>());
            assert_eq!(got.as_deref(), want, "{before:?} and {new:?}");
        };
        check(&[], (1, 9), Some(&[(1, 9)]));
        check(&[(1, 9)], (10, 19), Some(&[(1, 9), (10, 19)]));
        check(&[(10, 19)], (1, 9), Some(&[(1, 9), (10, 19)]));
        check(&[(1, 9), (10, 19), (30, 39)], (1, 19), Some(&[(1, 19), (30, 39)]));
        check(&[(1, 9), (10, 19)], (1, 25), Some(&[(1, 25)]));
        check(&[(1, 9)], (1, 9), None);
        check(&[(1, 9)], (5, 14), None);
        check(&[(1, 9)], (2, 8), None);
        check(&[], (9, 1), None);
    }
}
