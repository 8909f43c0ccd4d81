//! Whatever is written comes back, and whatever bytes come, nothing panics.

use std::sync::Arc;

use lifeboat_format::*;
use lifeboat_model::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::sample;
use crate::vectors::{self, MANIFEST, site_keys};

fn config() -> ProptestConfig {
    ProptestConfig { cases: 96, ..ProptestConfig::default() }
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,24}"
}

fn site() -> impl Strategy<Value = SiteId> {
    "[^\\p{Cc}]{1,40}".prop_filter_map("control characters", |text| SiteId::new(text).ok())
}

fn source() -> impl Strategy<Value = SourceName> {
    "[a-z0-9][a-z0-9_-]{0,12}".prop_map(|text| SourceName::new(text).unwrap())
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp)
}

fn mark() -> impl Strategy<Value = Mark> {
    prop::sample::select(vec![Mark::Good, Mark::Incomplete, Mark::Suspect, Mark::Undo])
}

fn point_state() -> impl Strategy<Value = PointState> {
    prop::sample::select(vec![PointState::Written, PointState::ReadBack, PointState::Proven])
}

fn writer() -> impl Strategy<Value = WriterIdentity> {
    (text(), text(), text(), any::<u32>(), any::<u64>())
        .prop_map(|(host, machine, boot, pid, started)| WriterIdentity { host, machine, boot, pid, started })
}

fn part() -> impl Strategy<Value = PartRecord> {
    let status = prop_oneof![
        Just(PartStatus::Complete),
        Just(PartStatus::Absent),
        any::<u64>().prop_map(|problems| PartStatus::Incomplete { problems }),
        text().prop_map(|reason| PartStatus::Failed { reason }),
    ];
    let kind = prop::sample::select(vec![SourceKind::Files, SourceKind::Sqlite, SourceKind::Postgres]);
    (source(), kind, status, any::<[u64; 2]>(), time(), time()).prop_map(
        |(source, kind, status, [entries, logical_bytes], cut_from, cut_till)| PartRecord {
            source,
            kind,
            status,
            entries,
            logical_bytes,
            cut_from,
            cut_till,
        },
    )
}

fn snapshot() -> impl Strategy<Value = SnapshotRecord> {
    let manifest = (any::<[u8; 16]>(), any::<[u64; 2]>(), any::<u32>())
        .prop_map(|(id, [len, head_offset], head_len)| ManifestRef { id: ObjectId(id), len, head_offset, head_len });
    let ids = (any::<[u8; 8]>(), option::of(any::<[u8; 8]>()), option::of(any::<[u8; 8]>()), any::<[u64; 4]>());
    (ids, manifest, mark(), option::of(text()), point_state(), vec(part(), 0..4), time(), time()).prop_map(
        |((id, parent, restore, numbers), manifest, mark, mark_reason, state, parts, cut_from, cut_till)| {
            SnapshotRecord {
                id: SnapshotId(id),
                generation: Generation(numbers[0]),
                manifest,
                mark,
                mark_reason,
                state,
                cut_from,
                cut_till,
                parent: parent.map(SnapshotId),
                entries: numbers[1],
                logical_bytes: numbers[2],
                added_bytes: numbers[3],
                parts,
                is_scan: numbers[0] % 2 == 1,
                moment: restore.map(|id| format!("lsn:0/{}", id[0])),
                restore: restore.map(RestoreId),
                forgotten: None,
            }
        },
    )
}

fn hold() -> impl Strategy<Value = Hold> {
    let reason = prop::sample::select(vec![HoldReason::Shrank, HoldReason::Vanished, HoldReason::Asked]);
    (any::<[u8; 8]>(), reason, text(), time()).prop_map(|(id, reason, note, placed_at)| Hold {
        id: HoldId(id),
        reason,
        note,
        placed_at,
    })
}

fn drill_end() -> impl Strategy<Value = DrillEnd> {
    (proven(), any::<bool>()).prop_map(|(proven, is_well)| match is_well {
        true => DrillEnd::Proven(proven),
        false => DrillEnd::Failed(DrillFailed { at: proven.at, drill: proven.drill }),
    })
}

fn proven() -> impl Strategy<Value = Proven> {
    (time(), time(), any::<u32>(), any::<[u8; 8]>()).prop_map(|(at, moment, micros, drill)| Proven {
        at,
        moment,
        took: std::time::Duration::from_micros(micros.into()),
        drill: RecoveryId(drill),
    })
}

