use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use lifeboat_model::Faulty;

use super::*;

fn root() -> (tempfile::TempDir, DirectoryStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = DirectoryStore::create_root(&dir.path().join("store")).unwrap();
    (dir, store)
}

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

fn body() -> Bytes {
    Bytes::from_static(b"hello")
}

/// That the error is a refusal which says `detail` and whose hint says `hint`.
#[track_caller]
fn check_refused<T: fmt::Debug>(outcome: Result<T, Error>, detail: &str, hint: &str) {
    let error = outcome.expect_err("a refusal");
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains(detail), "{error}");
    assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
}

#[test]
fn a_missing_root_is_refused_and_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("not/mounted");
    check_refused(DirectoryStore::open(&path), "does not exist", "mount that disk");
    assert!(!path.exists());
}

#[test]
fn a_file_in_place_of_the_root_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, b"").unwrap();
    check_refused(DirectoryStore::open(&path), "a file stands where", "name a directory");
    check_refused(DirectoryStore::create_root(&path), "a file stands where", "name a directory");
    check_refused(DirectoryStore::create_root(&path.join("below")), "a file stands where", "name a directory");
}

#[test]
fn making_the_root_twice_is_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/c");
    DirectoryStore::create_root(&path).unwrap();
    DirectoryStore::create_root(&path).unwrap();
    DirectoryStore::open(&path).unwrap();
}

#[tokio::test]
async fn files_and_directories_are_closed_to_others() {
    let (dir, store) = root();
    store.create(&name("a/b"), body()).await.unwrap();
    let check = |path: &str, want: u32| {
        let mode = std::fs::metadata(dir.path().join("store").join(path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, want, "{path}");
    };
    check("", 0o700);
    check("tmp", 0o700);
    check("a", 0o700);
    check("a/b", 0o600);
}

#[tokio::test]
async fn what_root_makes_belongs_to_whom_the_directory_belongs() {
    let (dir, store) = root();
    let store = match std::os::unix::fs::chown(dir.path().join("store"), Some(12_345), Some(23_456)) {
        Ok(()) => DirectoryStore::open(&dir.path().join("store")).unwrap(),
        // Who is not root gives nothing away: then all stays with the one who made it.
        Err(_) => store,
    };
    store.create(&name("a/b"), body()).await.unwrap();
    let owner = |path: &str| {
        let metadata = std::fs::metadata(dir.path().join("store").join(path)).unwrap();
        (metadata.uid(), metadata.gid())
    };
    assert_eq!((owner("a"), owner("a/b")), (owner(""), owner("")));
}

#[tokio::test]
async fn no_unfinished_file_stays_behind() {
    let (dir, store) = root();
    let temp = dir.path().join("store/tmp");
    store.create(&name("a/b"), body()).await.unwrap();
    store.create(&name("a/b"), body()).await.unwrap_err();
    store.create(&name("a/b/c"), body()).await.unwrap_err();
    assert_eq!(std::fs::read_dir(&temp).unwrap().count(), 0);
    assert!(store.list("", None, 10).await.unwrap().iter().all(|listed| listed.name == name("a/b")));
    std::fs::remove_dir(&temp).unwrap();
    store.create(&name("a/c"), body()).await.unwrap();
}

#[test]
fn only_our_own_files_of_long_ago_are_swept() {
    let (dir, store) = root();
    let temp = dir.path().join("store/tmp");
    let ours_old = format!("new-{}", "a".repeat(32));
    let ours_new = format!("new-{}", "b".repeat(32));
    let long_ago = SystemTime::now() - TEMP_AGE_MAX - Duration::from_secs(60);
    for (file, is_old) in [(&*ours_old, true), (&*ours_new, false), ("new-short", true), ("a-file-of-mine", true)] {
        let file = std::fs::File::create(temp.join(file)).unwrap();
        if is_old {
            file.set_modified(long_ago).unwrap();
        }
    }
    drop(store);
    DirectoryStore::open(&dir.path().join("store")).unwrap();
    let mut left: Vec<_> = std::fs::read_dir(&temp).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["a-file-of-mine", &ours_new, "new-short"]);
}

