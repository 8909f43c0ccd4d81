//! Commits and runs: one body in one frame.
//!
//! Invariant (commit-in-its-place): a commit is accepted only as the generation, of the site, that
//! its name says; a copy under another name is damage.

use lifeboat_model::{
    Commit, CommitEvent, Generation, ObjectId, Run, RunNumber, RunSite, RunSource, SiteState, Timestamp, WriterIdentity,
};
use sha2::{Digest, Sha256};

use crate::cbor::{self, Wire, wire_map};
use crate::{
    Compressor, Decompressor, Error, FrameKind, HEADER_LEN, ObjectHeader, ObjectKind, ObjectOpener, ObjectWriter,
    Result, SiteKeys, TRAILER_LEN, Trailer,
};

/// The whole object of a commit, whose id is the commit's nonce.
pub fn encode_commit(keys: &SiteKeys, commit: &Commit) -> Result<Vec<u8>> {
    let Commit { generation, previous, nonce, written_at, writer, event, state } = commit.clone();
    let body = CommitBody { generation, previous, written_at, writer, event, state };
    encode_body(keys, ObjectKind::Commit, nonce, &body)
}

/// Reads the commit that was stored as `generation` of the site whose keys these are.
pub fn decode_commit(keys: &SiteKeys, generation: Generation, bytes: &[u8]) -> Result<Commit> {
    let (nonce, body): (_, CommitBody) = decode_body(keys, ObjectKind::Commit, bytes)?;
    let CommitBody { generation: found, previous, written_at, writer, event, state } = body;
    if found != generation {
        let detail = format!("it is another generation: found=`{found}`, expected=`{generation}`");
        return Err(Error::damaged("commit", detail));
    }
    Ok(Commit { generation, previous, nonce, written_at, writer, event, state })
}

/// The link of the chain: SHA-256 of the whole commit object.
pub fn commit_hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The whole object of a run; `keys` are the repository's own ([`crate::RepositoryKeys::object_keys`]).
pub fn encode_run(keys: &SiteKeys, run: &Run) -> Result<Vec<u8>> {
    let Run { number, nonce, started_at, finished_at, writer, sources, sites } = run.clone();
    let body = RunBody { number, started_at, finished_at, writer, sources, sites };
    encode_body(keys, ObjectKind::Run, nonce, &body)
}

/// Reads the run that was stored as `number`.
pub fn decode_run(keys: &SiteKeys, number: RunNumber, bytes: &[u8]) -> Result<Run> {
    let (nonce, body): (_, RunBody) = decode_body(keys, ObjectKind::Run, bytes)?;
    let RunBody { number: found, started_at, finished_at, writer, sources, sites } = body;
    if found != number {
        return Err(Error::damaged("run", format!("it is another run: found=`{found}`, expected=`{number}`")));
    }
    Ok(Run { number, nonce, started_at, finished_at, writer, sources, sites })
}

struct CommitBody {
    generation: Generation,
    previous: [u8; 32],
    written_at: Timestamp,
    writer: WriterIdentity,
    event: CommitEvent,
    state: SiteState,
}

struct RunBody {
    number: RunNumber,
    started_at: Timestamp,
    finished_at: Timestamp,
    writer: WriterIdentity,
    sources: Vec<RunSource>,
    sites: Vec<RunSite>,
}

wire_map!(CommitBody { 0: generation, 1: previous, 2: written_at, 3: writer, 4: event, 5: state });
wire_map!(RunBody { 0: number, 1: started_at, 2: finished_at, 3: writer, 4: sources, 5: sites });

/// A whole object of one body.
pub(crate) fn encode_body(keys: &SiteKeys, kind: ObjectKind, id: ObjectId, body: &impl Wire) -> Result<Vec<u8>> {
    let mut object = ObjectWriter::new(keys, kind, id)?;
    object.push_frame(FrameKind::Body, &cbor::to_bytes(body), Some(&mut Compressor::new()?))?;
    Ok(object.finish()?.0)
}

/// The id and the body of an object that has but one.
pub(crate) fn decode_body<T: Wire>(keys: &SiteKeys, kind: ObjectKind, bytes: &[u8]) -> Result<(ObjectId, T)> {
    let id = ObjectHeader::parse(bytes)?.id;
    let opener = ObjectOpener::from_header(keys, bytes, kind, id)?;
    let trailer = Trailer::parse(bytes, bytes.len() as u64)?;
    if trailer.offset != HEADER_LEN as u64 || trailer.frames != 1 {
        return Err(Error::damaged(kind.name(), "its trailer tells of more than one frame"));
    }
    // `Trailer::parse` proved that the frame lies between header and trailer.
    let mut frame = bytes[HEADER_LEN..bytes.len() - TRAILER_LEN].to_vec();
    let mut inflated = Vec::new();
    let opened = opener.open_frame(FrameKind::Body, trailer.offset, &mut frame)?;
    let body = opened.plain(&mut Decompressor::new()?, &mut inflated)?;
    Ok((id, cbor::from_bytes(kind.name(), body)?))
}

#[cfg(test)]
mod tests;
