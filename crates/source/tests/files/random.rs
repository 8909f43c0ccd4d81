//! Random trees: read, written where nothing was, and merged into other random trees.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use lifeboat_model::EntryKind;
use lifeboat_source::files::Action;
use proptest::prelude::*;

use crate::support::*;

/// One thing to be done to a tree; what does not fit (a parent that is a file) is skipped.
#[derive(Debug, Clone)]
enum Make {
    File { size: u32, seed: u8 },
    Sparse { size: u32, seed: u8 },
    Directory,
    Symlink { target: u8 },
    Fifo,
    LinkTo(Vec<u8>),
    Remove,
    Xattr { name: u8, value: u8 },
    Mode(u16),
    Owner(u8),
}

#[derive(Debug, Clone)]
struct Change {
    path: Vec<u8>,
    make: Make,
    seconds: u8,
}

fn change() -> impl Strategy<Value = Change> {
    let path = || prop::collection::vec(0u8..5, 1..4);
    let make = prop_oneof![
        6 => (0u32..20_000, any::<u8>()).prop_map(|(size, seed)| Make::File { size, seed }),
        2 => (0u32..400_000, any::<u8>()).prop_map(|(size, seed)| Make::Sparse { size, seed }),
        4 => Just(Make::Directory),
        2 => (0u8..5).prop_map(|target| Make::Symlink { target }),
        1 => Just(Make::Fifo),
        4 => path().prop_map(Make::LinkTo),
        2 => Just(Make::Remove),
        2 => (0u8..3, any::<u8>()).prop_map(|(name, value)| Make::Xattr { name, value }),
        2 => (0u16..0o7777).prop_map(|mode| Make::Mode(mode | 0o700)),
        2 => (0u8..3).prop_map(Make::Owner),
    ];
    (path(), make, 0u8..4).prop_map(|(path, make, seconds)| Change { path, make, seconds })
}

/// Names around the byte `/` in the order, and one that is not UTF-8.
fn place(root: &Path, path: &[u8]) -> PathBuf {
    const NAMES: [&[u8]; 5] = [b"a", b"a!", b"a-b", b"b", b"\xff\xfe"];
    path.iter().fold(root.to_owned(), |at, name| at.join(std::ffi::OsStr::from_bytes(NAMES[usize::from(*name)])))
}

fn apply(root: &Path, change: &Change) {
    let at = place(root, &change.path);
    let _ = fs::create_dir_all(at.parent().unwrap());
    let is = fs::symlink_metadata(&at).ok();
    // A merge meets other kinds in place of what is wanted.
    let make_way = || match &is {
        Some(is) if is.is_dir() => fs::remove_dir_all(&at),
        Some(_) => fs::remove_file(&at),
        None => Ok(()),
    };
    let done = match &change.make {
        Make::File { size, seed } => {
            make_way().and_then(|()| fs::write(&at, (0..*size).map(|i| (i % 251) as u8 ^ seed).collect::<Vec<u8>>()))
        }
        Make::Sparse { size, seed } => make_way().and_then(|()| {
            let file = fs::File::create(&at)?;
            file.set_len(u64::from(*size))?;
            let middle = u64::from(*size / 2);
            std::os::unix::fs::FileExt::write_all_at(&file, &[*seed; 10], middle)
        }),
        Make::Directory if is.as_ref().is_some_and(fs::Metadata::is_dir) => Ok(()),
        Make::Directory => make_way().and_then(|()| fs::create_dir(&at)),
        Make::Symlink { target } => make_way().and_then(|()| symlink(place(Path::new("."), &[*target]), &at)),
        Make::Fifo => {
            if make_way().is_ok() && at.parent().unwrap().is_dir() {
                fifo(&at);
            }
            Ok(())
        }
        Make::LinkTo(to) => match fs::symlink_metadata(place(root, to)) {
            Ok(first) if first.is_file() && place(root, to) != at && !place(root, to).starts_with(&at) => {
                make_way().and_then(|()| fs::hard_link(place(root, to), &at))
            }
            _ => Ok(()),
        },
        Make::Remove => make_way(),
        Make::Xattr { name, value } if is.as_ref().is_some_and(|is| is.is_file() || is.is_dir()) => {
            set_xattr(&at, &format!("user.{name}"), &[*value]);
            Ok(())
        }
        Make::Mode(mode) if is.as_ref().is_some_and(|is| !is.is_symlink()) => {
            set_mode(&at, u32::from(*mode));
            Ok(())
        }
        Make::Owner(id) if is.is_some() && is_root() => {
            std::os::unix::fs::lchown(&at, Some(u32::from(*id)), Some(u32::from(*id)))
        }
        _ => Ok(()),
    };
    if done.is_ok() && fs::symlink_metadata(&at).is_ok() {
        set_time(&at, 1_000_000 + i64::from(change.seconds), 500);
    }
}

