//! Merging into what is there: the least that has to change, and nothing else.

use crate::support::*;
use lifeboat_source::files::{Action, Scope};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

#[test]
fn an_unchanged_tree_is_not_touched_at_all() {
    let dir = quick_dir();
    let root = dir.path().join("part");
    fs::create_dir(&root).unwrap();
    build_everything(&root);
    let tree = read(&root);
    let evidence = |root: &std::path::Path| -> Vec<_> {
        read(root).entries.iter().map(|e| (e.path.clone(), e.metadata.inode, e.metadata.changed)).collect()
    };
    let before = evidence(&root);
    let plan = restore(&root, &tree);
    assert_eq!((plan.actions.len(), plan.removals.len(), plan.directories.len()), (0, 0, 0));
    assert_eq!(plan.unchanged as usize, tree.entries.len());
    // Only the root was touched, by the staging directory that was in it.
    assert_eq!(before[1..], evidence(&root)[1..]);
    assert_restored(&root, &tree);
}

#[test]
fn every_kind_can_take_the_place_of_every_other() {
    type Make = fn(&std::path::Path);
    let kinds: [(&str, Make); 6] = [
        ("nothing", |_| {}),
        ("file", |path| fs::write(path, "content").unwrap()),
        ("directory", |path| {
            fs::create_dir_all(path.join("sub/deep")).unwrap();
            fs::write(path.join("sub/file"), "below").unwrap();
        }),
        ("symlink", |path| symlink("elsewhere", path).unwrap()),
        ("fifo", fifo),
        ("hard link", |path| fs::hard_link(path.parent().unwrap().join("anchor"), path).unwrap()),
    ];
    for (was, make_was) in kinds {
        for (wanted, make_wanted) in kinds {
            let dir = quick_dir();
            let (from, to) = (dir.path().join("from"), dir.path().join("to"));
            for (root, make) in [(&from, make_wanted), (&to, make_was)] {
                fs::create_dir(root).unwrap();
                fs::write(root.join("anchor"), "anchor").unwrap();
                make(&root.join("it"));
            }
            println!("{was} -> {wanted}");
            let tree = read(&from);
            restore(&to, &tree);
            assert_restored(&to, &tree);
        }
    }
}

#[test]
fn changed_metadata_alone_does_not_replace_a_file() {
    let dir = quick_dir();
    let root = dir.path().join("part");
    fs::create_dir(&root).unwrap();
    build_everything(&root);
    let tree = read(&root);
    let inode = fs::metadata(root.join("docs/plain.txt")).unwrap().ino();
    set_mode(&root.join("docs/plain.txt"), 0o777);
    rustix::fs::lremovexattr(root.join("docs/plain.txt"), "user.colour").unwrap();
    set_xattr(&root.join("docs/plain.txt"), "user.added", b"later");
    rustix::fs::lremovexattr(root.join("docs/deep"), "system.posix_acl_default").unwrap();
    let plan = restore(&root, &tree);
    assert!(matches!(plan.actions.as_slice(), [Action::SetMetadata { .. }]), "{:?}", plan.actions);
    assert_eq!(fs::metadata(root.join("docs/plain.txt")).unwrap().ino(), inode);
    assert_restored(&root, &tree);
}

#[test]
fn files_that_became_one_are_two_again_and_the_other_way_round() {
    let dir = quick_dir();
    let (two, one) = (dir.path().join("two"), dir.path().join("one"));
    for root in [&two, &one] {
        fs::create_dir(root).unwrap();
        fs::write(root.join("a"), "same").unwrap();
    }
    fs::write(two.join("b"), "same").unwrap();
    fs::hard_link(one.join("a"), one.join("b")).unwrap();
    for path in [two.join("a"), two.join("b"), one.join("a")] {
        set_time(&path, 1_000, 0);
    }
    let (apart, together) = (read(&two), read(&one));
    restore(&one, &apart);
    assert_restored(&one, &apart);
    restore(&one, &together);
    assert_restored(&one, &together);
}

#[test]
fn a_file_that_is_also_another_site_s_is_not_changed_through_its_name_here() {
    let dir = quick_dir();
    let (root, other) = (dir.path().join("part"), dir.path().join("other-site"));
    fs::create_dir(&root).unwrap();
    fs::create_dir(&other).unwrap();
    fs::write(root.join("shared"), "content").unwrap();
    set_mode(&root.join("shared"), 0o600);
    let tree = read(&root);
    fs::hard_link(root.join("shared"), other.join("theirs")).unwrap();
    set_mode(&other.join("theirs"), 0o644);
    set_time(&other.join("theirs"), 5, 5);
    let before = read(&other);
    restore(&root, &tree);
    assert_restored(&root, &tree);
    assert_eq!(read(&other).comparable(), before.comparable());
}

#[test]
fn an_undo_brings_back_what_a_restore_replaced_removed_and_added() {
    let dir = quick_dir();
    let (old, live) = (dir.path().join("old"), dir.path().join("live"));
    fs::create_dir(&old).unwrap();
    build_everything(&old);
    let wanted = read(&old);
    restore(&live, &wanted);
    fs::write(live.join("docs/plain.txt"), "changed since").unwrap();
    fs::remove_file(live.join("pipe")).unwrap();
    fs::create_dir_all(live.join("new/dir")).unwrap();
    fs::write(live.join("new/dir/file"), "added since").unwrap();
    fs::remove_dir(live.join("empty")).unwrap();
    fs::write(live.join("empty"), "now a file").unwrap();
    let before = read(&live);

    let changes = restore(&live, &wanted);
    assert_restored(&live, &wanted);
    restore_listed(&live, &undo_of(&changes, &before, &wanted));
    assert_restored(&live, &before);
}

