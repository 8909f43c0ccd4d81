//! Bodies that were changed although they are sealed: a writer with a fault, or with bad intent.

use lifeboat_model::{ChunkRef, Entry, Run, SiteState, SnapshotRecord};
use proptest::prelude::*;

use super::*;
use crate::cbor::{from_bytes, take_list, to_bytes};
use crate::table::TableRow;
use crate::{ManifestHead, ManifestPart, PageRef, sample};

const OWN: ObjectId = ObjectId([1; 16]);
const PACK: ObjectId = ObjectId([2; 16]);

fn packs() -> Vec<PackRow> {
    vec![PackRow { id: PACK, len: 1 << 20, key: KeyNumber(1), sealed_key: SealedKey([3; 60]) }]
}

fn chunk(pack: ObjectId) -> ChunkRef {
    ChunkRef { id: ChunkId([4; 32]), pack, offset: 400, stored_len: 200, raw_len: 1_000 }
}

fn entries() -> Vec<Entry> {
    let mut entries = sample::tree(chunk(OWN), chunk(PACK));
    entries.push(sample::database(&[chunk(PACK), chunk(OWN)]));
    entries
}

fn encode_entry(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_entry(entry, &mut minicbor::Encoder::new(&mut bytes), |chunk| u32::from(chunk.pack == PACK));
    bytes
}

fn decode_entry(bytes: &[u8]) -> WireResult<Entry> {
    take_entry(&mut In::new(bytes), &Refs { own: OWN, packs: &packs() })
}

fn head() -> ManifestHead {
    let part = ManifestPart {
        record: sample::parts().swap_remove(0),
        identity: sample::identity(),
        position: lifeboat_model::Position("7".to_owned()),
        problems: sample::problems(),
        left_out: Vec::new(),
    };
    let first = sample::path("a/b");
    let page = PageRef { part: 0, offset: 108, stored_len: 300, entries: 12, first };
    ManifestHead {
        site: sample::site(),
        snapshot: SnapshotId([5; 8]),
        parts: vec![part],
        pages: vec![page],
        packs: packs(),
    }
}

/// The bytes of a value that was decoded, encoded again.
type Again = fn(&[u8]) -> Option<Vec<u8>>;

/// Every body of every kind of frame, and what decodes it; `Ok` gives the value's own encoding.
fn bodies() -> Vec<(Vec<u8>, Again)> {
    fn again<T: Wire>(bytes: &[u8]) -> Option<Vec<u8>> {
        from_bytes::<T>("body", bytes).ok().map(|value| to_bytes(&value))
    }
    fn rows(bytes: &[u8]) -> Option<Vec<u8>> {
        let rows: Vec<TableRow> = take_list(&mut In::new(bytes)).ok()?;
        Some(crate::table::encode(&rows))
    }
    let row = TableRow { chunk: ChunkId([1; 32]), offset: 108, stored_len: 100, raw_len: 50 };
    let mut bodies: Vec<(Vec<u8>, Again)> = vec![
        (to_bytes(&head()), again::<ManifestHead>),
        (to_bytes(&sample::state()), again::<SiteState>),
        (to_bytes(&sample::snapshot()), again::<SnapshotRecord>),
        (crate::table::encode(&[row, row]), rows),
    ];
    for (_, event) in sample::events() {
        bodies.push((to_bytes(&event), again::<lifeboat_model::CommitEvent>));
    }
    let Run { sources, sites, .. } = sample::run();
    bodies.push((to_bytes(&sources), again::<Vec<lifeboat_model::RunSource>>));
    bodies.push((to_bytes(&sites), again::<Vec<lifeboat_model::RunSite>>));
    for entry in entries() {
        bodies.push((encode_entry(&entry), |bytes| decode_entry(bytes).ok().map(|entry| encode_entry(&entry))));
    }
    bodies
}

#[test]
fn every_body_comes_back_byte_for_byte() {
    for (bytes, decode) in bodies() {
        assert_eq!(decode(&bytes).as_deref(), Some(bytes.as_slice()));
    }
}

#[test]
fn a_body_cut_off_anywhere_is_refused() {
    for (bytes, decode) in bodies() {
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len]), None, "{len} of {}", bytes.len());
        }
    }
}

#[test]
fn any_changed_byte_of_a_body_gives_an_error_or_a_value_that_holds() {
    for (bytes, decode) in bodies() {
        for at in 0..bytes.len() {
            for mask in [0x01, 0x02, 0x10, 0x20, 0x40, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= mask;
                // What was accepted is a value like any other: it can be written and read again.
                if let Some(encoded) = decode(&changed) {
                    assert_eq!(decode(&encoded).as_ref(), Some(&encoded), "{at} {mask}");
                }
            }
        }
    }
}

#[test]
fn a_variant_of_a_later_version_is_told_from_damage() {
    let unknown = |bytes: &[u8], want: &str| {
        let error = from_bytes::<lifeboat_model::CommitEvent>("commit", bytes).unwrap_err();
        assert_eq!(error, crate::Error::UnknownFeature { feature: want.to_owned(), writing: false });
    };
    unknown(&[0x82, 0x18, 99, 0], "commit event 99");
    unknown(&[0x83, 1, 0x48, 1, 2, 3, 4, 5, 6, 7, 8, 9], "point state 9");
    let entry = [0x8d, 0x41, b'a', 0x18, 40];
    assert_eq!(decode_entry(&entry), Err(crate::cbor::WireError::Unknown("entry kind 40".to_owned())));
}

#[test]
fn items_that_a_later_version_appended_are_skipped() {
    let entry = &entries()[1];
    let mut bytes = encode_entry(entry);
    assert_eq!(bytes[0], 0x8d);
    bytes[0] = 0x8f;
    bytes.extend_from_slice(&[0x82, 1, 2, 0x63, b'n', b'e', b'w']);
    assert_eq!(decode_entry(&bytes).as_ref(), Ok(entry));
}

#[test]
fn an_entry_stays_compact() {
    // A page must be cheap to fetch: the many small files of a site cost little more than their ids.
    let mut file = entries().swap_remove(1);
    file.metadata.xattrs.clear();
    assert!(encode_entry(&file).len() <= 100, "{}", encode_entry(&file).len());
}

proptest! {
    #[test]
    fn any_bytes_decode_to_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for (_, decode) in bodies() {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn any_stretch_replaced_decodes_to_a_value_or_an_error(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        with in prop::collection::vec(any::<u8>(), 0..12),
        cut in 0usize..12,
    ) {
        let bodies = bodies();
        let (bytes, decode) = &bodies[which.index(bodies.len())];
        let mut bytes = bytes.clone();
        let from = at.index(bytes.len());
        let till = (from + cut).min(bytes.len());
        bytes.splice(from..till, with);
        if let Some(encoded) = decode(&bytes) {
            prop_assert_eq!(decode(&encoded), Some(encoded));
        }
    }
}
