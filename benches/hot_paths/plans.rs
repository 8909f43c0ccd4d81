//! What is decided about a site of many files before the first byte moves.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use lifeboat_format::{Decompressor, ManifestHead, ObjectKind, ObjectOpener, decode_manifest_head, decode_page};
use lifeboat_model::{Entry, EntryKind};
use lifeboat_repo::{FetchLimits, Wanted, plan_fetches};
use lifeboat_source::files::{Scope, plan_merge};

use crate::samples;

const FILES: usize = 100_000;
/// One file in so many is otherwise than wanted, and one is not there.
const CHANGED: usize = 100;

/// Which reads to make for the chunks of a site.
#[divan::bench]
fn plan(bencher: Bencher<'_, '_>) {
    let entries = samples::entries(samples::scaled(FILES));
    let mut wanted: Vec<Wanted> =
        entries.iter().flat_map(Entry::chunks).map(|chunk| Wanted { chunk: *chunk, tag: 0 }).collect();
    wanted.sort_unstable_by_key(|wanted| (wanted.chunk.pack, wanted.chunk.offset));
    let bytes_max = FetchLimits::default().fetch_bytes_max();
    bencher.counter(ItemsCount::new(wanted.len())).bench(|| plan_fetches(black_box(&wanted), bytes_max));
}

/// A manifest's head and all its pages, opened and decoded.
#[divan::bench]
fn manifest(bencher: Bencher<'_, '_>) {
    let (keys, entries) = (samples::keys(), samples::entries(samples::scaled(FILES)));
    let (bytes, reference) = samples::manifest(&keys, &entries);
    let opener = ObjectOpener::from_header(&keys, &bytes, ObjectKind::Manifest, reference.id).expect("its key");
    let read = |bytes: &mut Vec<u8>| {
        let mut decompressor = Decompressor::new().expect("a zstd context");
        let (from, len) = (reference.head_offset as usize, reference.head_len as usize);
        let head = &mut bytes[from..from + len];
        let head = decode_manifest_head(&opener, reference.head_offset, head, &mut decompressor).expect("a head");
        pages(&opener, &head, bytes, &mut decompressor)
    };
    assert_eq!(read(&mut bytes.clone()), entries.len());
    let counted = bencher.counter(BytesCount::of_slice(&bytes)).counter(ItemsCount::new(entries.len()));
    counted.with_inputs(|| bytes.clone()).bench_refs(read);
}

fn pages(opener: &ObjectOpener, head: &ManifestHead, bytes: &mut [u8], decompressor: &mut Decompressor) -> usize {
    let decoded = head.pages.iter().map(|page| {
        let frame = &mut bytes[page.offset as usize..][..page.stored_len as usize];
        decode_page(opener, head, page, frame, decompressor).expect("a page").len()
    });
    decoded.sum()
}

/// What has to change for a live tree to become the wanted one.
#[divan::bench]
fn merge(bencher: Bencher<'_, '_>) {
    let files = samples::scaled(FILES);
    let wanted = samples::entries(files);
    let mut number = 0;
    let live = wanted.iter().filter_map(|entry| {
        let mut entry = entry.clone();
        number += usize::from(entry.kind == EntryKind::File);
        entry.metadata.size += u64::from(entry.kind == EntryKind::File && number % CHANGED == 1);
        (entry.kind != EntryKind::File || number % CHANGED != 2).then_some(entry)
    });
    let live: Vec<Entry> = live.collect();
    let plan = || plan_merge(black_box(&live), black_box(&wanted), Scope::Whole, &mut |_, _| true);
    assert_eq!(plan().actions.len(), 2 * files / CHANGED, "each changed file and each that is not there");
    bencher.counter(ItemsCount::new(wanted.len())).bench(plan);
}