fn intent() -> impl Strategy<Value = RestoreIntent> {
    (any::<[u8; 8]>(), any::<[u8; 8]>(), vec(source(), 0..3), time(), writer(), option::of(any::<[u8; 8]>())).prop_map(
        |(restore, snapshot, parts, opened_at, owner, takes_over)| RestoreIntent {
            restore: RestoreId(restore),
            snapshot: SnapshotId(snapshot),
            parts,
            opened_at,
            owner,
            moment: takes_over.map(|id| format!("lsn:0/{}", id[0])),
            keeps_later: takes_over.is_some_and(|id| id[0] % 2 == 0),
            takes_over: takes_over.map(RestoreId),
        },
    )
}

fn index_ref() -> impl Strategy<Value = IndexRef> {
    (any::<[u8; 16]>(), any::<u64>(), any::<u64>()).prop_map(|(id, len, chunks)| IndexRef {
        id: ObjectId(id),
        len,
        chunks,
    })
}

fn event() -> impl Strategy<Value = CommitEvent> {
    let id = || any::<[u8; 8]>();
    let outcome =
        prop::sample::select(vec![RestoreOutcome::Completed, RestoreOutcome::Partial, RestoreOutcome::Abandoned]);
    prop_oneof![
        (snapshot(), option::of(index_ref()))
            .prop_map(|(snapshot, index)| CommitEvent::Published { snapshot: Box::new(snapshot), index }),
        (id(), point_state(), option::of(drill_end())).prop_map(|(id, state, drill)| CommitEvent::StateChanged {
            snapshot: SnapshotId(id),
            state,
            drill,
        }),
        (id(), mark(), text()).prop_map(|(id, mark, reason)| CommitEvent::Marked {
            snapshot: SnapshotId(id),
            mark,
            reason
        }),
        hold().prop_map(CommitEvent::HoldPlaced),
        id().prop_map(|id| CommitEvent::HoldReleased { hold: HoldId(id) }),
        intent().prop_map(CommitEvent::RestoreOpened),
        (id(), outcome).prop_map(|(id, outcome)| CommitEvent::RestoreClosed { restore: RestoreId(id), outcome }),
        index_ref().prop_map(|index| CommitEvent::IndexCompacted { index }),
        (vec(id(), 0..3), forgotten(), text()).prop_map(|(ids, forgotten, reason)| CommitEvent::Forgot {
            snapshots: ids.into_iter().map(SnapshotId).collect(),
            forgotten,
            reason,
        }),
        vec(id(), 0..3).prop_map(|ids| CommitEvent::Undeleted { snapshots: ids.into_iter().map(SnapshotId).collect() }),
        (vec(id(), 0..3), objects(), vec(index_ref(), 0..3), time(), any::<u64>()).prop_map(
            |(ids, objects, indexes, at, run)| {
                let snapshots = ids.into_iter().map(SnapshotId).collect();
                CommitEvent::Condemned(Box::new(Condemnation { snapshots, objects, indexes, at, run: RunNumber(run) }))
            }
        ),
        any::<u64>().prop_map(|till| CommitEvent::Deleted { till: Generation(till) }),
        (any::<u32>(), objects(), time(), any::<u64>(), text()).prop_map(|(key, objects, at, run, reason)| {
            let (key, run) = (KeyNumber(key), RunNumber(run));
            CommitEvent::Shredded(Box::new(Shred { key, objects, at, run, reason }))
        }),
    ]
}

fn forgotten() -> impl Strategy<Value = Forgotten> {
    (time(), time()).prop_map(|(at, till)| Forgotten { at, till })
}

fn objects() -> impl Strategy<Value = SiteObjects> {
    let ids = || vec(any::<[u8; 16]>().prop_map(ObjectId), 0..3);
    (ids(), ids(), ids()).prop_map(|(manifests, indexes, packs)| SiteObjects { manifests, indexes, packs })
}

fn condemned() -> impl Strategy<Value = Condemned> {
    (any::<u64>(), time(), any::<u64>(), objects()).prop_map(|(generation, at, run, objects)| Condemned {
        generation: Generation(generation),
        at,
        run: RunNumber(run),
        objects,
    })
}

/// Forgotten snapshots lie among the others, by their generation.
fn split(mut all: Vec<(SnapshotRecord, Option<Forgotten>)>) -> (Vec<SnapshotRecord>, Vec<SnapshotRecord>) {
    all.sort_by_key(|(record, _)| record.generation);
    let marked = all.into_iter().map(|(record, forgotten)| SnapshotRecord { forgotten, ..record });
    marked.partition(|record| record.forgotten.is_none())
}

