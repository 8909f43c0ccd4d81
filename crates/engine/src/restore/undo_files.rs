//! What a restore of files that goes on after a kill adds to the undo of its first attempt: a pure decision.
//!
//! What the first attempt kept is what was there before anything was touched, and stays, where the restore itself has been
//! at work since. But between the two the application may have written: what the second attempt finds and is going to
//! replace or remove, and what the first did not put there, is newer than what the first has kept, and is what an undo
//! must bring back. What the first kept and cannot stand beside it gives way; it still is in the first undo's snapshot.
//! A further name of a file whose first name gives way becomes a file of its own, with the content that was kept.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use lifeboat_model::{Entry, EntryKind, EntryMetadata, EntryPath};

/// The entries of an undo.
pub(super) struct Kept<'a> {
    /// As the first attempt has them.
    pub earlier: Vec<Cow<'a, Entry>>,
    /// To be read from what is live.
    pub fresh: Vec<Entry>,
    /// Somebody else than this restore has written there.
    pub has_strangers: bool,
}

/// `kept`: by the first attempt; `before`: what stands where this one will change something; `wanted`: what the restore
/// puts there.
pub(super) fn merge<'a>(kept: &'a [Entry], before: Vec<Entry>, wanted: &[Entry]) -> Kept<'a> {
    let then: HashMap<&EntryPath, &Entry> = kept.iter().map(|entry| (&entry.path, entry)).collect();
    let is_ours = |now: &Entry| {
        let at = wanted.binary_search_by(|entry| entry.path.cmp(&now.path)).ok();
        at.is_some_and(|at| is_put(now, &wanted[at]))
    };
    let has_strangers = before.iter().any(|now| now.kind != EntryKind::Absent && !is_ours(now));
    // The killed attempt itself moves the time of change of a file when it gives one of its names to another.
    let links = kept.iter().filter_map(|entry| match &entry.kind {
        EntryKind::HardLink { to } => Some([to, &entry.path]),
        _ => None,
    });
    let shared: HashSet<&EntryPath> = links.flatten().collect();
    let is_rewritten = |now: &Entry, then: &Entry| {
        is_half_dressed(now, then) && !shared.contains(&now.path) && now.metadata.changed != then.metadata.changed
    };
    let is_fresh = |now: &Entry| {
        then.get(&now.path).is_none_or(|then| !is_ours(now) && (is_newer(now, then) || is_rewritten(now, then)))
    };
    let fresh = before.into_iter().filter(is_fresh).map(|now| match then.get(&now.path) {
        Some(then) if is_half_dressed(&now, then) => {
            Entry { metadata: EntryMetadata { size: now.metadata.size, ..then.metadata.clone() }, ..now }
        }
        _ => now,
    });
    let fresh: Vec<Entry> = fresh.collect();
    let stands = |entry: &&Entry| entry.kind != EntryKind::Absent;
    let paths: HashSet<&EntryPath> = fresh.iter().map(|entry| &entry.path).collect();
    let closed: HashSet<&EntryPath> =
        fresh.iter().filter(stands).filter(|now| now.kind != EntryKind::Directory).map(|now| &now.path).collect();
    let above: HashSet<EntryPath> = fresh.iter().filter(stands).flat_map(|now| ancestors(&now.path)).collect();
    let can_stand = |then: &&Entry| {
        !paths.contains(&then.path)
            && (then.kind == EntryKind::Directory || !above.contains(&then.path))
            && !ancestors(&then.path).any(|path| closed.contains(&path))
    };
    let earlier: Vec<&Entry> = kept.iter().filter(can_stand).collect();
    Kept { earlier: named_anew(&then, earlier), fresh, has_strangers }
}

