//! What the benches work on: keys, content and entries, the same in every run.

use std::fmt;

use lifeboat_bench::Random;
use lifeboat_bench::rows::{write_random, write_rows};
use lifeboat_format::{
    Compressor, ManifestPart, ManifestSummary, ManifestWriter, ObjectKind, ObjectWriter, PackRow, RepositoryKeys,
    SecretKey, SiteKeys,
};
use lifeboat_model::{
    ChunkId, ChunkRef, Entry, EntryKind, EntryMetadata, EntryPath, Extent, FileTime, KeyNumber, ManifestRef, ObjectId,
    PartIdentity, PartRecord, PartStatus, Position, SiteHandle, SiteId, SnapshotId, SourceKind, SourceName, Timestamp,
};

/// Files that share a pack, what each takes of it, and how long each is.
const FILES_A_PACK: usize = 2_000;
const STORED_BYTES: u32 = 7_000;
const RAW_BYTES: u32 = 9_000;
const FILES_A_FOLDER: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Rows,
    Random,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Rows => "rows",
            Kind::Random => "random",
        })
    }
}

/// So many where it is measured, and a hundredth where it only has to run.
pub fn scaled(count: usize) -> usize {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    if is_bench { count } else { count.div_ceil(100) }
}

pub fn keys() -> SiteKeys {
    let root = SecretKey::from_bytes([1; 32]);
    let keys = RepositoryKeys::new(&root, ObjectId([2; 16])).expect("keys of a repository");
    keys.new_site_key(SiteHandle([3; 16]), KeyNumber(1)).expect("a site's key").1
}

pub fn content(kind: Kind, len: usize) -> Vec<u8> {
    let mut content = Vec::with_capacity(len);
    let written = match kind {
        Kind::Rows => write_rows(&mut content, Random::new(5), len as u64),
        Kind::Random => write_random(&mut content, Random::new(5), len as u64),
    };
    written.expect("memory takes everything");
    content
}

/// Files in path order, each of one chunk, with the folders they are in.
pub fn entries(files: usize) -> Vec<Entry> {
    let mut random = Random::new(11);
    let mut entries = Vec::with_capacity(files + files / FILES_A_FOLDER + 1);
    for number in 0..files {
        let folder = format!("notes/{:04}", number / FILES_A_FOLDER);
        if number % FILES_A_FOLDER == 0 {
            entries.push(entry(&folder, EntryKind::Directory, 0, Vec::new()));
        }
        let mut id = [0; 32];
        id.as_chunks_mut::<8>().0.iter_mut().for_each(|part| *part = random.next().to_le_bytes());
        let chunk = ChunkRef {
            id: ChunkId(id),
            pack: pack(number / FILES_A_PACK),
            offset: 128 + (number % FILES_A_PACK) as u64 * u64::from(STORED_BYTES),
            stored_len: STORED_BYTES,
            raw_len: RAW_BYTES,
        };
        let size = u64::from(chunk.raw_len);
        let path = format!("{folder}/file-{number:06}.bin");
        entries.push(entry(&path, EntryKind::File, size, vec![Extent::Chunk(chunk)]));
    }
    let inodes = entries.iter_mut().zip(1..);
    inodes.for_each(|(entry, inode)| entry.metadata.inode = inode);
    entries
}

fn entry(path: &str, kind: EntryKind, size: u64, extents: Vec<Extent>) -> Entry {
    let time = FileTime { seconds: 1_649_158_680, nanoseconds: 5 };
    let is_directory = kind == EntryKind::Directory;
    let metadata = EntryMetadata {
        mode: if is_directory { 0o755 } else { 0o644 },
        uid: 1_000,
        gid: 1_000,
        modified: time,
        changed: time,
        inode: 0,
        size,
        xattrs: Vec::new(),
    };
    Entry { path: EntryPath::new(path).expect("a path"), kind, metadata, extents }
}

fn pack(number: usize) -> ObjectId {
    let mut id = [9; 16];
    id[..8].copy_from_slice(&(number as u64).to_le_bytes());
    ObjectId(id)
}

/// A manifest of one part with these entries.
pub fn manifest(keys: &SiteKeys, entries: &[Entry]) -> (Vec<u8>, ManifestRef) {
    let mut compressor = Compressor::new().expect("a zstd context");
    let mut writer = ManifestWriter::new(keys, ObjectId([4; 16])).expect("a new object");
    for entry in entries {
        writer.push_entry(0, entry, &mut compressor).expect("an entry");
    }
    let packs = writer.packs().iter().map(|id| PackRow { len: 1 << 40, ..pack_row(keys, *id) }).collect();
    let summary = ManifestSummary {
        site: SiteId::new("acme").expect("a site"),
        snapshot: SnapshotId([5; 8]),
        parts: vec![part(entries)],
        packs,
    };
    writer.finish(summary, &mut compressor).expect("a manifest")
}

fn pack_row(keys: &SiteKeys, id: ObjectId) -> PackRow {
    let pack = ObjectWriter::new(keys, ObjectKind::Pack, id).expect("a new object");
    pack.finish().expect("a pack").1
}

fn part(entries: &[Entry]) -> ManifestPart {
    let noon = Timestamp(1_649_158_680_000_000);
    ManifestPart {
        record: PartRecord {
            source: SourceName::new("files").expect("a source"),
            kind: SourceKind::Files,
            status: PartStatus::Complete,
            entries: entries.len() as u64,
            logical_bytes: entries.iter().map(|entry| entry.metadata.size).sum(),
            cut_from: noon,
            cut_till: noon,
        },
        identity: PartIdentity { machine: "4f1c".into(), filesystem: "fd01".into(), path: "/srv/sites/acme".into() },
        position: Position(String::new()),
        problems: Vec::new(),
        left_out: Vec::new(),
    }
}
