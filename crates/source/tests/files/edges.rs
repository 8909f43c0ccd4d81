//! What is left out, what cannot be read, and what must not be reached.

use crate::support::*;
use lifeboat_model::{EntryKind, EntryPath, SiteId, SourceName};
use lifeboat_source::files::{Exclusion, FilesSource, FilesTarget, Scope};
use lifeboat_source::{ContentCheck, Error, PathTemplate, Place, Read, Source};
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

fn source(dir: &Path, exclusions: Vec<Exclusion>) -> FilesSource {
    let template = PathTemplate::parse(&format!("{}/sites/{{site}}", dir.display())).unwrap();
    FilesSource::new(SourceName::new("files").unwrap(), template, exclusions)
}

fn site(text: &str) -> SiteId {
    SiteId::new(text).unwrap()
}

#[test]
fn sockets_staging_and_what_others_own_are_left_out() {
    let dir = quick_dir();
    let root = dir.path().join("sites/acme");
    for path in ["cache/inner", ".lifeboat-stage-0707070707070707", "sub/.lifeboat-0707070707070707-0123456789abcdef"] {
        fs::create_dir_all(root.join(path)).unwrap();
    }
    for path in [
        "notes.db",
        "notes.db-wal",
        "notes.db-shm",
        "notes.db-journal",
        "notes.db-other",
        "cache/inner/x",
        ".lifeboat-mine",
    ] {
        fs::write(root.join(path), "x").unwrap();
    }
    let _socket = UnixListener::bind(root.join("socket")).unwrap();
    let template = |end: &str| PathTemplate::parse(&format!("{}/sites/{{site}}/{end}", dir.path().display())).unwrap();
    let source =
        source(dir.path(), vec![Exclusion::Database(template("notes.db")), Exclusion::Tree(template("cache"))]);
    let tree = read_all(source.open(&site("acme")).unwrap().unwrap());
    assert_eq!(tree.paths(), ["", ".lifeboat-mine", "notes.db-other", "sub"]);
    assert_eq!(tree.problems, []);
    let left_out: Vec<&str> = tree.left_out.iter().map(|problem| problem.entry.as_str()).collect();
    assert_eq!(
        left_out,
        [".lifeboat-stage-0707070707070707", "socket", "sub/.lifeboat-0707070707070707-0123456789abcdef"]
    );

    // A restore leaves alone what the backup leaves out.
    let mut wanted = tree.clone();
    wanted.entries.retain(|entry| entry.path.is_root());
    wanted.contents.truncate(1);
    let excluded = source.excluded(&site("acme")).unwrap();
    let mut target = FilesTarget::open(source.place(&site("acme")).unwrap(), ID, excluded).unwrap();
    let plan = plan(&target, &wanted, Scope::Whole);
    target.begin().unwrap();
    let kept = target.remove(&plan.removals).unwrap();
    target.clean_up().unwrap();
    let kept: Vec<&str> = kept.iter().map(|problem| problem.entry.as_str()).collect();
    assert_eq!(kept, ["sub"], "it holds another restore's staging");
    assert!(root.join("notes.db-wal").exists() && root.join("cache/inner/x").exists());
    assert!(!root.join("notes.db-other").exists());
}