// Explains invariant: beneath-the-root
#[tokio::test]
async fn a_symbolic_link_inside_leads_nowhere() {
    let (dir, store) = root();
    let outside = dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), b"secret").unwrap();
    let root = dir.path().join("store");
    symlink(&outside, root.join("sites")).unwrap();
    symlink(outside.join("secret"), root.join("file")).unwrap();
    symlink("..", root.join("up")).unwrap();
    for text in ["sites/secret", "file", "up/outside/secret"] {
        check_refused(store.get(&name(text)).await, "symbolic links", "follows no symbolic links");
        check_refused(store.get_range(&name(text), 0..1).await, "symbolic links", "follows no");
    }
    for text in ["sites/new", "sites/new/deep", "up/new"] {
        check_refused(store.create(&name(text), body()).await, "symbolic links", "follows no");
    }
    check_refused(store.create(&name("file"), body()).await, "symbolic links", "follows no");
    check_refused(store.delete(&name("sites/secret")).await, "symbolic links", "follows no");
    check_refused(store.list("sites/", None, 10).await, "symbolic links", "follows no");
    assert!(store.list("", None, 10).await.unwrap().is_empty(), "links are not listed");
    assert_eq!(std::fs::read(outside.join("secret")).unwrap(), b"secret");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    assert!(store.list("../", None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_file_where_a_directory_should_be_is_named() {
    let (_dir, store) = root();
    store.create(&name("a"), body()).await.unwrap();
    store.create(&name("d/e"), body()).await.unwrap();
    check_refused(store.create(&name("a/b"), body()).await, "mixed up", "move it away");
    check_refused(store.create(&name("d"), body()).await, "mixed up", "move it away");
    assert!(matches!(store.get(&name("d")).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn foreign_files_are_not_listed() {
    let (dir, store) = root();
    store.create(&name("a/b"), body()).await.unwrap();
    let root = dir.path().join("store");
    std::fs::write(root.join("a/.DS_Store"), b"").unwrap();
    std::fs::create_dir(root.join("lost+found")).unwrap();
    std::fs::write(root.join("tmp/unfinished"), b"").unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, root.join("a/fifo"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    let found = store.list("", None, 10).await.unwrap();
    assert_eq!(found.iter().map(|one| (one.name.as_str(), one.len)).collect::<Vec<_>>(), [("a/b", 5)]);
    // Opening a FIFO must not wait for a writer.
    check_refused(store.get(&name("a/fifo")).await, "mixed up", "move it away");
}

#[tokio::test]
async fn a_directory_removed_by_hand_is_made_again() {
    let (dir, store) = root();
    store.create(&name("a/b/c"), body()).await.unwrap();
    std::fs::remove_dir_all(dir.path().join("store/a")).unwrap();
    store.create(&name("a/b/c"), body()).await.unwrap();
    assert_eq!(store.get(&name("a/b/c")).await.unwrap(), body());
}

#[test]
fn errors_of_the_file_system_say_what_to_do() {
    let check = |errno: Errno, want: &str, hint: &str| {
        let error = Faults::new(Path::new("/root")).of("write", "a/b", &errno.into());
        let text = format!("{error:?}");
        assert!(text.starts_with(want), "{errno}: {text}");
        assert!(text.contains("/root/a/b"), "{text}");
        assert!(error.hint().unwrap().contains(hint), "{errno}: {:?}", error.hint());
    };
    use rustix::io::Errno;
    check(Errno::NOSPC, "Full", "free some space");
    check(Errno::DQUOT, "Full", "free some space");
    check(Errno::ACCESS, "Refused", "user");
    check(Errno::PERM, "Refused", "user");
    check(Errno::ROFS, "Refused", "read-only");
    check(Errno::IO, "Refused", "dmesg");
    check(Errno::MFILE, "Unavailable", "again");
    check(Errno::STALE, "Unavailable", "again");
    let unfit = Faults::new(Path::new("/root")).of_link("a/b", &Errno::PERM.into());
    assert!(matches!(unfit, Error::Unfit { .. }), "{unfit:?}");
}

/// Nothing that a file system shows tells a sync from none; but one that is really asked for fails
/// where there is nothing to sync.
#[test]
fn the_real_disk_really_syncs() {
    let (_reader, writer) = std::io::pipe().unwrap();
    let mut pipe = disk::RealFile(std::fs::File::from(std::os::fd::OwnedFd::from(writer)));
    assert_eq!(pipe.sync().unwrap_err().kind(), io::ErrorKind::InvalidInput);
    let proc = RootDir::open(Path::new("/proc")).unwrap();
    assert_eq!(proc.sync_dir("").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(proc.sync_dir("sys").unwrap_err().kind(), io::ErrorKind::InvalidInput);
}
