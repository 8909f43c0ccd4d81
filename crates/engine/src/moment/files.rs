//! Files at a moment between two scans: what either of them saw that was there then. A pure decision.
//!
//! A path that both scans saw alike is as they saw it. Where they differ, the newer one counts if its file was
//! last written before the moment. What only the earlier one saw may have been there still, and stays: no row
//! comes back without its attachment. What only the later one saw counts if it was written before the moment.

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_model::{Entry, EntryKind, EntryPath, FileTime, PartStatus, SnapshotRecord, SourceName, Timestamp};
use lifeboat_repo::{Manifest, Site};

use super::{Replayed, is_base};
use crate::Error;

/// Puts a part of files to the moment, by the scan before it and the first one after.
pub(super) async fn replace_part(
    site: &Site,
    (before, at): (&SnapshotRecord, Timestamp),
    number: usize,
    manifest: &mut Manifest,
    replayed: &mut Replayed,
) -> Result<(), Error> {
    let source = manifest.head().parts[number].record.source.clone();
    let Some((later, later_part, scanned_at)) = scan_after(site, (before, at), &source).await? else {
        let note = format!("files are those of {}: they were not looked at since", before.cut_till);
        replayed.unscanned.push(source.clone());
        replayed.notes.push((source, note));
        return Ok(());
    };
    let earlier = manifest.entries(site, number).await?;
    let union = union(earlier, later.entries(site, later_part).await?, at);
    if union.uncertain > 0 {
        let note = format!(
            "{} files changed between {} and {scanned_at}: each is the newest one written before the moment, and what \
             was removed in between is kept",
            union.uncertain, before.cut_till
        );
        replayed.notes.push((source, note));
    }
    let status = match &manifest.head().parts[number].record.status {
        PartStatus::Absent if !union.entries.is_empty() => PartStatus::Complete,
        status => status.clone(),
    };
    manifest.adopt(&later);
    manifest.replace_part(number, status, union.entries);
    Ok(())
}

/// The first scan of the part that began after the moment.
async fn scan_after(
    site: &Site,
    (before, at): (&SnapshotRecord, Timestamp),
    source: &SourceName,
) -> Result<Option<(Manifest, usize, Timestamp)>, Error> {
    let is_after = |record: &&SnapshotRecord| is_base(record) && record.id != before.id && record.cut_from >= at;
    for record in site.state().snapshots.iter().filter(is_after) {
        let whole = |part: &lifeboat_model::PartRecord| {
            part.source == *source && matches!(part.status, PartStatus::Complete | PartStatus::Absent)
        };
        if record.parts.iter().any(whole) {
            let manifest = site.manifest(&record.manifest).await?;
            let found = manifest.part(source).map(|(number, _)| number);
            return Ok(found.map(|number| (manifest, number, record.cut_from)));
        }
    }
    Ok(None)
}

struct Union {
    entries: Vec<Entry>,
    /// Paths at which the scans differ.
    uncertain: u64,
}

fn union(earlier: Vec<Entry>, later: Vec<Entry>, at: Timestamp) -> Union {
    let mut entries: BTreeMap<EntryPath, Entry> =
        earlier.into_iter().map(|entry| (entry.path.clone(), entry)).collect();
    let seen_later: BTreeSet<EntryPath> = later.iter().map(|entry| entry.path.clone()).collect();
    let is_file = |entry: &Entry| entry.kind != EntryKind::Directory;
    let removed = entries.values().filter(|entry| is_file(entry) && !seen_later.contains(&entry.path)).count() as u64;
    let mut uncertain = removed;
    let mut directories = Vec::new();
    for entry in later {
        let was = entries.get(&entry.path);
        let is_same = was.is_some_and(|was| was.kind == entry.kind && was.extents == entry.extents);
        if is_same || entry.kind == EntryKind::Absent {
            continue;
        }
        if entry.kind == EntryKind::Directory {
            directories.push(entry); // needed where something in it is
            continue;
        }
        uncertain += 1;
        // A path that was a directory stays one: what is in it would have no place.
        let fits = was.is_none_or(is_file);
        if is_written_before(entry.metadata.modified, at) && fits {
            entries.insert(entry.path.clone(), entry);
        }
    }
    let needed: BTreeSet<EntryPath> = entries.keys().flat_map(ancestors).collect();
    for directory in directories.into_iter().filter(|directory| needed.contains(&directory.path)) {
        entries.entry(directory.path.clone()).or_insert(directory);
    }
    drop_dangling_links(&mut entries);
    Union { entries: entries.into_values().collect(), uncertain }
}

/// A further name whose file is not there any more, or is another one now, is a name of nothing.
fn drop_dangling_links(entries: &mut BTreeMap<EntryPath, Entry>) {
    let is_file = |path: &EntryPath| entries.get(path).is_some_and(|entry| entry.kind == EntryKind::File);
    let dangling: Vec<EntryPath> = entries
        .values()
        .filter(|entry| matches!(&entry.kind, EntryKind::HardLink { to } if !is_file(to)))
        .map(|entry| entry.path.clone())
        .collect();
    for path in dangling {
        entries.remove(&path);
    }
}

fn ancestors(path: &EntryPath) -> Vec<EntryPath> {
    std::iter::successors(path.parent(), EntryPath::parent).collect()
}

fn is_written_before(modified: FileTime, at: Timestamp) -> bool {
    let micros = modified.seconds.saturating_mul(1_000_000).saturating_add(i64::from(modified.nanoseconds / 1_000));
    micros <= at.0
}

#[cfg(test)]
mod tests {
    use lifeboat_model::{ChunkId, ChunkRef, EntryMetadata, Extent, ObjectId};

    use super::*;

    fn entry(path: &str, kind: EntryKind, content: u8, modified: i64) -> Entry {
        let chunk = ChunkRef {
            id: ChunkId([content; 32]),
            pack: ObjectId([content; 16]),
            offset: 0,
            stored_len: 1,
            raw_len: 1,
        };
        let metadata = EntryMetadata {
            mode: 0o644,
            uid: 0,
            gid: 0,
            modified: FileTime { seconds: modified, nanoseconds: 0 },
            changed: FileTime::default(),
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
            let union = union(earlier.to_vec(), later.to_vec(), Timestamp(100_000_000));
            let got: Vec<(String, i64)> =
                union.entries.iter().map(|entry| (entry.path.to_string(), entry.metadata.modified.seconds)).collect();
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
        // A directory comes with what is in it, and not for itself.
        check(&[], &[directory("d"), file("d/a", 1, 90)], &[("d", 1), ("d/a", 90)]);
        check(&[], &[directory("d"), file("d/a", 1, 110)], &[]);
        // What was a directory stays one.
        check(&[directory("d"), file("d/a", 1, 50)], &[file("d", 2, 90)], &[("d", 1), ("d/a", 50)]);
    }
}
