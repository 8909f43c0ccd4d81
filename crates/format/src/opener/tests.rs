//! What an object says to the wrong keys, and to bytes that were moved.

use lifeboat_model::{ChunkId, Fault, Faulty, SiteHandle};

use super::*;
use crate::crypto::Entropy;
use crate::{Compressor, HEADER_LEN, ObjectWriter, Placed, SecretKey, Trailer, decode_pack_table};

const PACK: ObjectId = ObjectId([7; 16]);

fn keys_of(site: u8, number: u32, secret: u8) -> SiteKeys {
    let secret = SecretKey::from_bytes([secret; 32]);
    SiteKeys::derive(SiteHandle([site; 16]), KeyNumber(number), &secret, Entropy::default()).unwrap()
}

fn keys() -> SiteKeys {
    keys_of(1, 1, 1)
}

/// Chunks that are stored raw and compressed, two of them of equal lengths.
fn contents() -> Vec<Vec<u8>> {
    vec![b"short".to_vec(), b"SHORT".to_vec(), b"to and fro ".repeat(400), vec![0; 300_000]]
}

fn pack_with(names: impl Fn(&[u8]) -> ChunkId) -> (Vec<u8>, PackRow, Vec<ChunkRef>) {
    let mut compressor = Compressor::new().unwrap();
    let mut writer = ObjectWriter::new(&keys(), ObjectKind::Pack, PACK).unwrap();
    let mut chunks = Vec::new();
    for plain in contents() {
        let id = names(&plain);
        let Placed { offset, stored_len } = writer.push_chunk(&id, &plain, &mut compressor).unwrap();
        chunks.push(ChunkRef { id, pack: PACK, offset, stored_len, raw_len: plain.len() as u32 });
    }
    let (bytes, row) = writer.finish().unwrap();
    (bytes, row, chunks)
}

fn pack() -> (Vec<u8>, PackRow, Vec<ChunkRef>) {
    pack_with(|plain| keys().chunk_id(plain))
}

fn frame(bytes: &[u8], offset: u64, len: u32) -> Vec<u8> {
    bytes[offset as usize..offset as usize + len as usize].to_vec()
}

fn open(opener: &ObjectOpener, chunk: &ChunkRef, mut frame: Vec<u8>) -> Result<Vec<u8>> {
    let mut out = b"left over".to_vec();
    opener.open_chunk(chunk, &mut frame, &mut Decompressor::new()?, &mut out)?;
    Ok(out)
}

#[track_caller]
fn assert_damaged<T: std::fmt::Debug>(result: Result<T>, part: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.fault(), Fault::Damage, "{error}");
    assert!(error.to_string().contains(part), "{error}");
}

#[test]
fn every_chunk_comes_back_from_the_row_alone_and_from_the_header() {
    let (bytes, row, chunks) = pack();
    assert_eq!(row.len, bytes.len() as u64);
    let by_row = ObjectOpener::from_pack_row(&keys(), &row).unwrap();
    let by_header = ObjectOpener::from_header(&keys(), &bytes[..HEADER_LEN], ObjectKind::Pack, PACK).unwrap();
    for opener in [by_row, by_header] {
        for (chunk, plain) in chunks.iter().zip(contents()) {
            assert_eq!(open(&opener, chunk, frame(&bytes, chunk.offset, chunk.stored_len)), Ok(plain.clone()));
            let mut frame = frame(&bytes, chunk.offset, chunk.stored_len);
            let mut out = Vec::new();
            let borrowed = opener.open_chunk_borrowed(chunk, &mut frame, &mut Decompressor::new().unwrap(), &mut out);
            assert_eq!(borrowed, Ok(plain.as_slice()));
        }
    }
}

#[test]
fn a_pack_describes_itself_in_its_table() {
    let (bytes, row, chunks) = pack();
    let opener = ObjectOpener::from_pack_row(&keys(), &row).unwrap();
    let trailer = Trailer::parse(&bytes, row.len).unwrap();
    assert_eq!(trailer.frames as usize, chunks.len() + 1);
    let mut table = frame(&bytes, trailer.offset, trailer.stored_len);
    let rows = decode_pack_table(&opener, trailer.offset, &mut table, &mut Decompressor::new().unwrap()).unwrap();
    assert_eq!(rows.iter().map(|row| row.in_pack(PACK)).collect::<Vec<_>>(), chunks);
}