/// What a further name whose first one is not among them is a name of: the first such name takes the content, and further
/// ones are names of that.
fn named_anew<'a>(then: &HashMap<&EntryPath, &'a Entry>, earlier: Vec<&'a Entry>) -> Vec<Cow<'a, Entry>> {
    let stays: HashSet<&EntryPath> = earlier.iter().map(|entry| &entry.path).collect();
    let mut heirs: HashMap<&EntryPath, &EntryPath> = HashMap::new();
    // In path order, so that the first name comes first.
    let anew = earlier.iter().map(|entry| match &entry.kind {
        EntryKind::HardLink { to } if !stays.contains(to) => match (heirs.get(to), then.get(to)) {
            (Some(heir), _) => {
                Cow::Owned(Entry { kind: EntryKind::HardLink { to: (*heir).clone() }, ..(*entry).clone() })
            }
            (None, Some(first)) => {
                heirs.insert(to, &entry.path);
                Cow::Owned(Entry { path: entry.path.clone(), ..(*first).clone() })
            }
            (None, None) => Cow::Borrowed(*entry),
        },
        _ => Cow::Borrowed(*entry),
    });
    anew.collect()
}

fn ancestors(path: &EntryPath) -> impl Iterator<Item = EntryPath> + use<> {
    std::iter::successors(path.parent(), EntryPath::parent)
}

/// Whether what stands there is what this restore puts there; what it could not set (an owner) may differ.
fn is_put(now: &Entry, wanted: &Entry) -> bool {
    match (&now.kind, &wanted.kind) {
        (EntryKind::Directory, EntryKind::Directory) => true,
        (EntryKind::File, EntryKind::File) => {
            now.metadata.size == wanted.metadata.size && now.metadata.modified == wanted.metadata.modified
        }
        (now_kind, wanted_kind) => now_kind == wanted_kind && now.metadata.modified == wanted.metadata.modified,
    }
}

/// Whether somebody has written there since the first attempt looked.
fn is_newer(now: &Entry, then: &Entry) -> bool {
    match (&now.kind, &then.kind) {
        (EntryKind::Absent, _) | (EntryKind::Directory, EntryKind::Directory) => false,
        (_, EntryKind::Absent) => true,
        (EntryKind::Symlink { target: now }, EntryKind::Symlink { target: then }) => now != then,
        (EntryKind::Fifo, EntryKind::Fifo) => false,
        (EntryKind::File | EntryKind::HardLink { .. }, EntryKind::File | EntryKind::HardLink { .. }) => {
            (now.metadata.inode, now.metadata.modified) != (then.metadata.inode, then.metadata.modified)
        }
        _ => true,
    }
}

/// A file that only its time of change tells from what was kept: written to by somebody who put its time back, or given
/// half of its metadata by the killed attempt. Its content is what is there, its metadata what was kept.
fn is_half_dressed(now: &Entry, then: &Entry) -> bool {
    now.kind == EntryKind::File
        && then.kind == EntryKind::File
        && (now.metadata.inode, now.metadata.modified) == (then.metadata.inode, then.metadata.modified)
}

#[cfg(test)]
mod tests {
    use lifeboat_model::FileTime;

    use super::*;

    fn entry(path: &str, kind: EntryKind, inode: u64) -> Entry {
        let mut entry = super::super::files::absent(EntryPath::new(path).unwrap());
        entry.kind = kind;
        entry.metadata.inode = inode;
        entry.metadata.modified = FileTime { seconds: inode as i64, nanoseconds: 0 };
        entry
    }

    fn file(path: &str, inode: u64) -> Entry {
        entry(path, EntryKind::File, inode)
    }

    fn directory(path: &str) -> Entry {
        entry(path, EntryKind::Directory, 1)
    }

    fn gone(path: &str) -> Entry {
        entry(path, EntryKind::Absent, 0)
    }