fn state() -> impl Strategy<Value = SiteState> {
    let snapshots = vec((snapshot(), option::of(forgotten())), 0..4).prop_map(split);
    let lists = (snapshots, vec(hold(), 0..3), option::of(intent()), vec(index_ref(), 0..3), vec(condemned(), 0..3));
    let numbers = (any::<u32>(), option::of(proven()));
    (site(), numbers, lists).prop_map(|(site, (key, proven), (snapshots, holds, intent, indexes, condemned))| {
        SiteState {
            site,
            key: KeyNumber(key),
            snapshots: snapshots.0,
            forgotten: snapshots.1,
            condemned,
            shredded: proven.map(|proven| Shredded { generation: Generation(7), at: proven.at }),
            holds,
            intent,
            indexes,
            proven,
            drill_failed: proven.map(|proven| DrillFailed { at: proven.moment, drill: proven.drill }),
        }
    })
}

fn commit() -> impl Strategy<Value = Commit> {
    (any::<u64>(), any::<[u8; 32]>(), any::<[u8; 16]>(), time(), writer(), event(), state()).prop_map(
        |(generation, previous, nonce, written_at, writer, event, state)| Commit {
            generation: Generation(generation),
            previous,
            nonce: ObjectId(nonce),
            written_at,
            writer,
            event,
            state,
        },
    )
}

fn run() -> impl Strategy<Value = Run> {
    let outcome = prop_oneof![
        Just(RunOutcome::Published),
        Just(RunOutcome::Unchanged),
        Just(RunOutcome::Vanished),
        text().prop_map(|reason| RunOutcome::Failed { reason }),
    ];
    let seen = (site(), any::<u64>(), option::of(any::<[u8; 8]>()), time(), outcome).prop_map(
        |(site, generation, snapshot, seen_at, outcome)| RunSite {
            site,
            generation: Generation(generation),
            snapshot: snapshot.map(SnapshotId),
            seen_at,
            outcome,
        },
    );
    let root = option::of(Just(sample::identity()));
    let found = (source(), any::<u64>(), root, option::of(text()))
        .prop_map(|(source, sites, root, failure)| RunSource { source, sites, root, failure });
    (any::<u64>(), any::<[u8; 16]>(), time(), time(), writer(), vec(found, 0..3), vec(seen, 0..6)).prop_map(
        |(number, nonce, started_at, finished_at, writer, sources, sites)| Run {
            number: RunNumber(number),
            nonce: ObjectId(nonce),
            started_at,
            finished_at,
            writer,
            sources,
            sites,
        },
    )
}

/// A chunk in one of four packs of 1 GiB, or in the manifest itself.
fn chunk() -> impl Strategy<Value = ChunkRef> {
    (any::<[u8; 32]>(), 0u8..5, 108u64..(1 << 29), 1u32..1_000_000, 1u32..1_000_000).prop_map(
        |(id, pack, offset, raw_len, more)| ChunkRef {
            id: ChunkId(id),
            pack: if pack == 0 { MANIFEST } else { ObjectId([pack; 16]) },
            offset,
            stored_len: FRAME_LEN_MIN as u32 + 1 + more % raw_len,
            raw_len,
        },
    )
}

fn extents() -> impl Strategy<Value = Vec<Extent>> {
    let extent = prop_oneof![chunk().prop_map(Extent::Chunk), (1u64..1 << 50).prop_map(|len| Extent::Hole { len })];
    vec(extent, 0..6)
}

