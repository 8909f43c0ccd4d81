//! A spill: what a source said while the store did not answer, sealed in records on the host that captures.
//!
//! ```text
//! file      ( length 4 · record )*
//! record    a sealed object of kind 12, under the repository's own key, with a data key of its own
//! bodies    joined in the order of their numbers:  ( 0 · start 8 · length 8 · message  │  1 · position 8 )*
//! ```
//!
//! Numbers are big-endian. A record of a mark ends between two transactions; whatever is behind the last of them counts
//! for nothing. It is no part of the format of a repository: only the version that wrote it reads it.
//!
//! What is not here: the file, and when it is synced (`lifeboat-repo`).

use lifeboat_model::{Lsn, ObjectId, SpillFacts, SpillItem, SpillMark};

use crate::cbor::wire_map;
use crate::commit::{decode_body, encode_body};
use crate::{Error, ObjectKind, Result, SiteKeys};

const MESSAGE: u8 = 0;
const SERVER_AT: u8 = 1;
const POSITION_LEN: usize = 8;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpillRecord {
    /// From 0, without gaps.
    pub number: u64,
    /// Of the first record alone.
    pub facts: Option<SpillFacts>,
    pub mark: Option<SpillMark>,
    /// A stretch of what [`encode_spill_item`] appends; items may go on in the next one.
    pub items: Vec<u8>,
}

wire_map!(SpillFacts { 0: source, 1: epoch, 2: system_identifier, 3: timeline, 4: slot, 5: begins });
wire_map!(SpillMark { 0: till, 1: at });
wire_map!(SpillRecord { 0: number, 1: facts, 2: mark, 3: items });

/// The whole record; `id` is the same for all of a spill, `keys` are the repository's own.
pub fn encode_spill_record(keys: &SiteKeys, id: ObjectId, record: &SpillRecord) -> Result<Vec<u8>> {
    encode_body(keys, ObjectKind::Spill, id, record)
}

/// Reads a record, and which spill it is of.
pub fn decode_spill_record(keys: &SiteKeys, bytes: &[u8]) -> Result<(ObjectId, SpillRecord)> {
    decode_body(keys, ObjectKind::Spill, bytes)
}

/// Appends an item to a record's.
pub fn encode_spill_item(item: &SpillItem, out: &mut Vec<u8>) {
    match item {
        SpillItem::Message { start, bytes } => {
            out.push(MESSAGE);
            out.extend_from_slice(&start.0.to_be_bytes());
            out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
            out.extend_from_slice(bytes);
        }
        SpillItem::ServerAt(at) => {
            out.push(SERVER_AT);
            out.extend_from_slice(&at.0.to_be_bytes());
        }
    }
}

/// Items of records that follow each other.
#[derive(Debug, Default)]
pub struct SpillItems {
    bytes: Vec<u8>,
    taken: usize,
}

impl SpillItems {
    /// Takes the next record's.
    pub fn push(&mut self, items: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(items);
    }

    /// Whether nothing waits for the next record.
    pub fn is_empty(&self) -> bool {
        self.taken == self.bytes.len()
    }

    /// `None`: the next one is not whole yet.
    pub fn next_item(&mut self) -> Result<Option<SpillItem>> {
        let Some((kind, rest)) = self.bytes[self.taken..].split_first() else { return Ok(None) };
        let Some((position, rest)) = position_of(rest) else { return Ok(None) };
        let (item, len) = match *kind {
            SERVER_AT => (SpillItem::ServerAt(Lsn(position)), 1 + POSITION_LEN),
            MESSAGE => {
                let Some((len, rest)) = position_of(rest) else { return Ok(None) };
                // A length that no memory holds is never whole.
                let Some(bytes) = usize::try_from(len).ok().and_then(|len| rest.get(..len)) else { return Ok(None) };
                let item = SpillItem::Message { start: Lsn(position), bytes: bytes.to_vec() };
                (item, 1 + 2 * POSITION_LEN + bytes.len())
            }
            other => return Err(Error::damaged("spill", format!("an item of no known kind: kind=`{other}`"))),
        };
        self.taken += len;
        Ok(Some(item))
    }
}

/// The number that `bytes` begin with, and what follows.
fn position_of(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first_chunk::<POSITION_LEN>()?;
    Some((u64::from_be_bytes(*first), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RepositoryKeys, SecretKey};

    fn items() -> Vec<SpillItem> {
        let message = |len: usize| SpillItem::Message { start: Lsn(7), bytes: vec![b'x'; len] };
        vec![message(0), SpillItem::ServerAt(Lsn(u64::MAX)), message(1_000), message(3)]
    }

    #[test]
    fn items_are_read_as_they_were_written_wherever_records_are_cut() {
        let mut bytes = Vec::new();
        items().iter().for_each(|item| encode_spill_item(item, &mut bytes));
        for len in [1, 7, 16, 17, 500, bytes.len()] {
            let (mut read, mut found) = (SpillItems::default(), Vec::new());
            for some in bytes.chunks(len) {
                read.push(some);
                while let Some(item) = read.next_item().unwrap() {
                    found.push(item);
                }
            }
            assert!(found == items() && read.is_empty(), "{len}");
        }
        let mut bad = SpillItems::default();
        bad.push(&[9; 20]);
        assert!(bad.next_item().is_err());
    }

    #[test]
    fn a_record_shows_nothing_and_opens_under_its_own_repository_s_key_alone() {
        let keys = |byte: u8| RepositoryKeys::new(&SecretKey::generate().unwrap(), ObjectId([byte; 16])).unwrap();
        let (own, other) = (keys(1), keys(2));
        let record = SpillRecord { number: 3, facts: None, mark: None, items: b"plainly secret ".repeat(9) };
        let bytes = encode_spill_record(own.object_keys(), ObjectId([5; 16]), &record).unwrap();
        assert!(!bytes.windows(6).any(|some| some == b"secret"));
        assert_eq!(decode_spill_record(own.object_keys(), &bytes).unwrap(), (ObjectId([5; 16]), record));
        assert!(decode_spill_record(other.object_keys(), &bytes).is_err());
        for len in [0, 4, 100, bytes.len() - 1] {
            assert!(decode_spill_record(own.object_keys(), &bytes[..len]).is_err(), "{len}");
        }
    }
}
