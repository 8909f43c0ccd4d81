//! Index segments: there and back, in order, within their packs.

use lifeboat_model::{Fault, Faulty, KeyNumber, SiteHandle};

use super::*;
use crate::crypto::Entropy;
use crate::{SealedKey, SecretKey};

const ID: ObjectId = ObjectId([0xb2; 16]);

fn keys() -> SiteKeys {
    SiteKeys::derive(SiteHandle([1; 16]), KeyNumber(1), &SecretKey::from_bytes([2; 32]), Entropy::default()).unwrap()
}

fn pack(fill: u8) -> PackRow {
    PackRow { id: ObjectId([fill; 16]), len: 1 << 30, key: KeyNumber(1), sealed_key: SealedKey([fill; 60]) }
}

fn row(number: u32) -> IndexRow {
    let mut id = [0; 32];
    // Ids that do not come in order.
    id[..4].copy_from_slice(&number.wrapping_mul(2_654_435_761).to_be_bytes());
    IndexRow {
        chunk: ChunkId(id),
        pack: number % 2,
        offset: 108 + u64::from(number) * 200,
        stored_len: 168,
        raw_len: 100,
    }
}

fn segment(rows: u32) -> IndexSegment {
    IndexSegment { packs: vec![pack(1), pack(2)], chunks: (0..rows).map(row).collect() }
}

fn encode(segment: IndexSegment) -> Result<(Vec<u8>, IndexRef)> {
    segment.encode(&keys(), ID, &mut Compressor::new()?)
}

#[test]
fn a_segment_comes_back_sorted_however_many_tables_it_takes() {
    for rows in [0, 1, 1_000, 65_536, 65_537, 140_000] {
        let (bytes, place) = encode(segment(rows)).unwrap();
        assert_eq!((place.id, place.len, place.chunks), (ID, bytes.len() as u64, rows.into()));
        let found = IndexSegment::decode(&keys(), ID, &bytes).unwrap();
        let mut want = segment(rows);
        want.chunks.sort_by_key(|row| row.chunk);
        assert!(found == want, "{rows}");
    }
}

#[test]
fn a_row_tells_where_its_chunk_is() {
    let segment = segment(3);
    let chunk = segment.chunk_ref(&row(1)).unwrap();
    assert_eq!((chunk.pack, chunk.offset, chunk.id), (ObjectId([2; 16]), 308, row(1).chunk));
    assert_eq!(segment.chunk_ref(&IndexRow { pack: 2, ..row(1) }), None);
}

#[test]
fn one_chunk_in_two_places_is_kept_once() {
    let mut twice = segment(10);
    twice.chunks.push(IndexRow { offset: 5_000, ..row(3) });
    let (bytes, place) = encode(twice).unwrap();
    assert_eq!(place.chunks, 10);
    let found = IndexSegment::decode(&keys(), ID, &bytes).unwrap();
    assert!(found.chunks.contains(&row(3)));
}

#[test]
fn rows_outside_their_packs_are_refused() {
    let check = |change: fn(&mut IndexRow)| {
        let mut bad = segment(2);
        change(&mut bad.chunks[0]);
        assert_eq!(encode(bad).unwrap_err().fault(), Fault::Bug);
    };
    check(|row| row.pack = 2);
    check(|row| row.pack = u32::MAX);
    check(|row| row.offset = 1 << 30);
    check(|row| row.offset = u64::MAX);
    check(|row| row.offset = 0);
    check(|row| row.raw_len = 0);
    check(|row| row.raw_len = u32::MAX);
    check(|row| row.stored_len = 68);
}

#[test]
fn rows_out_of_order_or_miscounted_are_damage() {
    let table = |rows: &[IndexRow], count| {
        let mut plain = Vec::new();
        cbor::put_list(rows, &mut minicbor::Encoder::new(&mut plain));
        segment(0).take_table(&plain, count)
    };
    let (low, high) = (row(0), row(1));
    assert!(table(&[low, high], 2).is_ok());
    assert!(table(&[high, low], 2).is_err());
    assert!(table(&[low, low], 2).is_err());
    assert!(table(&[low, high], 1).is_err());
    assert!(table(&[low, high], 3).is_err());
}