#[test]
fn a_part_that_is_no_directory_is_an_error_and_an_absent_one_is_an_answer() {
    let dir = quick_dir();
    let sites = dir.path().join("sites");
    fs::create_dir_all(sites.join("real")).unwrap();
    fs::write(sites.join("file"), "").unwrap();
    symlink("real", sites.join("linked")).unwrap();
    let files = source(dir.path(), vec![]);
    let check = |name: &str, want: &str| {
        let got = match files.open(&site(name)) {
            Ok(reader) => format!("{}", reader.is_some()),
            Err(error) => error.to_string(),
        };
        assert!(got.contains(want), "{name}: {got}");
        let place = files.place(&site(name)).unwrap();
        assert_eq!(FilesTarget::open(place, ID, vec![]).is_err(), want.contains("stands"), "{name}");
    };
    check("real", "true");
    check("absent", "false");
    check("file", "stands where the part's directory should be");
    check("linked", "stands where the part's directory should be");
    assert!(matches!(files.open(&site("..")), Err(Error::UnsafeSiteId { .. })));
    fs::remove_dir_all(&sites).unwrap();
    assert!(matches!(files.open(&site("absent")), Err(Error::SourceFailed { .. })));
    let place = files.place(&site("absent")).unwrap();
    assert!(matches!(FilesTarget::open(place, ID, vec![]), Err(Error::SourceFailed { .. })));
}

/// The live tree holds `a -> outside`, the snapshot `a/passwd`.
fn planted(dir: &Path) -> (std::path::PathBuf, std::path::PathBuf, Tree) {
    let (from, root, outside) = (dir.join("from"), dir.join("sites/acme"), dir.join("outside"));
    for path in [&from.join("a/b"), &root, &outside.join("b")] {
        fs::create_dir_all(path).unwrap();
    }
    for path in ["a/passwd", "a/b/shadow"] {
        fs::write(from.join(path), "restored").unwrap();
    }
    fs::write(outside.join("passwd"), "theirs").unwrap();
    fs::write(outside.join("b/shadow"), "theirs").unwrap();
    fs::write(outside.join("extra"), "theirs").unwrap();
    (root, outside, read(&from))
}

#[test]
fn a_link_planted_in_place_of_a_directory_is_replaced_and_never_followed() {
    let dir = quick_dir();
    let (root, outside, tree) = planted(dir.path());
    symlink(&outside, root.join("a")).unwrap();
    let before = read(&outside);
    restore(&root, &tree);
    assert_restored(&root, &tree);
    assert_eq!(read(&outside).comparable(), before.comparable());
}

// Explains invariant: only-this-part
#[test]
fn a_link_planted_after_the_plan_stops_the_restore_before_it_reaches_outside() {
    let dir = quick_dir();
    let (root, outside, tree) = planted(dir.path());
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("a/extra"), "mine").unwrap();
    let before = read(&outside);
    let mut target = target(&root);
    let plan = plan(&target, &tree, Scope::Whole);
    target.begin().unwrap();
    assert!(stage(&target, &plan, &tree, &mut Steps::unlimited()).is_ok());
    fs::remove_dir_all(root.join("a")).unwrap();
    symlink(&outside, root.join("a")).unwrap();
    let error = target.switch(&plan.actions).unwrap_err();
    assert!(error.to_string().contains("a symbolic link stands where a directory was planned"), "{error}");
    assert_eq!(target.remove(&plan.removals).unwrap(), [], "what was below the directory is gone with it");
    assert!(target.finish_directories(&plan.directories).is_err());
    assert!(target.live_file(&EntryPath::new("a/passwd").unwrap()).is_err());
    assert_eq!(target.stat_entry(&EntryPath::new("a/passwd").unwrap()).unwrap(), None);
    assert_eq!(read(&outside).comparable(), before.comparable());
    target.clean_up().unwrap();
    restore(&root, &tree);
    assert_restored(&root, &tree);
    assert_eq!(read(&outside).comparable(), before.comparable());
}

#[test]
fn a_hard_link_cannot_be_made_through_a_planted_link() {
    let dir = quick_dir();
    let (root, outside, _) = planted(dir.path());
    let from = dir.path().join("linked");
    fs::create_dir_all(from.join("a")).unwrap();
    fs::write(from.join("a/passwd"), "theirs").unwrap();
    fs::hard_link(from.join("a/passwd"), from.join("z")).unwrap();
    let tree = read(&from);
    let mut target = target(&root);
    let plan = plan(&target, &tree, Scope::Whole);
    target.begin().unwrap();
    symlink(&outside, root.join("a")).unwrap();
    let link = plan.actions.iter().find(|action| action.path().to_string() == "z").unwrap();
    assert!(target.switch(std::slice::from_ref(link)).is_err());
    assert!(!root.join("z").exists());
    target.clean_up().unwrap();
}

