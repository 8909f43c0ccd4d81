//! Manifests: there and back, and what no reader accepts.

use lifeboat_model::{EntryKind, Extent, Fault, Faulty, FileTime, KeyNumber, SiteHandle, Xattr};

use super::*;
use crate::crypto::Entropy;
use crate::{SealedKey, SecretKey, Trailer, sample};

const ID: ObjectId = ObjectId([0xb1; 16]);
const PACK: ObjectId = ObjectId([0xb0; 16]);

fn keys() -> SiteKeys {
    SiteKeys::derive(SiteHandle([1; 16]), KeyNumber(1), &SecretKey::from_bytes([2; 32]), Entropy::default()).unwrap()
}

fn pack_row(id: ObjectId) -> PackRow {
    PackRow { id, len: 1_000_000, key: KeyNumber(1), sealed_key: SealedKey([5; 60]) }
}

fn packed() -> ChunkRef {
    ChunkRef { id: ChunkId([9; 32]), pack: PACK, offset: 500, stored_len: 168, raw_len: 4_096 }
}

fn manifest_part(record: PartRecord) -> ManifestPart {
    ManifestPart {
        record,
        identity: sample::identity(),
        position: Position("42".to_owned()),
        problems: sample::problems(),
        left_out: Vec::new(),
    }
}

fn summary(packs: Vec<PackRow>) -> ManifestSummary {
    let parts = sample::parts().into_iter().map(manifest_part).collect();
    ManifestSummary { site: sample::site(), snapshot: SnapshotId([0x51; 8]), parts, packs }
}

fn compressor() -> Compressor {
    Compressor::new().unwrap()
}

/// Everything a reader gets out of a manifest.
fn read(bytes: &[u8], place: ManifestRef) -> Result<(ManifestHead, Vec<(u32, Entry)>)> {
    let mut decompressor = Decompressor::new()?;
    let opener = ObjectOpener::from_header(&keys(), bytes, ObjectKind::Manifest, place.id)?;
    let frame = |offset: u64, len: u32| bytes[offset as usize..][..len as usize].to_vec();
    let mut head_frame = frame(place.head_offset, place.head_len);
    let head = decode_manifest_head(&opener, place.head_offset, &mut head_frame, &mut decompressor)?;
    let mut entries = Vec::new();
    for page in &head.pages {
        let mut page_frame = frame(page.offset, page.stored_len);
        let found = decode_page(&opener, &head, page, &mut page_frame, &mut decompressor)?;
        entries.extend(found.into_iter().map(|entry| (page.part, entry)));
    }
    Ok((head, entries))
}

fn written(entries: &[(u32, Entry)]) -> Result<(Vec<u8>, ManifestRef)> {
    let mut writer = ManifestWriter::new(&keys(), ID)?;
    for (part, entry) in entries {
        writer.push_entry(*part, entry, &mut compressor())?;
    }
    writer.finish(summary(vec![pack_row(PACK)]), &mut compressor())
}

#[test]
fn every_kind_of_entry_comes_back_and_inline_chunks_with_them() {
    let mut writer = ManifestWriter::new(&keys(), ID).unwrap();
    let plain = b"content of a tiny site";
    let inline = writer.push_chunk(&keys().chunk_id(plain), plain, &mut compressor()).unwrap();
    let mut entries = vec![(0, sample::database(&[packed()]))];
    entries.extend(sample::tree(inline, packed()).into_iter().map(|entry| (1, entry)));
    for (part, entry) in &entries {
        writer.push_entry(*part, entry, &mut compressor()).unwrap();
    }
    assert_eq!(writer.packs(), [PACK]);
    let unused = pack_row(ObjectId([0xff; 16]));
    let (bytes, place) = writer.finish(summary(vec![unused, pack_row(PACK)]), &mut compressor()).unwrap();

    let (head, found) = read(&bytes, place).unwrap();
    assert_eq!(found, entries);
    assert_eq!((head.site, head.snapshot), (sample::site(), SnapshotId([0x51; 8])));
    assert_eq!(head.parts, summary(Vec::new()).parts);
    assert_eq!(head.packs, [pack_row(PACK)]);
    let trailer = Trailer::parse(&bytes, place.len).unwrap();
    assert_eq!((trailer.offset, trailer.stored_len), (place.head_offset, place.head_len));

    let opener = ObjectOpener::from_header(&keys(), &bytes, ObjectKind::Manifest, ID).unwrap();
    let mut frame = bytes[inline.offset as usize..][..inline.stored_len as usize].to_vec();
    let mut out = Vec::new();
    opener.open_chunk(&inline, &mut frame, &mut Decompressor::new().unwrap(), &mut out).unwrap();
    assert_eq!(out, plain);
}

