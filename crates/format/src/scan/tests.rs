//! Scanning without keys.

use lifeboat_model::{ChunkId, KeyNumber, ObjectId, SiteHandle};

use super::*;
use crate::crypto::Entropy;
use crate::{Compressor, FrameKind, ObjectKind, ObjectWriter, SecretKey, SiteKeys};

fn keys() -> SiteKeys {
    SiteKeys::derive(SiteHandle([1; 16]), KeyNumber(1), &SecretKey::from_bytes([2; 32]), Entropy::default()).unwrap()
}

/// A pack of four chunks, and where each frame begins.
fn pack() -> (Vec<u8>, Vec<usize>) {
    let mut writer = ObjectWriter::new(&keys(), ObjectKind::Pack, ObjectId([3; 16])).unwrap();
    let mut offsets = Vec::new();
    for fill in 0..4u8 {
        let placed = writer.push_chunk(&ChunkId([fill; 32]), &[fill; 200], &mut Compressor::new().unwrap()).unwrap();
        offsets.push(placed.offset as usize);
    }
    offsets.push(writer.len() as usize);
    (writer.finish().unwrap().0, offsets)
}

#[test]
fn a_whole_pack_scans_clean_and_tells_its_chunks_without_keys() {
    let (bytes, offsets) = pack();
    let scan = scan_pack(&bytes);
    assert!(scan.is_clean(), "{scan:?}");
    assert_eq!(scan.frames.iter().map(|frame| frame.offset as usize).collect::<Vec<_>>(), offsets);
    let chunks: Vec<_> = scan.frames.iter().filter(|frame| frame.header.kind == FrameKind::Chunk).collect();
    assert_eq!(chunks.len(), 4);
    assert_eq!(chunks[2].header.id, ChunkId([2; 32]));
    assert_eq!(scan.header.unwrap().id, ObjectId([3; 16]));
    assert_eq!(scan.trailer.unwrap().frames, 5);
}

#[test]
fn damage_is_named_by_offset_and_the_scan_goes_on_behind_it() {
    let (good, offsets) = pack();
    let mut bytes = good.clone();
    bytes[offsets[1]] ^= 1;
    let scan = scan_pack(&bytes);
    let found: Vec<usize> = scan.frames.iter().map(|frame| frame.offset as usize).collect();
    assert_eq!(found, [offsets[0], offsets[2], offsets[3], offsets[4]]);
    let first = &scan.damage[0];
    assert_eq!((first.offset as usize, first.len as usize), (offsets[1], offsets[2] - offsets[1]));
    assert!(first.detail.contains("marker"), "{first:?}");

    // A length that was changed: the frame behind it is found again.
    let mut bytes = good.clone();
    bytes[offsets[1] + 16] ^= 1;
    assert_eq!(scan_pack(&bytes).frames.len(), 4);
    // A frame cut out of the middle.
    let mut bytes = good.clone();
    bytes.drain(offsets[1]..offsets[2]);
    let scan = scan_pack(&bytes);
    assert_eq!(scan.frames.len(), 4);
    assert!(scan.damage.iter().any(|damage| damage.detail.contains("missing or out of order")), "{scan:?}");
}

#[test]
fn a_pack_cut_off_anywhere_is_damaged_and_keeps_what_is_whole() {
    let (good, offsets) = pack();
    for len in 0..good.len() {
        let scan = scan_pack(&good[..len]);
        assert!(!scan.is_clean(), "{len}");
        let whole = offsets.iter().skip(1).filter(|end| **end <= len).count();
        assert!(scan.frames.len() >= whole, "{len}: {}", scan.frames.len());
    }
}

#[test]
fn a_trailer_that_lies_is_told() {
    let (mut bytes, offsets) = pack();
    let at = bytes.len() - TRAILER_LEN;
    bytes[at + 12] ^= 1;
    assert!(scan_pack(&bytes).damage[0].detail.contains("trailer"));
    bytes[at + 12] ^= 1;
    bytes[at..at + 8].copy_from_slice(&(offsets[3] as u64).to_le_bytes());
    assert!(!scan_pack(&bytes).is_clean());
}

proptest::proptest! {
    #[test]
    fn any_bytes_can_be_scanned(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
        let _ = scan_pack(&bytes);
    }

    #[test]
    fn any_change_of_a_pack_can_be_scanned(
        changes in proptest::collection::vec((0usize..1_500, proptest::num::u8::ANY), 1..20),
    ) {
        let (mut bytes, _) = pack();
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        let scan = scan_pack(&bytes);
        proptest::prop_assert!(scan.frames.len() <= 5);
    }
}