#[test]
fn what_appeared_or_changed_after_the_plan_is_a_conflict_and_is_kept() {
    let dir = quick_dir();
    let (from, root) = (dir.path().join("from"), dir.path().join("part"));
    for path in [&from, &root, &root.join("dir"), &from.join("kept")] {
        fs::create_dir_all(path).unwrap();
    }
    fs::write(from.join("new"), "restored").unwrap();
    fs::write(from.join("old"), "restored").unwrap();
    fs::write(from.join("dir"), "restored").unwrap();
    fs::write(root.join("old"), "seen").unwrap();
    fs::write(root.join("extra"), "seen").unwrap();
    let tree = read(&from);
    let mut target = target(&root);
    let plan = plan(&target, &tree, Scope::Whole);
    target.begin().unwrap();
    assert!(stage(&target, &plan, &tree, &mut Steps::unlimited()).is_ok());
    fs::write(root.join("new"), "by the application").unwrap();
    fs::write(root.join("dir/inside"), "by the application").unwrap();
    for path in ["old", "extra"] {
        fs::write(root.join(path), "by the application").unwrap();
        set_time(&root.join(path), 77, 0);
    }
    for action in &plan.actions {
        let result = target.switch(std::slice::from_ref(action));
        let name = action.path().to_string();
        assert_eq!(result.is_err(), name != "kept", "{name}: {result:?}");
    }
    let kept = target.remove(&plan.removals).unwrap();
    assert_eq!(kept.len(), 1, "{kept:?}");
    for path in ["new", "old", "extra", "dir/inside"] {
        assert_eq!(fs::read_to_string(root.join(path)).unwrap(), "by the application", "{path}");
    }
}

#[test]
fn a_part_that_appears_during_a_fresh_restore_is_a_conflict_and_is_kept() {
    let dir = quick_dir();
    let (from, root) = (dir.path().join("from"), dir.path().join("part"));
    fs::create_dir(&from).unwrap();
    fs::write(from.join("file"), "restored").unwrap();
    let tree = read(&from);
    let mut target = target(&root);
    let plan = plan(&target, &tree, Scope::Whole);
    target.begin().unwrap();
    assert!(stage(&target, &plan, &tree, &mut Steps::unlimited()).is_ok());
    target.prepare(&plan.actions).unwrap();
    target.seal(&plan.directories).unwrap();
    fs::create_dir(&root).unwrap();
    assert!(matches!(target.switch(&plan.actions), Err(Error::Conflict { .. })));
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    drop(target);
    restore(&root, &tree);
    assert_restored(&root, &tree);
}

#[test]
fn a_file_written_to_while_it_is_read_is_found_out() {
    let dir = quick_dir();
    let path = dir.path().join("log");
    let check = |change: &dyn Fn(), want: bool| {
        fs::write(&path, vec![b'x'; 100_000]).unwrap();
        let mut reader = target(dir.path()).scan().unwrap().unwrap();
        reader.next_entry().unwrap();
        let entry = reader.next_entry().unwrap().unwrap();
        let mut content = reader.open_content(&entry).unwrap();
        let mut buffer = vec![0u8; 1000];
        assert_eq!(content.read(&mut buffer).unwrap(), Read::Data(1000));
        change();
        let mut count = 1000;
        while let Read::Data(len) = content.read(&mut buffer).unwrap() {
            count += len;
        }
        assert!(count <= 100_000);
        assert_eq!(matches!(content.check().unwrap(), ContentCheck::Changed), want);
    };
    use std::os::unix::fs::FileExt;
    let open = || fs::OpenOptions::new().write(true).open(&path).unwrap();
    check(&|| {}, false);
    check(&|| open().write_all_at(b"y", 50).unwrap(), true);
    check(&|| open().set_len(10).unwrap(), true);
    check(&|| open().write_all_at(b"longer", 100_000).unwrap(), true);
    check(&|| set_mode(&path, 0o600), true);
    check(&|| fs::remove_file(&path).unwrap(), true);
}