fn entry() -> impl Strategy<Value = Entry> {
    let path =
        vec(vec(any::<u8>(), 1..8), 0..4).prop_filter_map("not a path", |names| EntryPath::new(names.join(&b'/')).ok());
    let kind = prop_oneof![
        extents().prop_map(|extents| (EntryKind::File, extents)),
        extents().prop_map(|extents| (EntryKind::File, extents)),
        (any::<u32>(), vec(any::<u8>(), 0..20), extents())
            .prop_map(|(page_size, stamp, extents)| (EntryKind::Database { page_size, stamp }, extents)),
        (any::<u64>(), any::<[u8; 32]>(), vec(any::<u8>(), 0..20), extents()).prop_map(
            |(rows, digest, definition, extents)| {
                let digest = if rows % 2 == 0 { RowsDigest::InOrder(digest) } else { RowsDigest::AnyOrder(digest) };
                (EntryKind::Table { rows, digest, definition }, extents)
            }
        ),
        Just((EntryKind::Directory, Vec::new())),
        Just((EntryKind::Fifo, Vec::new())),
        Just((EntryKind::Absent, Vec::new())),
        vec(1u8.., 1..40).prop_map(|target| (EntryKind::Symlink { target }, Vec::new())),
        Just((EntryKind::HardLink { to: EntryPath::root() }, Vec::new())),
    ];
    let time =
        || (any::<i64>(), 0u32..1_000_000_000).prop_map(|(seconds, nanoseconds)| FileTime { seconds, nanoseconds });
    let xattrs = prop::collection::btree_map(vec(any::<u8>(), 1..10), vec(any::<u8>(), 0..10), 0..3);
    (path, kind, 0u32..=0o7777, any::<[u32; 2]>(), time(), time(), any::<u64>(), xattrs).prop_map(
        |(path, (kind, extents), mode, [uid, gid], modified, changed, inode, xattrs)| {
            let size = extents.iter().map(Extent::len).sum();
            let xattrs = xattrs.into_iter().map(|(name, value)| Xattr { name, value }).collect();
            let kind = match kind {
                EntryKind::HardLink { .. } if path.is_root() => EntryKind::Directory,
                kind => kind,
            };
            let metadata = EntryMetadata { mode, uid, gid, modified, changed, inode, size, xattrs };
            Entry { path, kind, metadata, extents }
        },
    )
}

/// Writes a manifest of one part and reads it back through the head, page by page.
fn changed_value() -> impl Strategy<Value = ChangedValue> {
    prop_oneof![
        Just(ChangedValue::Null),
        Just(ChangedValue::Unchanged),
        vec(any::<u8>(), 0..12).prop_map(ChangedValue::Text),
        (any::<u8>(), 0usize..300_000).prop_map(|(byte, len)| ChangedValue::Text(vec![byte; len])),
    ]
}

/// A file, and pages of it.
fn changed_pages() -> impl Strategy<Value = (Arc<ChangedTable>, RowChange)> {
    let state = |page_size| {
        (any::<u32>(), any::<[u8; 16]>()).prop_map(move |(page_count, sum)| FileState {
            page_size,
            page_count,
            sum: PageSum::from_bytes(sum),
        })
    };
    let size = 512u32;
    let pages = proptest::collection::btree_map(1u32.., any::<u8>(), 1..4);
    let step = proptest::option::of((proptest::option::of(state(1024)), state(size)));
    (text(), pages, step).prop_map(move |(name, pages, step)| {
        let page = |(number, byte)| ChangedPage { number, bytes: vec![byte; size as usize] };
        let step = step.map(|(before, after)| FileStep { before, after: Some(after) });
        let change = PagesChange { pages: pages.into_iter().map(page).collect(), step };
        let table = ChangedTable { name, columns: Vec::new(), key: Vec::new() };
        (Arc::new(table), RowChange::Pages(Box::new(change)))
    })
}

/// A table of up to five columns, of which the first `key_len` are its key, and a change of it.
fn changed_row() -> impl Strategy<Value = (Arc<ChangedTable>, RowChange)> {
    let columns = || vec(changed_value(), 5..6);
    (text(), 1usize..6, 0usize..6, 0u8..4, columns(), columns()).prop_map(|(name, len, key_len, kind, row, key)| {
        let column = |at: usize| ChangedColumn { name: format!("c{at}"), type_name: "text".to_owned() };
        let key_len = key_len.min(len);
        let table = ChangedTable { name, columns: (0..len).map(column).collect(), key: (0..key_len).rev().collect() };
        let key = key[..if key_len == 0 { len } else { key_len }].to_vec();
        let row = row[..len].to_vec();
        let change = match kind {
            0 => RowChange::Insert { row },
            1 => RowChange::Update { row, key_before: None },
            2 => RowChange::Update { row, key_before: Some(key) },
            _ => RowChange::Delete { key },
        };
        (Arc::new(table), change)
    })
}

type PlacedChange = (TransactionHead, SiteChange);