    #[test]
    fn what_was_written_since_the_kill_is_kept_and_what_the_restore_did_is_not() {
        let check = |kept: &[Entry], before: &[Entry], wanted: &[Entry], earlier: &[usize], fresh: &[usize]| {
            let merged = merge(kept, before.to_vec(), wanted);
            let want: Vec<Cow<'_, Entry>> = earlier.iter().map(|at| Cow::Borrowed(&kept[*at])).collect();
            assert_eq!(merged.earlier, want);
            let want: Vec<Entry> = fresh.iter().map(|at| before[*at].clone()).collect();
            assert_eq!(merged.fresh, want);
        };
        // Nothing was switched, nothing was written.
        check(&[file("f", 5)], &[file("f", 5)], &[file("f", 9)], &[0], &[]);
        // The application wrote between.
        check(&[file("f", 5)], &[file("f", 6)], &[file("f", 9)], &[], &[0]);
        check(&[gone("f")], &[file("f", 6)], &[file("f", 9)], &[], &[0]);
        // It was switched; what could not be set of it is looked at again.
        check(&[file("f", 5)], &[file("f", 9)], &[file("f", 9)], &[0], &[]);
        check(&[directory("d")], &[directory("d")], &[directory("d")], &[0], &[]);
        // Deleted since, or half replaced: what was kept stays.
        check(&[file("f", 5)], &[gone("f")], &[file("f", 9)], &[0], &[]);
        // What else the second attempt finds.
        check(&[file("f", 5)], &[file("g", 6)], &[file("f", 9)], &[0], &[0]);
        // A directory in the place of a file, and a file in that of a directory.
        let now = [directory("f"), file("f/x", 7)];
        check(&[file("f", 5)], &now, &[file("f", 9)], &[], &[0, 1]);
        check(&[gone("d")], &[file("d/x", 7)], &[directory("d")], &[], &[0]);
        check(&[directory("d"), file("d/y", 5)], &[file("d", 7)], &[directory("d")], &[], &[0]);
    }

    fn link(path: &str, to: &str, inode: u64) -> Entry {
        entry(path, EntryKind::HardLink { to: EntryPath::new(to).unwrap() }, inode)
    }

    #[test]
    fn a_further_name_keeps_its_content_when_the_first_gives_way() {
        let kept = [file("f", 5), link("g", "f", 5), link("h", "f", 5)];
        // The application saved `f` anew, by a rename: `g` and `h` still are what they were.
        let merged = merge(&kept, vec![file("f", 6), file("g", 5)], &[file("f", 9)]);
        let earlier: Vec<Entry> = merged.earlier.into_iter().map(Cow::into_owned).collect();
        assert_eq!(earlier, [file("g", 5), link("h", "g", 5)]);
        assert_eq!(merged.fresh, [file("f", 6)]);
        // The directory of the first name became a file.
        let kept = [directory("d"), file("d/first", 5), link("second", "d/first", 5)];
        let merged = merge(&kept, vec![file("d", 7)], &[directory("d")]);
        let earlier: Vec<Entry> = merged.earlier.into_iter().map(Cow::into_owned).collect();
        assert_eq!(earlier, [file("second", 5)]);
        // Nothing gave way: they are names of one file.
        let kept = [file("f", 5), link("g", "f", 5)];
        let merged = merge(&kept, vec![file("f", 5)], &[file("f", 9)]);
        assert_eq!(merged.earlier.len(), 2);
        assert!(merged.earlier.iter().all(|entry| matches!(entry, Cow::Borrowed(_))));
    }

    #[test]
    fn a_write_whose_time_was_put_back_is_kept_with_the_rights_of_before() {
        let (then, mut now) = (file("f", 5), file("f", 5));
        now.metadata.changed = FileTime { seconds: 99, nanoseconds: 0 };
        now.metadata.mode = 0o700; // of a killed attempt, perhaps
        let kept = [then.clone()];
        let merged = merge(&kept, vec![now], &[file("f", 9)]);
        assert!(merged.earlier.is_empty());
        assert_eq!(merged.fresh, [then], "read anew, under the metadata that was kept");
    }

    #[test]
    fn who_else_wrote_is_told_from_what_the_restore_put_there() {
        let has_strangers =
            |before: &[Entry]| merge(&[], before.to_vec(), &[directory("d"), file("f", 9)]).has_strangers;
        assert!(!has_strangers(&[directory("d"), file("f", 9), gone("g")]));
        assert!(has_strangers(&[file("f", 8)]));
        assert!(has_strangers(&[file("order", 7)]));
    }
}
