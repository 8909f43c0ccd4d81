//! A tree of every kind, read and written where nothing was.

use crate::support::*;
use lifeboat_model::EntryKind;
use std::fs;

#[test]
fn a_tree_of_every_kind_comes_back_where_nothing_was() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("missing/parents/to"));
    fs::create_dir(&from).unwrap();
    build_everything(&from);
    let tree = read(&from);
    assert_eq!((&tree.problems, &tree.left_out), (&vec![], &vec![]));
    restore(&to, &tree);
    assert_restored(&to, &tree);
    let again = read(&to);
    for (at, entry) in tree.entries.iter().enumerate() {
        assert_eq!(again.holes[at], tree.holes[at], "holes of {}", entry.path);
    }
}

#[test]
fn entries_come_in_path_order_with_the_root_first() {
    let dir = tempfile::tempdir().unwrap();
    build_everything(dir.path());
    let tree = read(dir.path());
    let docs: Vec<String> = tree.paths().into_iter().filter(|path| path.starts_with("docs")).collect();
    assert_eq!(tree.paths()[0], "");
    assert_eq!(
        docs,
        [
            "docs",
            "docs/deep",
            "docs/deep/er",
            "docs/deep/er/big",
            "docs/nothing",
            "docs/plain.txt",
            "docs/second-name",
            "docs-beside"
        ]
    );
}

#[test]
fn a_file_with_three_names_is_one_file_again() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir(&from).unwrap();
    build_everything(&from);
    let tree = read(&from);
    assert_eq!(tree.get("docs/second-name").kind, EntryKind::File);
    let link = |path: &str| tree.get(path).kind.clone();
    let first = tree.get("docs/second-name").path.clone();
    assert_eq!(link("first-name"), EntryKind::HardLink { to: first.clone() });
    assert_eq!(link("third-name"), EntryKind::HardLink { to: first });
    restore(&to, &tree);
    let inode = |path: &str| std::os::unix::fs::MetadataExt::ino(&fs::metadata(to.join(path)).unwrap());
    assert_eq!(inode("docs/second-name"), inode("first-name"));
    assert_eq!(inode("third-name"), inode("first-name"));
}

#[test]
fn a_tree_deeper_than_the_kernel_s_path_limit_and_the_descriptor_limit_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir(&from).unwrap();
    let name = "d".repeat(50);
    let mut here = rustix::fs::open(&from, rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
    for level in 0..200 {
        rustix::fs::mkdirat(&here, &name, rustix::fs::Mode::RWXU).unwrap();
        here = rustix::fs::openat(&here, &name, rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
        let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
        let file = rustix::fs::openat(&here, "z", flags, rustix::fs::Mode::RUSR).unwrap();
        rustix::io::write(&file, format!("level {level}").as_bytes()).unwrap();
    }
    let tree = read(&from);
    assert_eq!(tree.entries.len(), 401);
    assert_eq!(tree.problems, []);
    restore(&to, &tree);
    assert_restored(&to, &tree);
}

#[test]
fn staged_files_inherit_no_acl_and_no_group_from_the_directory_they_are_staged_in() {
    let dir = tempfile::tempdir().unwrap();
    let (from, parent) = (dir.path().join("from"), dir.path().join("parent"));
    fs::create_dir_all(from.join("sub")).unwrap();
    fs::write(from.join("sub/file"), "x").unwrap();
    fs::write(from.join("file"), "x").unwrap();
    let tree = read(&from);
    fs::create_dir(&parent).unwrap();
    let nobody = 0xffff_ffff;
    let default = acl(&[(1, 7, nobody), (2, 7, 1234), (4, 7, nobody), (16, 7, nobody), (32, 7, nobody)]);
    set_xattr(&parent, "system.posix_acl_default", &default);
    if is_root() {
        std::os::unix::fs::chown(&parent, None, Some(4321)).unwrap();
    }
    set_mode(&parent, 0o2777);
    restore(&parent.join("to"), &tree);
    assert_restored(&parent.join("to"), &tree);
    // And merged into a part that hands the same down.
    let part = parent.join("merged");
    fs::create_dir(&part).unwrap();
    restore(&part, &tree);
    assert_restored(&part, &tree);
}