/// Changes in the order of their places, as a site's block has them.
fn placed_changes() -> impl Strategy<Value = Vec<PlacedChange>> {
    let change = prop_oneof![4 => changed_row(), 1 => changed_pages()];
    let step = (change, 0u64..3, 1u64..1 << 40, any::<u64>(), time());
    vec(step, 0..30).prop_map(|steps| {
        let (mut changes, mut sequence) = (Vec::new(), 0);
        let mut head = TransactionHead { id: TransactionId(0), commit: Lsn(1), committed_at: Timestamp(0) };
        for ((table, change), commits, distance, id, committed_at) in steps {
            if commits == 0 {
                sequence += distance;
            } else {
                head = TransactionHead { id: TransactionId(id), commit: Lsn(head.commit.0 + commits), committed_at };
                sequence = distance;
            }
            changes.push((head, SiteChange { sequence, table, change }));
        }
        changes
    })
}

fn block_round_trip(changes: &[PlacedChange]) -> Result<Vec<PlacedChange>> {
    let mut writer = BlockWriter::new();
    for (head, SiteChange { sequence, table, change }) in changes {
        writer.push(head, *sequence, table, change)?;
    }
    let Some(block) = writer.seal(&site_keys(), ObjectId([0xb7; 16]), &mut Compressor::new()?)? else {
        return Ok(Vec::new());
    };
    let SealedBlock { id, mut bytes, counts, first, last } = block;
    let place = ObjectPlace { id, offset: 0, len: bytes.len() as u64 };
    let (keys, block) = (site_keys(), BlockRef { site: sample::site(), place, counts, first, last });
    let mut reader = BlockReader::new(&keys, &block, &mut bytes)?;
    let mut found = Vec::new();
    while let Some(frame) = reader.next_frame()? {
        let changes = frame.into_iter().flat_map(|one| one.changes.into_iter().map(move |change| (one.head, change)));
        found.extend(changes);
    }
    Ok(found)
}