#[test]
fn pages_are_cut_by_entries_by_bytes_and_by_part() {
    let many = |count: u32, name_len: usize| -> Vec<Entry> {
        let base = sample::tree(packed(), packed()).swap_remove(1);
        let named = |n| sample::path(format!("{n:0name_len$}"));
        (0..count).map(|n| Entry { path: named(n), ..base.clone() }).collect()
    };
    let mut entries: Vec<(u32, Entry)> = many(5_000, 8).into_iter().map(|entry| (0, entry)).collect();
    entries.extend(many(3_000, 255).into_iter().map(|entry| (2, entry)));
    let (bytes, place) = written(&entries).unwrap();
    let (head, found) = read(&bytes, place).unwrap();
    assert!(found == entries);
    let counts: Vec<u32> = head.pages_of(0).iter().map(|page| page.entries).collect();
    assert_eq!(counts.iter().sum::<u32>(), 5_000);
    assert!(counts.iter().all(|count| *count <= PAGE_ENTRIES), "{counts:?}");
    assert!(head.pages_of(1).is_empty() && head.pages_of(3).is_empty());
    assert!(head.pages_of(2).len() > 3, "{}", head.pages_of(2).len());
    assert!(head.pages_of(2).iter().all(|page| page.entries < 1_000));
    assert_eq!(head.pages_of(2)[0].first, entries[5_000].1.path);
}

#[test]
fn an_empty_site_has_a_manifest_too() {
    let (bytes, place) = written(&[]).unwrap();
    let (head, entries) = read(&bytes, place).unwrap();
    assert!(entries.is_empty() && head.pages.is_empty() && head.packs.is_empty());
    assert_eq!(head.parts.len(), 4);
}

// Explains invariant: read-what-was-written
#[test]
fn an_entry_no_reader_would_accept_is_refused_by_the_writer() {
    let good = || sample::tree(packed(), packed());
    let check = |what: &str, change: fn(&mut Entry)| {
        let mut entry = good().swap_remove(7);
        change(&mut entry);
        let error = written(&[(1, entry.clone())]).unwrap_err();
        assert_eq!(error.fault(), Fault::Bug, "{what}: {error}");
        // A reader refuses it as well.
        let mut items = Vec::new();
        put_entry(&entry, &mut minicbor::Encoder::new(&mut items), |_| 1);
        let packs = [pack_row(PACK)];
        let refs = Refs { own: ID, packs: &packs };
        assert!(take_entry(&mut In::new(&items), &refs).is_err(), "{what}");
    };
    check("a gap", |entry| entry.metadata.size += 1);
    check("too much", |entry| entry.metadata.size -= 1);
    check("content of a directory", |entry| entry.kind = EntryKind::Directory);
    check("an empty hole", |entry| entry.extents.push(Extent::Hole { len: 0 }));
    check("an overflow", |entry| entry.extents.push(Extent::Hole { len: u64::MAX }));
    check("mode", |entry| entry.metadata.mode = 0o10_000);
    check("nanoseconds", |entry| entry.metadata.modified = FileTime { seconds: 0, nanoseconds: 1_000_000_000 });
    check("xattrs out of order", |entry| {
        let xattr = |name: &[u8]| Xattr { name: name.to_vec(), value: Vec::new() };
        entry.metadata.xattrs = vec![xattr(b"b"), xattr(b"a")];
    });
    check("an xattr twice", |entry| {
        entry.metadata.xattrs = vec![Xattr { name: b"a".to_vec(), value: Vec::new() }; 2];
    });
    check("a hard link to what comes after", |entry| {
        entry.extents.clear();
        entry.kind = EntryKind::HardLink { to: entry.path.clone() };
    });
    check("a symlink to nowhere", |entry| {
        entry.extents.clear();
        entry.kind = EntryKind::Symlink { target: Vec::new() };
    });
    check("a chunk in the header", |entry| {
        if let Extent::Chunk(chunk) = &mut entry.extents[0] {
            chunk.offset = 107;
        }
    });
}