// Explains invariant: chunk-is-its-id
#[test]
fn a_chunk_whose_content_is_not_its_id_never_leaves() {
    // A writer that named them wrongly: every seal is right, only the content is not what the id says.
    let (bytes, row, chunks) = pack_with(|plain| keys().chunk_id(&[plain, b"!"].concat()));
    let opener = ObjectOpener::from_pack_row(&keys(), &row).unwrap();
    for chunk in &chunks {
        let stored = frame(&bytes, chunk.offset, chunk.stored_len);
        assert_damaged(open(&opener, chunk, stored.clone()), "does not have the id");
        let (mut stored, mut out) = (stored, Vec::new());
        let mut decompressor = Decompressor::new().unwrap();
        assert_damaged(
            opener.open_chunk_borrowed(chunk, &mut stored, &mut decompressor, &mut out),
            "does not have the id",
        );
    }
}

// Explains invariant: sealed-in-place
#[test]
fn a_frame_opens_only_in_its_object_at_its_offset_with_its_header() {
    let (bytes, row, chunks) = pack();
    let opener = ObjectOpener::from_pack_row(&keys(), &row).unwrap();
    let (first, second) = (chunks[0], chunks[1]);
    let stored = frame(&bytes, first.offset, first.stored_len);
    // Every byte of it, the clear header too.
    for at in 0..stored.len() {
        let mut changed = stored.clone();
        changed[at] ^= 1;
        assert!(open(&opener, &first, changed).is_err(), "{at}");
    }
    // Two frames of equal length that changed places, references following them or not.
    let other = frame(&bytes, second.offset, second.stored_len);
    assert_damaged(open(&opener, &first, other.clone()), "seal does not match");
    let moved = ChunkRef { offset: first.offset, ..second };
    assert_damaged(open(&opener, &moved, other), "seal does not match");
    // The same frame in another object of the same site, under the same key.
    let (_, other_row) = ObjectWriter::new(&keys(), ObjectKind::Pack, PACK)
        .and_then(|mut writer| {
            writer.push_chunk(&first.id, b"short", &mut Compressor::new()?)?;
            writer.finish()
        })
        .unwrap();
    let other_opener = ObjectOpener::from_pack_row(&keys(), &other_row).unwrap();
    assert_damaged(open(&other_opener, &first, stored.clone()), "seal does not match");
    // Cut or grown.
    assert_damaged(open(&opener, &first, stored[..stored.len() - 1].to_vec()), "wrong length");
    assert_damaged(open(&opener, &first, [&stored[..], &[0]].concat()), "wrong length");
    assert!(open(&opener, &first, Vec::new()).is_err());
}

#[test]
fn a_reference_that_does_not_fit_its_chunk_is_refused() {
    let (bytes, row, chunks) = pack();
    let opener = ObjectOpener::from_pack_row(&keys(), &row).unwrap();
    let chunk = chunks[2];
    let stored = || frame(&bytes, chunk.offset, chunk.stored_len);
    assert_damaged(open(&opener, &ChunkRef { id: ChunkId([0; 32]), ..chunk }, stored()), "another chunk");
    assert_damaged(open(&opener, &ChunkRef { raw_len: chunk.raw_len - 1, ..chunk }, stored()), "another chunk");
    let misuse = open(&opener, &ChunkRef { pack: ObjectId([8; 16]), ..chunk }, stored()).unwrap_err();
    assert_eq!(misuse.fault(), Fault::Bug);
}