fn manifest_round_trip(entries: &[Entry]) -> Result<Vec<Entry>> {
    let keys = site_keys();
    let (mut compressor, mut decompressor) = (Compressor::new()?, Decompressor::new()?);
    let mut writer = ManifestWriter::new(&keys, MANIFEST)?;
    for entry in entries {
        writer.push_entry(0, entry, &mut compressor)?;
    }
    let row = |fill: u8| PackRow {
        id: ObjectId([fill; 16]),
        len: 1 << 30,
        key: KeyNumber(1),
        sealed_key: SealedKey([fill; 60]),
    };
    let part = ManifestPart {
        record: sample::parts().swap_remove(0),
        identity: sample::identity(),
        position: Position(String::new()),
        problems: Vec::new(),
        left_out: Vec::new(),
    };
    let packs = (1..5).map(row).collect();
    let summary = ManifestSummary { site: sample::site(), snapshot: SnapshotId([1; 8]), parts: vec![part], packs };
    let (bytes, place) = writer.finish(summary, &mut compressor)?;

    let opener = ObjectOpener::from_header(&keys, &bytes, ObjectKind::Manifest, place.id)?;
    let frame = |offset: u64, len: u32| bytes[offset as usize..offset as usize + len as usize].to_vec();
    let mut head_frame = frame(place.head_offset, place.head_len);
    let head = decode_manifest_head(&opener, place.head_offset, &mut head_frame, &mut decompressor)?;
    let mut found = Vec::new();
    for page in head.pages_of(0) {
        let mut page_frame = frame(page.offset, page.stored_len);
        found.extend(decode_page(&opener, &head, page, &mut page_frame, &mut decompressor)?);
    }
    Ok(found)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_commit_comes_back(commit in commit()) {
        let bytes = encode_commit(&site_keys(), &commit).unwrap();
        prop_assert_eq!(decode_commit(&site_keys(), commit.generation, &bytes), Ok(commit));
    }

    #[test]
    fn every_run_comes_back(run in run()) {
        let keys = vectors::repository_keys();
        let bytes = encode_run(keys.object_keys(), &run).unwrap();
        prop_assert_eq!(decode_run(keys.object_keys(), run.number, &bytes), Ok(run));
    }

    #[test]
    fn every_entry_comes_back(entries in vec(entry(), 0..40)) {
        let mut entries = entries;
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        entries.dedup_by(|a, b| a.path == b.path);
        prop_assert_eq!(manifest_round_trip(&entries), Ok(entries));
    }

    #[test]
    fn every_change_of_a_row_comes_back(changes in placed_changes()) {
        prop_assert_eq!(block_round_trip(&changes), Ok(changes));
    }

    #[test]
    fn every_index_comes_back(chunks in prop::collection::btree_map(any::<[u8; 32]>(), chunk(), 0..50)) {
        let packs = (1..5u8).map(|fill| PackRow {
            id: ObjectId([fill; 16]), len: 1 << 30, key: KeyNumber(1), sealed_key: SealedKey([fill; 60]),
        });
        let row = |(id, chunk): (&[u8; 32], &ChunkRef)| IndexRow {
            chunk: ChunkId(*id),
            pack: u32::from(chunk.pack.0[0] % 4),
            offset: chunk.offset,
            stored_len: chunk.stored_len,
            raw_len: chunk.raw_len,
        };
        let segment = IndexSegment { packs: packs.collect(), chunks: chunks.iter().map(row).collect() };
        let (bytes, place) = segment.clone().encode(&site_keys(), vectors::INDEX, &mut Compressor::new().unwrap()).unwrap();
        prop_assert_eq!(place.chunks, chunks.len() as u64);
        prop_assert_eq!(IndexSegment::decode(&site_keys(), vectors::INDEX, &bytes), Ok(segment));
    }

    #[test]
    fn every_chunk_comes_back(contents in vec(vec(any::<u8>(), 1..2_000), 1..8), repeat in 1usize..50) {
        let keys = site_keys();
        let (mut compressor, mut decompressor) = (Compressor::new().unwrap(), Decompressor::new().unwrap());
        let mut pack = ObjectWriter::new(&keys, ObjectKind::Pack, vectors::PACK).unwrap();
        let contents: Vec<Vec<u8>> = contents.iter().map(|plain| plain.repeat(repeat)).collect();
        let mut chunks = Vec::new();
        for plain in &contents {
            let id = keys.chunk_id(plain);
            let Placed { offset, stored_len } = pack.push_chunk(&id, plain, &mut compressor).unwrap();
            chunks.push(ChunkRef { id, pack: vectors::PACK, offset, stored_len, raw_len: plain.len() as u32 });
        }
        let (bytes, row) = pack.finish().unwrap();
        let opener = ObjectOpener::from_pack_row(&keys, &row).unwrap();
        for (chunk, plain) in chunks.iter().zip(&contents) {
            let mut frame = bytes[chunk.offset as usize..][..chunk.stored_len as usize].to_vec();
            let mut out = Vec::new();
            opener.open_chunk(chunk, &mut frame, &mut decompressor, &mut out).unwrap();
            prop_assert_eq!(&out, plain);
        }
    }

    #[test]
    fn every_config_comes_back(
        id in any::<[u8; 16]>(),
        created in -60_000_000_000_000_000i64..200_000_000_000_000_000,
        flags in vec("[a-z-]{1,12}", 0..4),
        able in any::<bool>(),
    ) {
        let mut config = RepositoryConfig::new(ObjectId(id), Timestamp(created));
        config.write_features = flags.clone();
        config.capabilities = flags.into_iter().map(|flag| (flag, able)).collect();
        prop_assert_eq!(RepositoryConfig::decode(&config.encode().unwrap()), Ok(config));
    }

    #[test]
    fn every_key_comes_back(bytes in any::<[u8; 32]>()) {
        let key = SecretKey::from_bytes(bytes);
        let base64 = SecretKey::parse_base64(&key.to_base64());
        let typed = SecretKey::parse_recovery_text(&key.to_recovery_text());
        prop_assert_eq!(base64.map(|key| key.to_base64()), Ok(key.to_base64()));
        prop_assert_eq!(typed.map(|key| key.to_base64()), Ok(key.to_base64()));
    }

    // Explains invariant: no-panic
    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..400), text in "\\PC{0,60}") {
        for vector in vectors::all() {
            prop_assert!((vector.read)(&bytes).is_err());
        }
        let _ = (SecretKey::parse_base64(&text), SecretKey::parse_recovery_text(&text));
        let _ = names::parse_object_name(&text);
        prop_assert!(RepositoryConfig::decode(text.as_bytes()).is_err());
    }

    #[test]
    fn any_bytes_behind_a_right_header_are_read_or_refused(bytes in vec(any::<u8>(), 0..400)) {
        for vector in vectors::all() {
            let stored = vector.stored();
            let kept = (stored.len() / 2).min(HEADER_LEN + FRAME_HEADER_LEN);
            prop_assert!((vector.read)(&[&stored[..kept], &bytes].concat()).is_err());
        }
    }
}