#[test]
fn what_vanishes_between_listing_and_opening_is_gone_and_what_is_swapped_does_not_hang() {
    let dir = quick_dir();
    for name in ["a", "b", "c"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    let mut reader = target(dir.path()).scan().unwrap().unwrap();
    reader.next_entry().unwrap();
    let (a, b) = (reader.next_entry().unwrap().unwrap(), reader.next_entry().unwrap().unwrap());
    fs::remove_file(dir.path().join("a")).unwrap();
    fs::remove_file(dir.path().join("b")).unwrap();
    fs::remove_file(dir.path().join("c")).unwrap();
    fifo(&dir.path().join("b"));
    assert!(matches!(reader.open_content(&a), Err(Error::Gone { .. })));
    assert!(matches!(reader.open_content(&b), Err(Error::Busy { .. })));
    assert_eq!(reader.next_entry().unwrap(), None);
    assert_eq!(reader.finish().unwrap().problems, []);
}

#[test]
fn a_first_name_replaced_under_the_reader_makes_the_snapshot_incomplete() {
    let dir = quick_dir();
    fs::write(dir.path().join("a"), "one").unwrap();
    fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
    fs::hard_link(dir.path().join("a"), dir.path().join("d")).unwrap();
    fs::write(dir.path().join("c"), "two").unwrap();
    let mut reader = target(dir.path()).scan().unwrap().unwrap();
    reader.next_entry().unwrap();
    let a = reader.next_entry().unwrap().unwrap();
    fs::rename(dir.path().join("c"), dir.path().join("a")).unwrap();
    reader.open_content(&a).unwrap();
    let b = reader.next_entry().unwrap().unwrap();
    assert!(matches!(b.kind, EntryKind::HardLink { .. }));
    // The link can still be opened for itself.
    assert_eq!(read_content(&mut *reader.open_content(&b).unwrap()).0, b"one");
    while reader.next_entry().unwrap().is_some() {}
    assert_eq!(reader.finish().unwrap().problems.len(), 1);
}

#[test]
fn a_staged_file_that_is_not_whole_or_too_long_is_refused() {
    use lifeboat_model::{ChunkId, ChunkRef, Extent, ObjectId};
    let dir = quick_dir();
    let from = dir.path().join("from");
    fs::create_dir(&from).unwrap();
    fs::write(from.join("file"), "0123456789").unwrap();
    let mut entry = read(&from).get("file").clone();
    let chunk = |raw_len| {
        let (id, pack) = (ChunkId([0; 32]), ObjectId([0; 16]));
        Extent::Chunk(ChunkRef { id, pack, offset: 0, stored_len: 0, raw_len })
    };
    entry.extents = vec![chunk(4), Extent::Hole { len: 2 }, chunk(4)];
    let mut target = target(&dir.path().join("to"));
    target.begin().unwrap();
    let file = target.stage_file(&entry).unwrap();
    file.write_at(0, b"0123").unwrap();
    assert!(file.finish().unwrap_err().to_string().contains("not whole"));
    assert!(file.write_at(8, b"xyz").is_err());
    assert!(file.write_at(u64::MAX, b"x").is_err());
    file.write_at(6, b"6789").unwrap();
    file.finish().unwrap();
    target.clean_up().unwrap();
    assert!(!dir.path().join("to").exists());
}

#[test]
fn stretches_of_a_live_file_can_be_taken_over() {
    let dir = quick_dir();
    let (from, root) = (dir.path().join("from"), dir.path().join("part"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&root).unwrap();
    fs::write(from.join("file"), "new head, then the long old tail").unwrap();
    fs::write(root.join("file"), "old, then the long old tail").unwrap();
    let tree = read(&from);
    let mut target = target(&root);
    let plan = plan(&target, &tree, Scope::Whole);
    target.begin().unwrap();
    let live = target.live_file(&EntryPath::new("file").unwrap()).unwrap();
    let staged = target.stage_file(tree.get("file")).unwrap();
    staged.write_at(0, b"new head").unwrap();
    staged.copy_from_live(&live, 3, 8, 24).unwrap();
    assert!(staged.copy_from_live(&live, 1000, 8, 24).is_err());
    staged.finish().unwrap();
    let mut content = target.staged_content(tree.get("file")).unwrap();
    assert_eq!(read_content(&mut *content).0, tree.contents[1]);
    assert!(finish(&mut target, &plan, &mut Steps::unlimited()).is_ok());
    assert_restored(&root, &tree);
}

#[test]
fn a_full_disk_is_named_and_the_part_is_untouched() {
    let dir = quick_dir();
    let (from, small) = (dir.path().join("from"), dir.path().join("small"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&small).unwrap();
    fs::write(from.join("file"), vec![7u8; 4 << 20]).unwrap();
    let tree = read(&from);
    let Some(_mount) = mount(&small, &["-t", "tmpfs", "-o", "size=1m", "tmpfs"]) else { return };
    let root = small.join("part");
    for exists in [false, true] {
        if exists {
            fs::create_dir(&root).unwrap();
            fs::write(root.join("file"), "live").unwrap();
        }
        let mut target = target(&root);
        target.begin().unwrap();
        let file = target.stage_file(tree.get("file")).unwrap();
        let error = file.write_at(0, &tree.contents[1]).unwrap_err();
        assert!(matches!(&error, Error::Io { io, .. } if io.kind() == std::io::ErrorKind::StorageFull), "{error}");
        assert!(error.to_string().contains("path=`file`"), "{error}");
        drop(file);
        target.clean_up().unwrap();
        assert_eq!(root.exists(), exists);
    }
    assert_eq!(read(&root).paths(), ["", "file"]);
    assert_eq!(fs::read_to_string(root.join("file")).unwrap(), "live");
}

#[test]
fn another_file_system_inside_the_part_is_named_and_not_entered() {
    let dir = quick_dir();
    let root = dir.path().join("part");
    let neighbour = dir.path().join("neighbour");
    for path in [root.join("tmpfs"), root.join("bound"), neighbour.clone()] {
        fs::create_dir_all(path).unwrap();
    }
    fs::write(neighbour.join("theirs"), "theirs").unwrap();
    let Some(_one) = mount(&root.join("tmpfs"), &["-t", "tmpfs", "tmpfs"]) else { return };
    let Some(_two) = mount(&root.join("bound"), &["--bind", neighbour.to_str().unwrap()]) else { return };
    fs::write(root.join("tmpfs/inside"), "x").unwrap();
    let tree = read(&root);
    assert_eq!(tree.paths(), ["", "bound", "tmpfs"]);
    let problems: Vec<&str> = tree.problems.iter().map(|problem| problem.entry.as_str()).collect();
    assert_eq!(problems, ["bound", "tmpfs"]);

    // Nothing is written into it, and nothing of it removed.
    let from = dir.path().join("from");
    fs::create_dir_all(from.join("bound")).unwrap();
    fs::write(from.join("bound/theirs"), "restored").unwrap();
    let wanted = read(&from);
    let mut target = target(&root);
    let plan = plan(&target, &wanted, Scope::Whole);
    target.begin().unwrap();
    assert!(stage(&target, &plan, &wanted, &mut Steps::unlimited()).is_ok());
    let error = target.switch(&plan.actions).unwrap_err();
    assert!(error.to_string().contains("another file system is mounted on the way"), "{error}");
    assert_eq!(target.remove(&plan.removals).unwrap().len(), 1);
    target.clean_up().unwrap();
    assert_eq!(fs::read_to_string(neighbour.join("theirs")).unwrap(), "theirs");
}

/// Unmounts when dropped.
struct Mount(std::path::PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(at: &Path, arguments: &[&str]) -> Option<Mount> {
    let done = std::process::Command::new("mount").args(arguments).arg(at).output();
    if done.as_ref().is_ok_and(|output| output.status.success()) {
        return Some(Mount(at.to_owned()));
    }
    eprintln!("NOT CHECKED: mounting is not allowed here: {done:?}");
    None
}

/// Runs as a plain user in a process of its own, because the tests' own threads are root.
// Explains invariant: whole-or-named
#[test]
fn without_privileges_unreadable_things_and_unset_owners_are_named() {
    if std::env::var_os("LIFEBOAT_TEST_UNPRIVILEGED").is_some() {
        return as_a_plain_user(Path::new(&std::env::var_os("LIFEBOAT_TEST_UNPRIVILEGED").unwrap()));
    }
    if !is_root() {
        eprintln!("NOT CHECKED: only root can become another user");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    set_mode(dir.path(), 0o777);
    let test = std::env::current_exe().unwrap();
    let copy = dir.path().join("test-binary");
    fs::copy(&test, &copy).unwrap();
    set_mode(&copy, 0o755);
    let from = dir.path().join("from");
    fs::create_dir_all(from.join("closed")).unwrap();
    for (path, mode) in [("open", 0o644), ("secret", 0o600), ("closed/in", 0o644), ("setuid", 0o4755)] {
        fs::write(from.join(path), path).unwrap();
        set_mode(&from.join(path), mode);
    }
    set_mode(&from.join("closed"), 0o700);
    let name = "edges::without_privileges_unreadable_things_and_unset_owners_are_named";
    use std::os::unix::process::CommandExt;
    let output = std::process::Command::new(&copy)
        .args(["--exact", name, "--nocapture"])
        .env("LIFEBOAT_TEST_UNPRIVILEGED", dir.path())
        .current_dir("/")
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed") && text.contains("checked as a plain user"), "{text}");
}

fn as_a_plain_user(dir: &Path) {
    let from = dir.join("from");
    let mut reader = target(&from).scan().unwrap().unwrap();
    let mut wanted = Tree::default();
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut bytes = Vec::new();
        if entry.kind == EntryKind::File {
            match reader.open_content(&entry) {
                Ok(mut content) => bytes = read_content(&mut *content).0,
                Err(error) => {
                    assert_eq!(entry.path.to_string(), "secret");
                    assert!(error.to_string().contains("Permission denied"), "{error}");
                    continue;
                }
            }
        }
        wanted.entries.push(entry);
        wanted.contents.push(bytes);
    }
    let problems = reader.finish().unwrap().problems;
    assert_eq!(wanted.paths(), ["", "closed", "open", "setuid"]);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].entry, "closed");

    let root = dir.join("to");
    let mut target = FilesTarget::open(Place::at(&root).unwrap(), ID, vec![]).unwrap();
    let plan = plan(&target, &wanted, Scope::Whole);
    target.begin().unwrap();
    assert!(stage(&target, &plan, &wanted, &mut Steps::unlimited()).is_ok());
    assert!(finish(&mut target, &plan, &mut Steps::unlimited()).is_ok());
    let mut unset: Vec<String> = target.unset_metadata().into_iter().map(|problem| problem.entry).collect();
    unset.sort();
    unset.dedup();
    assert_eq!(unset, ["", "closed", "open", "setuid"]);
    let restored = read(&root);
    assert_eq!(restored.get("setuid").metadata.mode, 0o755, "no set-user-id for the wrong owner");
    assert_eq!(restored.get("open").metadata.modified, wanted.get("open").metadata.modified);
    println!("checked as a plain user");
}