#[test]
fn the_undo_of_a_part_that_was_absent_removes_it_whole() {
    let dir = quick_dir();
    let (old, live) = (dir.path().join("old"), dir.path().join("live"));
    fs::create_dir(&old).unwrap();
    build_everything(&old);
    let wanted = read(&old);
    restore(&live, &wanted);
    let mut target = target(&live);
    let nothing = Tree::default();
    let back = plan(&target, &nothing, Scope::Whole);
    target.begin().unwrap();
    assert!(finish(&mut target, &back, &mut Steps::unlimited()).is_ok());
    assert!(!live.exists());
}

#[test]
fn a_file_that_lost_its_first_name_to_a_restore_has_both_again_after_the_undo() {
    let dir = quick_dir();
    let (from, root) = (dir.path().join("from"), dir.path().join("part"));
    for path in [&from, &root] {
        fs::create_dir(path).unwrap();
        fs::write(path.join("b"), "content").unwrap();
        set_time(&path.join("b"), 1_000, 0);
    }
    let wanted = read(&from);
    fs::hard_link(root.join("b"), root.join("a")).unwrap();
    let before = read(&root);
    let plan = restore(&root, &wanted);
    assert_restored(&root, &wanted);
    restore_listed(&root, &undo_of(&plan, &before, &wanted));
    assert_restored(&root, &before);
}

/// Everything beneath belongs to `uid`.
fn give(root: &std::path::Path, uid: u32) {
    for entry in read(root).entries {
        std::os::unix::fs::lchown(root.join(entry.path.to_string()), Some(uid), None).unwrap();
    }
}

/// Runs as an ordinary user: this thread alone is one.
fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let uid = rustix::process::Uid::from_raw(NOBODY);
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

const NOBODY: u32 = 65534;

/// A directory that an ordinary user may make a part in, and the part's place; `None`: nobody else can be taken on.
fn place_for_nobody() -> Option<(tempfile::TempDir, PathBuf)> {
    if !is_root() {
        eprintln!("NOT root: nobody else can be taken on");
        return None;
    }
    let dir = quick_dir();
    set_mode(dir.path(), 0o777);
    let root = dir.path().join("part");
    Some((dir, root))
}

#[test]
fn a_directory_that_its_owner_may_not_write_into_is_opened_and_closed_again() {
    let Some((_dir, root)) = place_for_nobody() else { return };
    fs::create_dir_all(root.join("closed/inner")).unwrap();
    fs::write(root.join("closed/file"), "as it was").unwrap();
    fs::write(root.join("closed/inner/gone"), "to come back").unwrap();
    set_mode(&root.join("closed/inner"), 0o500);
    set_mode(&root.join("closed"), 0o555);
    give(&root, NOBODY);
    let tree = read(&root);
    fs::write(root.join("closed/file"), "overwritten").unwrap();
    fs::remove_file(root.join("closed/inner/gone")).unwrap();
    fs::create_dir(root.join("closed/extra")).unwrap();
    fs::write(root.join("closed/extra/file"), "in a closed directory that goes").unwrap();
    set_mode(&root.join("closed/extra"), 0o555);
    give(&root, NOBODY);
    as_nobody(|| restore(&root, &tree));
    assert_restored(&root, &tree);
}

#[test]
fn a_part_whose_own_directory_is_closed_comes_back_and_is_merged_into() {
    let Some((_dir, root)) = place_for_nobody() else { return };
    fs::create_dir(&root).unwrap();
    fs::write(root.join("file"), "as it was").unwrap();
    set_mode(&root, 0o555);
    give(&root, NOBODY);
    let tree = read(&root);
    fs::remove_dir_all(&root).unwrap();
    as_nobody(|| restore(&root, &tree)); // absent: the tree that is moved to its place is closed
    assert_restored(&root, &tree);
    for mode in [0o555, 0o755] {
        fs::write(root.join("file"), "overwritten").unwrap();
        fs::write(root.join("extra"), "removed").unwrap();
        set_mode(&root, mode);
        give(&root, NOBODY);
        as_nobody(|| restore(&root, &tree));
        assert_restored(&root, &tree);
    }
}

#[test]
fn of_two_restores_one_switches_at_a_time() {
    let dir = quick_dir();
    let root = dir.path().join("part");
    fs::create_dir(&root).unwrap();
    let mut first = target(&root);
    first.lock_switch().unwrap();
    let mut second = target(&root);
    for refused in [second.lock_switch(), second.check_not_switching()] {
        let error = refused.unwrap_err();
        assert!(error.to_string().contains("in the middle of its switch"), "{error}");
    }
    first.clean_up().unwrap();
    second.check_not_switching().unwrap();
    second.lock_switch().unwrap();
    // An absent part is one rename, onto a name that must be free.
    target(&dir.path().join("absent")).lock_switch().unwrap();
}

#[test]
fn a_directory_of_somebody_else_is_found_closed_before_anything_is_switched() {
    let Some((_dir, root)) = place_for_nobody() else { return };
    fs::create_dir_all(root.join("theirs")).unwrap();
    fs::write(root.join("theirs/file"), "as it was").unwrap();
    give(&root, NOBODY);
    std::os::unix::fs::chown(root.join("theirs"), Some(0), Some(0)).unwrap();
    let tree = read(&root);
    fs::write(root.join("theirs/file"), "overwritten").unwrap();
    let refused = as_nobody(|| {
        let target = target(&root);
        let live = read(&root);
        let plan = plan(&target, &tree, Scope::Whole);
        let mut target = target;
        target.begin().unwrap();
        let refused = target.check_writable(&plan.written_directories(&live.entries));
        target.clean_up().unwrap();
        refused
    });
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("entry=`theirs`") && text.contains("Permission denied"), "{text}");
    assert_eq!(fs::read(root.join("theirs/file")).unwrap(), b"overwritten");
}
