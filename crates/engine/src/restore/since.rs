//! Files that nobody has scanned since the moment: what is live now is the only later look there is.
//!
//! A file that is live, and was last written between the scan before the moment and the moment, was there then: a row
//! that was written with it is put back, so it stays. In place only: elsewhere nothing is live.

use std::collections::BTreeSet;

use lifeboat_model::{Entry, EntryKind, EntryPath, Timestamp};
use lifeboat_source::files::Scope;

use super::facts::{Facts, LivePart, PartFacts};
use super::{RestoreRequest, RestoreTarget};

/// Leaves what was written before the moment as it is: neither wanted otherwise, nor looked at.
pub(super) fn keep_written(facts: &mut Facts, part: &mut PartFacts, request: &RestoreRequest) {
    let Some(replayed) = &mut facts.replayed else { return };
    let is_unscanned = replayed.unscanned.contains(&part.source) && part.scope == Scope::Whole;
    let LivePart::Files(Some(live)) = &mut part.live else { return };
    if !is_unscanned || request.target != RestoreTarget::InPlace {
        return;
    }
    let kept = written_between(live, &part.wanted, facts.at);
    if kept.is_empty() {
        return;
    }
    let above: BTreeSet<EntryPath> =
        kept.iter().flat_map(|path| std::iter::successors(path.parent(), EntryPath::parent)).collect();
    let is_kept = |entry: &Entry| kept.contains(&entry.path);
    let is_wanted = |path: &EntryPath| part.wanted.iter().any(|entry| entry.path == *path);
    let directories: Vec<Entry> = live
        .iter()
        .filter(|entry| entry.kind == EntryKind::Directory && above.contains(&entry.path) && !is_wanted(&entry.path))
        .cloned()
        .collect();
    let mut wanted: Vec<Entry> = part.wanted.iter().filter(|entry| !is_kept(entry)).cloned().collect();
    wanted.extend(directories);
    wanted.sort_by(|a, b| a.path.cmp(&b.path));
    part.wanted = wanted.into();
    *live = live.iter().filter(|entry| !is_kept(entry)).cloned().collect();
    let files = if kept.len() == 1 { "1 file stays as it is" } else { "files stay as they are" };
    let count = if kept.len() == 1 { String::new() } else { format!("{} ", kept.len()) };
    replayed
        .notes
        .push((part.source.clone(), format!("{count}{files} live: written before the moment, in no snapshot")));
    part.excluded.extend(kept);
}

/// Live files that the scan before the moment had not, or had otherwise, and that were last written before it.
fn written_between(live: &[Entry], wanted: &[Entry], at: Timestamp) -> BTreeSet<EntryPath> {
    let is_file = |entry: &&Entry| matches!(entry.kind, EntryKind::File | EntryKind::Symlink { .. });
    let is_before = |entry: &&Entry| {
        let modified = entry.metadata.modified;
        let micros = modified.seconds.saturating_mul(1_000_000).saturating_add(i64::from(modified.nanoseconds / 1_000));
        micros <= at.0
    };
    let differs = |entry: &&Entry| match wanted.binary_search_by(|wanted| wanted.path.cmp(&entry.path)) {
        Err(_) => !has_file_above(wanted, &entry.path),
        Ok(place) => {
            let was = &wanted[place];
            let is_newer = entry.metadata.modified > was.metadata.modified;
            was.kind == EntryKind::File && entry.kind == EntryKind::File && is_newer
        }
    };
    live.iter().filter(is_file).filter(is_before).filter(differs).map(|entry| entry.path.clone()).collect()
}

/// What is a file at the moment has nothing in it.
fn has_file_above(wanted: &[Entry], path: &EntryPath) -> bool {
    let mut above = std::iter::successors(path.parent(), EntryPath::parent);
    above.any(|path| {
        let place = wanted.binary_search_by(|wanted| wanted.path.cmp(&path));
        place.is_ok_and(|place| wanted[place].kind != EntryKind::Directory)
    })
}

#[cfg(test)]
mod tests {
    use lifeboat_model::{EntryMetadata, FileTime};

    use super::*;

    fn entry(path: &str, kind: EntryKind, seconds: i64) -> Entry {
        let metadata = EntryMetadata {
            mode: 0o644,
            uid: 0,
            gid: 0,
            modified: FileTime { seconds, nanoseconds: 0 },
            changed: FileTime::default(),
            inode: 0,
            size: 0,
            xattrs: Vec::new(),
        };
        Entry { path: EntryPath::new(path).unwrap(), kind, metadata, extents: Vec::new() }
    }

    #[test]
    fn what_was_written_between_the_scan_and_the_moment_is_kept_and_nothing_else() {
        let file = |path: &str, seconds| entry(path, EntryKind::File, seconds);
        let directory = |path: &str| entry(path, EntryKind::Directory, 0);
        let check = |live: &[Entry], wanted: &[Entry], want: &[&str]| {
            let kept = written_between(live, wanted, Timestamp(100_000_000));
            let kept: Vec<String> = kept.iter().map(ToString::to_string).collect();
            assert_eq!(kept, want, "{live:?} {wanted:?}");
        };
        check(&[file("a", 50)], &[file("a", 50)], &[]);
        check(&[file("a", 90)], &[file("a", 50)], &["a"]);
        check(&[file("a", 110)], &[file("a", 50)], &[]);
        check(&[file("new", 90)], &[file("a", 50)], &["new"]);
        check(&[file("new", 110)], &[file("a", 50)], &[]);
        // One that was put back to an older time by hand is no later one.
        check(&[file("a", 40)], &[file("a", 50)], &[]);
        check(&[directory("d"), file("d/new", 90)], &[file("d", 50)], &[]);
    }
}