#[test]
fn entries_out_of_order_or_of_unknown_parts_and_packs_are_refused() {
    let tree = sample::tree(packed(), packed());
    let pick = |at: usize| tree[at].clone();
    let refused = |entries: &[(u32, Entry)]| assert_eq!(written(entries).unwrap_err().fault(), Fault::Bug);
    refused(&[(1, pick(1)), (1, pick(0))]);
    refused(&[(1, pick(1)), (1, pick(1))]);
    refused(&[(1, pick(0)), (0, pick(1))]);
    refused(&[(4, pick(0))]);
    let mut writer = ManifestWriter::new(&keys(), ID).unwrap();
    writer.push_entry(0, &pick(1), &mut compressor()).unwrap();
    assert!(writer.finish(summary(Vec::new()), &mut compressor()).is_err());
    let mut writer = ManifestWriter::new(&keys(), ID).unwrap();
    writer.push_entry(0, &pick(7), &mut compressor()).unwrap();
    let short = PackRow { len: 600, ..pack_row(PACK) };
    assert!(writer.finish(summary(vec![short]), &mut compressor()).is_err());
}

#[test]
fn a_page_that_is_not_what_the_head_says_is_damage() {
    let entries: Vec<_> = sample::tree(packed(), packed()).into_iter().map(|entry| (1, entry)).collect();
    let (bytes, place) = written(&entries).unwrap();
    let (head, _) = read(&bytes, place).unwrap();
    let opener = ObjectOpener::from_header(&keys(), &bytes, ObjectKind::Manifest, ID).unwrap();
    let open = |head: &ManifestHead, page: &PageRef| {
        let mut frame = bytes[head.pages[0].offset as usize..][..head.pages[0].stored_len as usize].to_vec();
        decode_page(&opener, head, page, &mut frame, &mut Decompressor::new().unwrap())
    };
    let page = head.pages[0].clone();
    assert!(open(&head, &page).is_ok());
    let damaged = |result: Result<Vec<Entry>>| assert_eq!(result.unwrap_err().fault(), Fault::Damage);
    damaged(open(&head, &PageRef { entries: 9, ..page.clone() }));
    damaged(open(&head, &PageRef { first: sample::path("b"), ..page.clone() }));
    damaged(open(&head, &PageRef { offset: page.offset + 1, ..page.clone() }));
    damaged(open(&ManifestHead { packs: Vec::new(), ..head.clone() }, &page));
    let short = PackRow { len: 600, ..pack_row(PACK) };
    damaged(open(&ManifestHead { packs: vec![short], ..head.clone() }, &page));
}

#[test]
fn a_head_that_contradicts_itself_is_damage() {
    let entries: Vec<_> = sample::tree(packed(), packed()).into_iter().map(|entry| (1, entry)).collect();
    let (bytes, place) = written(&entries).unwrap();
    let (head, _) = read(&bytes, place).unwrap();
    let check = |what: &str, change: &dyn Fn(&mut ManifestHead)| {
        let mut changed = head.clone();
        change(&mut changed);
        assert!(changed.check(place.head_offset).is_err(), "{what}");
    };
    assert!(head.check(place.head_offset).is_ok());
    check("a page of no part", &|head| head.pages[0].part = 4);
    check("a page in the header", &|head| head.pages[0].offset = 0);
    check("a page in the head", &|head| head.pages[0].offset = place.head_offset);
    check("a page beyond everything", &|head| head.pages[0].offset = u64::MAX);
    check("a page of nothing", &|head| head.pages[0].entries = 0);
    check("a page twice", &|head| head.pages.push(head.pages[0].clone()));
}
