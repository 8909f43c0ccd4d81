//! Epochs and log commits: one body in one frame, like the commits of sites.

use lifeboat_model::{
    CondemnedSegments, Epoch, EpochFacts, EpochId, EpochReason, LogCommit, LogCommitNumber, LogEvent, LogState, Lsn,
    SourceKind, SourceName, Timestamp, WriterIdentity,
};

use super::Checked;
use crate::cbor::wire_map;
use crate::commit::{decode_body, encode_body};
use crate::{Error, ObjectKind, Result, SiteKeys};

struct EpochBody {
    id: EpochId,
    source: SourceName,
    kind: SourceKind,
    system_identifier: String,
    timeline: u32,
    slot: String,
    database: String,
    begins: Lsn,
    snapshot: String,
    begun_at: Timestamp,
    why: EpochReason,
    note: String,
    writer: WriterIdentity,
    sound_till: Option<Timestamp>,
    partly: Vec<String>,
}

wire_map!(EpochBody {
    0: id,
    1: source,
    2: kind,
    3: system_identifier,
    4: timeline,
    5: slot,
    6: database,
    7: begins,
    8: snapshot,
    9: begun_at,
    10: why,
    11: note,
    12: writer,
    13: sound_till,
    14: partly,
});

struct LogCommitBody {
    number: LogCommitNumber,
    previous: [u8; 32],
    written_at: Timestamp,
    writer: WriterIdentity,
    event: LogEvent,
    state: LogState,
}

wire_map!(LogCommitBody { 0: number, 1: previous, 2: written_at, 3: writer, 4: event, 5: state });

/// The whole object of an epoch; `keys` are the repository's own ([`crate::RepositoryKeys::object_keys`]).
pub fn encode_epoch(keys: &SiteKeys, epoch: &Epoch) -> Result<Vec<u8>> {
    let Epoch { id, nonce, writer, facts } = epoch.clone();
    let EpochFacts { source, kind, system_identifier, timeline, slot, database, .. } = facts;
    let EpochFacts { begins, snapshot, begun_at, why, note, sound_till, partly, .. } = epoch.facts.clone();
    let body = EpochBody {
        id,
        source,
        kind,
        system_identifier,
        timeline,
        slot,
        database,
        begins,
        snapshot,
        begun_at,
        why,
        note,
        writer,
        sound_till,
        partly,
    };
    encode_body(keys, ObjectKind::Epoch, nonce, &body)
}

/// Reads the epoch that was stored as `id` of `source`.
pub fn decode_epoch(keys: &SiteKeys, source: &SourceName, id: EpochId, bytes: &[u8]) -> Result<Epoch> {
    let (nonce, body): (_, EpochBody) = decode_body(keys, ObjectKind::Epoch, bytes)?;
    if (&body.source, body.id) != (source, id) {
        let detail =
            format!("it is another one: found=`{}` of `{}`, expected=`{id}` of `{source}`", body.id, body.source);
        return Err(Error::damaged("epoch", detail));
    }
    let EpochBody { id, source, kind, system_identifier, timeline, slot, database, .. } = body;
    let EpochBody { begins, snapshot, begun_at, why, note, sound_till, partly, writer, .. } = body;
    let facts = EpochFacts {
        source,
        kind,
        system_identifier,
        timeline,
        slot,
        database,
        begins,
        snapshot,
        begun_at,
        why,
        note,
        sound_till,
        partly,
    };
    Ok(Epoch { id, nonce, writer, facts })
}

/// The whole object of a log commit.
pub fn encode_log_commit(keys: &SiteKeys, commit: &LogCommit) -> Result<Vec<u8>> {
    let LogCommit { number, previous, nonce, written_at, writer, event, state } = commit.clone();
    check_segments(&state).map_err(Error::misuse)?;
    let body = LogCommitBody { number, previous, written_at, writer, event, state };
    encode_body(keys, ObjectKind::LogCommit, nonce, &body)
}

/// Reads the log commit that was stored as `number` of an epoch of `source`.
pub fn decode_log_commit(
    keys: &SiteKeys,
    (source, epoch): (&SourceName, EpochId),
    number: LogCommitNumber,
    bytes: &[u8],
) -> Result<LogCommit> {
    let (nonce, body): (_, LogCommitBody) = decode_body(keys, ObjectKind::LogCommit, bytes)?;
    let LogCommitBody { number: found, previous, written_at, writer, event, state } = body;
    if (found, &state.source, state.epoch) != (number, source, epoch) {
        let detail = format!(
            "it is another one: found=`{found}` of epoch `{}` of `{}`, expected=`{number}` of epoch `{epoch}` of `{source}`",
            state.epoch, state.source
        );
        return Err(Error::damaged("log commit", detail));
    }
    check_segments(&state).map_err(|detail| Error::damaged("log commit", detail))?;
    Ok(LogCommit { number, previous, nonce, written_at, writer, event, state })
}

fn check_segments(state: &LogState) -> Checked {
    let all = &state.long_segments;
    if !all.iter().all(|one| one.first <= one.last) || !all.is_sorted_by(|a, b| a.last < b.first) {
        return Err("ranges of segments overlap or do not ascend".to_owned());
    }
    if all.first().is_some_and(|long| long.first < state.first()) || state.first().0 == 0 {
        return Err("a range of segments reaches over where the epoch begins".to_owned());
    }
    let is_before = |some: &CondemnedSegments| some.from <= some.till && some.till <= state.first();
    match state.condemned.iter().all(is_before) {
        true => Ok(()),
        false => Err("segments are condemned and to be read".to_owned()),
    }
}
