//! What happens to the bytes of a file on their way to a pack, and back.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use lifeboat_format::{Compressor, Decompressor, FrameKind, ObjectKind, ObjectOpener, ObjectWriter};
use lifeboat_model::{ChunkRef, ObjectId};
use lifeboat_repo::Chunker;

use crate::samples::{self, Kind};

const KINDS: [Kind; 2] = [Kind::Rows, Kind::Random];
/// About what content-defined chunks have.
const CHUNK_BYTES: usize = 1 << 20;
const PACK: ObjectId = ObjectId([7; 16]);

/// A file, cut into chunks.
#[divan::bench(args = KINDS)]
fn chunk(bencher: Bencher<'_, '_>, kind: Kind) {
    let (gear, content) = (samples::keys().gear_table(), samples::content(kind, samples::scaled(16) << 20));
    bencher.counter(BytesCount::of_slice(&content)).bench(|| {
        let (chunker, mut rest, mut chunks) = (Chunker::new(&gear), black_box(&content[..]), 0);
        while !rest.is_empty() {
            rest = &rest[chunker.cut(rest)..];
            chunks += 1;
        }
        chunks
    });
}

/// A chunk's name.
#[divan::bench]
fn id(bencher: Bencher<'_, '_>) {
    let (keys, content) = (samples::keys(), samples::content(Kind::Random, CHUNK_BYTES));
    bencher.counter(BytesCount::of_slice(&content)).bench(|| keys.chunk_id(black_box(&content)));
}

/// A chunk, compressed; one that does not compress, found out.
#[divan::bench(args = KINDS)]
fn compress(bencher: Bencher<'_, '_>, kind: Kind) {
    let content = samples::content(kind, CHUNK_BYTES);
    let mut compressor = Compressor::new().expect("a zstd context");
    let mut out = Vec::with_capacity(CHUNK_BYTES);
    bencher.counter(BytesCount::of_slice(&content)).bench_local(|| {
        out.clear();
        compressor.append(black_box(&content), &mut out)
    });
}

/// A chunk as it is, sealed into an object.
#[divan::bench]
fn seal(bencher: Bencher<'_, '_>) {
    let (keys, content) = (samples::keys(), samples::content(Kind::Random, CHUNK_BYTES));
    let room = || {
        let room = Vec::with_capacity(2 * CHUNK_BYTES);
        ObjectWriter::with_buffer(&keys, ObjectKind::Manifest, PACK, room).expect("a new object")
    };
    bencher
        .counter(BytesCount::of_slice(&content))
        .with_inputs(room)
        .bench_local_refs(|object| object.push_frame(FrameKind::Page, black_box(&content), None).expect("sealed"));
}

/// A chunk of a pack, opened, inflated and compared with its name.
#[divan::bench(args = KINDS)]
fn open(bencher: Bencher<'_, '_>, kind: Kind) {
    let (keys, content) = (samples::keys(), samples::content(kind, CHUNK_BYTES));
    let mut compressor = Compressor::new().expect("a zstd context");
    let mut pack = ObjectWriter::new(&keys, ObjectKind::Pack, PACK).expect("a new object");
    let id = keys.chunk_id(&content);
    let placed = pack.push_chunk(&id, &content, &mut compressor).expect("sealed");
    let (pack, row) = pack.finish().expect("a pack");
    let chunk = ChunkRef {
        id,
        pack: PACK,
        offset: placed.offset,
        stored_len: placed.stored_len,
        raw_len: content.len() as u32,
    };
    let opener = ObjectOpener::from_pack_row(&keys, &row).expect("its key");
    let frame = &pack[placed.offset as usize..][..placed.stored_len as usize];
    let (mut decompressor, mut plain) = (Decompressor::new().expect("a zstd context"), Vec::new());
    // It is opened in place: each time another copy.
    bencher.counter(BytesCount::of_slice(&content)).with_inputs(|| frame.to_vec()).bench_local_refs(|frame| {
        let opened = opener.open_chunk_borrowed(&chunk, frame, &mut decompressor, &mut plain);
        opened.expect("the chunk").len()
    });
}
