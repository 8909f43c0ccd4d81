//! Which looks tell of a moment, and what they say of it.

use lifeboat_model::{
    ChunkId, ChunkRef, EntryMetadata, Generation, ManifestRef, Mark, ObjectId, PointState, SourceKind,
};

use super::*;

/// A file that was last written and changed at the same second.
fn entry(path: &str, kind: EntryKind, content: u8, modified: i64) -> Entry {
    let chunk =
        ChunkRef { id: ChunkId([content; 32]), pack: ObjectId([content; 16]), offset: 0, stored_len: 1, raw_len: 1 };
    let metadata = EntryMetadata {
        mode: 0o644,
        uid: 0,
        gid: 0,
        modified: FileTime { seconds: modified, nanoseconds: 0 },
        changed: FileTime { seconds: modified, nanoseconds: 0 },
        inode: 0,
        size: u64::from(kind == EntryKind::File),
        xattrs: Vec::new(),
    };
    let extents = if kind == EntryKind::File { vec![Extent::Chunk(chunk)] } else { Vec::new() };
    Entry { path: EntryPath::new(path).unwrap(), kind, metadata, extents }
}

fn file(path: &str, content: u8, modified: i64) -> Entry {
    entry(path, EntryKind::File, content, modified)
}

#[test]
fn a_file_that_either_scan_saw_and_that_was_there_at_the_moment_is_there() {
    let check = |earlier: &[Entry], later: &[Entry], want: &[(&str, i64)]| {
        let mut union = Union { entries: by_path(earlier.to_vec()), uncertain: BTreeSet::new() };
        union.add(later.to_vec(), Timestamp(100_000_000));
        let got: Vec<(String, i64)> =
            union.finish().iter().map(|entry| (entry.path.to_string(), entry.metadata.modified.seconds)).collect();
        let want: Vec<(String, i64)> = want.iter().map(|(path, at)| ((*path).to_owned(), *at)).collect();
        assert_eq!(got, want, "{earlier:?} {later:?}");
    };
    let directory = |path: &str| entry(path, EntryKind::Directory, 0, 1);
    check(&[file("a", 1, 50)], &[file("a", 1, 50)], &[("a", 50)]);
    // Removed in between: it may have been there still.
    check(&[file("a", 1, 50)], &[], &[("a", 50)]);
    // Made in between, before the moment or after it.
    check(&[], &[file("a", 1, 90)], &[("a", 90)]);
    check(&[], &[file("a", 1, 110)], &[]);
    // Written in between.
    check(&[file("a", 1, 50)], &[file("a", 2, 90)], &[("a", 90)]);
    check(&[file("a", 1, 50)], &[file("a", 2, 110)], &[("a", 50)]);
    // Put back after the moment: what was put back was not there then, unless nothing else was.
    let put_back = |modified| {
        let mut entry = file("a", 3, modified);
        entry.metadata.changed.seconds = 120;
        entry
    };
    check(&[file("a", 1, 50)], &[put_back(40)], &[("a", 50)]);
    check(&[file("a", 1, 50)], &[put_back(60)], &[("a", 60)]);
    check(&[], &[put_back(40)], &[("a", 40)]);
    // Put back before the moment, and as it was then since.
    let mut settled = put_back(40);
    settled.metadata.changed.seconds = 95;
    check(&[file("a", 1, 50)], &[settled], &[("a", 40)]);
    // A directory comes with what is in it, and not for itself.
    check(&[], &[directory("d"), file("d/a", 1, 90)], &[("d", 1), ("d/a", 90)]);
    check(&[], &[directory("d"), file("d/a", 1, 110)], &[]);
    // What was a directory stays one.
    check(&[directory("d"), file("d/a", 1, 50)], &[file("d", 2, 90)], &[("d", 1), ("d/a", 50)]);
}

/// A look that took two seconds: a snapshot or a scan, whole or with holes.
fn record(number: u8, from: i64, is_scan: bool, is_whole: bool) -> SnapshotRecord {
    let source = SourceName::new("files").unwrap();
    let (cut_from, cut_till) = (Timestamp(from), Timestamp(from + 2));
    let status = if is_whole { PartStatus::Complete } else { PartStatus::Incomplete { problems: 1 } };
    let part = PartRecord { source, kind: SourceKind::Files, status, entries: 1, logical_bytes: 1, cut_from, cut_till };
    SnapshotRecord {
        id: SnapshotId([number; 8]),
        generation: Generation(u64::from(number)),
        manifest: ManifestRef { id: ObjectId([0; 16]), len: 0, head_offset: 0, head_len: 0 },
        mark: if is_scan || !is_whole { Mark::Incomplete } else { Mark::Good },
        mark_reason: None,
        state: PointState::ReadBack,
        cut_from,
        cut_till,
        parent: None,
        entries: 1,
        logical_bytes: 1,
        added_bytes: 0,
        parts: vec![part],
        restore: None,
        moment: None,
        is_scan,
        forgotten: None,
    }
}

#[test]
fn a_moment_is_told_by_the_last_whole_look_before_it_and_what_came_until_the_next_whole_one() {
    let files = SourceName::new("files").unwrap();
    let choose = |records: &[SnapshotRecord], (rows_from, at): (i64, i64), want: (u8, &[u8], Option<i64>)| {
        let looks = records.iter().filter_map(|record| look_at(record, &files)).collect();
        let (base, rows_from) = (SnapshotId([1; 8]), Timestamp(rows_from));
        let around = around(looks, Moment { base, rows_from, at: Timestamp(at) }).unwrap();
        let later: Vec<u8> = around.later.iter().map(|look| look.record.id.0[0]).collect();
        let got = (around.before.record.id.0[0], later.as_slice(), around.after_from.map(|time| time.0));
        assert_eq!(got, want, "{at}");
    };
    let check = |records: &[SnapshotRecord], at: i64, want: (u8, &[u8], Option<i64>)| choose(records, (at, at), want);
    let night = |number, from| record(number, from, false, true);
    let scan = |number, from| record(number, from, true, true);
    let holes = |number, from| record(number, from, true, false);
    let records = [night(1, 0), scan(2, 10), scan(3, 20), night(4, 30)];
    check(&records, 5, (1, &[2], Some(10)));
    check(&records, 15, (2, &[3], Some(20)));
    check(&records, 22, (3, &[4], Some(30)));
    // Under way at the moment: neither before it nor after.
    check(&records, 21, (2, &[3, 4], Some(30)));
    check(&records, 40, (4, &[], None));
    // What has holes replaces nothing, and adds what it saw.
    let records = [night(1, 0), holes(2, 10), holes(3, 20), holes(4, 30), scan(5, 40)];
    check(&records, 25, (1, &[3, 4, 5], Some(30)));
    // A snapshot with holes is none of the files either; one that a clock says is later still is the base.
    check(&[night(1, 0), record(2, 10, false, false)], 15, (1, &[], None));
    check(&[night(1, 0)], -5, (1, &[], None));
    // Rows that are older need the files of then, and of what lies between only the newest.
    let lag = i64::try_from(ROWS_LAG.as_micros()).unwrap();
    let records = [night(1, 0), scan(2, 10), scan(3, 20), scan(4, lag), scan(5, lag + 20), night(6, lag + 40)];
    choose(&records, (5, lag + 35), (1, &[3, 4, 5, 6], Some(lag + 40)));
    choose(&records, (15, lag + 30), (2, &[3, 4, 5, 6], Some(lag + 40)));
    choose(&records, (15, 2 * lag + 50), (2, &[6], None));
}