fn build(root: &Path, changes: &[Change]) -> Tree {
    fs::create_dir_all(root).unwrap();
    changes.iter().for_each(|change| apply(root, change));
    read(root)
}

/// What a restore must leave as it is: files and links that are wanted just as they are.
fn unchanged(root: &Path, plan: &lifeboat_source::files::MergePlan) -> Vec<(PathBuf, u64, i64, i64)> {
    let tree = read(root);
    let mut changed: Vec<_> = plan.actions.iter().map(Action::path).collect();
    changed.extend(plan.removals.iter().map(|removal| &removal.path));
    let linked = |path| {
        plan.actions.iter().any(|action| {
            matches!(action,
        Action::Put { entry, .. } if matches!(&entry.kind, EntryKind::HardLink { to } if to == path))
        })
    };
    tree.entries
        .iter()
        .filter(|entry| entry.kind == EntryKind::File && !changed.contains(&&entry.path) && !linked(&entry.path))
        .map(|entry| {
            let path = root.join(std::ffi::OsStr::from_bytes(entry.path.as_bytes()));
            let is = fs::symlink_metadata(&path).unwrap();
            (path, is.ino(), is.ctime(), is.ctime_nsec())
        })
        .collect()
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 48, max_shrink_iters: 300, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_tree_comes_back_where_nothing_was(changes in prop::collection::vec(change(), 0..40)) {
        let dir = quick_dir();
        let tree = build(&dir.path().join("from"), &changes);
        let to = dir.path().join("to");
        restore(&to, &tree);
        assert_restored(&to, &tree);
    }

    #[test]
    fn any_tree_comes_back_in_place_of_any_later_state(
        changes in prop::collection::vec(change(), 0..40),
        later in prop::collection::vec(change(), 0..20),
    ) {
        let dir = quick_dir();
        let root = dir.path().join("part");
        let tree = build(&root, &changes);
        later.iter().for_each(|change| apply(&root, change));
        let links = |root: &Path| read(root).entries.iter().filter(|e| matches!(e.kind, EntryKind::HardLink { .. })).count();
        let had_links = links(&root);
        let plan = plan(&target(&root), &tree, lifeboat_source::files::Scope::Whole);
        let before = unchanged(&root, &plan);
        let done = restore(&root, &tree);
        prop_assert_eq!(&done, &plan);
        assert_restored(&root, &tree);
        // Removing one name of a file changes the ctime of the others.
        if had_links == 0 {
            let after = unchanged(&root, &plan);
            for file in before {
                prop_assert!(after.contains(&file), "touched: {:?}", file);
            }
        }
    }

    #[test]
    fn any_restore_can_be_undone(
        changes in prop::collection::vec(change(), 0..30),
        later in prop::collection::vec(change(), 0..20),
    ) {
        let dir = quick_dir();
        let root = dir.path().join("part");
        let tree = build(&root, &changes);
        let before = build(&root, &later);
        let plan = restore(&root, &tree);
        restore_listed(&root, &undo_of(&plan, &before, &tree));
        assert_restored(&root, &before);
    }

    #[test]
    fn a_kill_anywhere_in_any_merge_is_mended_by_the_next_run(
        changes in prop::collection::vec(change(), 0..25),
        other in prop::collection::vec(change(), 0..25),
        steps in 0usize..60,
    ) {
        let dir = quick_dir();
        let tree = build(&dir.path().join("from"), &changes);
        let root = dir.path().join("part");
        build(&root, &other);
        let _ = restore_steps(&root, &tree, &mut Steps::only(steps));
        restore(&root, &tree);
        assert_restored(&root, &tree);
    }
}