#[test]
fn an_object_opens_only_as_what_it_is() {
    let (bytes, row, _) = pack();
    let header = |keys: &SiteKeys, kind, id| ObjectOpener::from_header(keys, &bytes, kind, id).map(|_| ());
    assert_eq!(header(&keys(), ObjectKind::Pack, PACK), Ok(()));
    assert_damaged(header(&keys(), ObjectKind::Manifest, PACK), "another object");
    assert_damaged(header(&keys(), ObjectKind::Pack, ObjectId([8; 16])), "another object");
    assert_damaged(header(&keys_of(2, 1, 1), ObjectKind::Pack, PACK), "another object");
    // The same site, but a secret that is not its own.
    assert_damaged(header(&keys_of(1, 1, 2), ObjectKind::Pack, PACK), "data key does not match");
    let error = header(&keys_of(1, 2, 1), ObjectKind::Pack, PACK).unwrap_err();
    assert_eq!(error, Error::OtherKeyNumber { needed: KeyNumber(1), given: KeyNumber(2) });

    let row_of = |row: PackRow, keys: &SiteKeys| ObjectOpener::from_pack_row(keys, &row).map(|_| ());
    assert_damaged(row_of(PackRow { id: ObjectId([8; 16]), ..row }, &keys()), "data key does not match");
    assert_damaged(row_of(row, &keys_of(2, 1, 1)), "data key does not match");
    let kind = ObjectOpener::from_sealed_key(&keys(), ObjectKind::Manifest, PACK, row.key, &row.sealed_key);
    assert_damaged(kind, "data key does not match");
}

#[test]
fn a_newer_version_is_believed_only_when_it_was_sealed_so() {
    let (mut bytes, ..) = pack();
    bytes[8] = 2;
    let flipped = ObjectOpener::from_header(&keys(), &bytes, ObjectKind::Pack, PACK);
    assert_damaged(flipped, "data key does not match");
    // As a later version would have written it.
    let header = ObjectHeader { version: 2, ..ObjectHeader::parse(&bytes).unwrap() };
    let (_, sealed_key) = keys().new_data_key(&header.bound_bytes()).unwrap();
    let newer = [&header.bound_bytes()[..], &sealed_key.0].concat();
    let error = ObjectOpener::from_header(&keys(), &newer, ObjectKind::Pack, PACK).unwrap_err();
    assert_eq!(error, Error::NewerVersion { what: "pack", found: 2, supported: 1 });
    assert_eq!(error.fault(), Fault::Operator);
}

// Explains invariant: one-key-one-object
#[test]
fn two_objects_never_share_a_data_key() {
    let (first, first_row, _) = pack();
    let (second, second_row, _) = pack();
    assert_ne!(first_row.sealed_key, second_row.sealed_key);
    // Same id, same content, same place: no stretch of ciphertext is the same.
    let body = HEADER_LEN + FRAME_HEADER_LEN;
    assert_ne!(first[body..body + 5], second[body..body + 5]);
    let keys = keys();
    let (one, two) = (ObjectId([1; 16]), ObjectId([2; 16]));
    let row = |id| {
        let mut writer = ObjectWriter::new(&keys, ObjectKind::Pack, id).unwrap();
        writer.push_chunk(&keys.chunk_id(b"x"), b"x", &mut Compressor::new().unwrap()).unwrap();
        writer.finish().unwrap().1
    };
    assert_ne!(row(one).sealed_key, row(two).sealed_key);
}

#[test]
fn a_writer_refuses_what_no_reader_would_take() {
    let mut compressor = Compressor::new().unwrap();
    let mut pack = ObjectWriter::new(&keys(), ObjectKind::Pack, PACK).unwrap();
    assert_eq!(pack.push_chunk(&ChunkId([0; 32]), b"", &mut compressor).unwrap_err().fault(), Fault::Bug);
    let large = vec![0; crate::FRAME_RAW_MAX as usize + 1];
    let error = pack.push_chunk(&ChunkId([0; 32]), &large, &mut compressor).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    // What was refused left nothing behind.
    assert_eq!(pack.len(), HEADER_LEN as u64);
    assert!(pack.is_empty());
    let mut commit = ObjectWriter::new(&keys(), ObjectKind::Commit, PACK).unwrap();
    assert_eq!(commit.push_chunk(&ChunkId([0; 32]), b"x", &mut compressor).unwrap_err().fault(), Fault::Bug);
    assert_eq!(commit.finish().unwrap_err().fault(), Fault::Bug);
}
