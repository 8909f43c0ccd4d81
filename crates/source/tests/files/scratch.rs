//! What a drill may take away, and what it leaves alone.

use std::os::unix::fs::PermissionsExt;

use lifeboat_source::{SCRATCH_PREFIX, ScratchDirectory};

// Explains invariant: scratch-alone
#[test]
fn only_what_drills_have_made_is_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("drills");
    let scratch = ScratchDirectory::claim(&path).unwrap();
    let ours = path.join(format!("{SCRATCH_PREFIX}0011223344556677"));
    let outside = dir.path().join("outside");
    for made in [&ours.join("a/b"), &path.join("mine"), &outside] {
        std::fs::create_dir_all(made).unwrap();
    }
    std::fs::write(outside.join("kept"), "x").unwrap();
    std::os::unix::fs::symlink(&outside, ours.join("a/link")).unwrap();
    std::fs::write(ours.join("a/b/c"), "x").unwrap();
    std::fs::set_permissions(ours.join("a/b"), std::fs::Permissions::from_mode(0o555)).unwrap();
    for wrong in ["mine", "../outside", "lifeboat_drill_../../outside", ""] {
        assert!(scratch.remove(wrong).is_err(), "{wrong}");
    }
    scratch.sweep().unwrap();
    scratch.sweep().unwrap();
    assert!(!ours.exists() && path.join("mine").exists());
    assert!(outside.join("kept").exists(), "a link is taken away, and not what it leads to");
}

#[test]
fn what_only_has_a_drills_name_is_told_by_its_own_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("drills");
    let scratch = ScratchDirectory::claim(&path).unwrap();
    let (file, link) = (format!("{SCRATCH_PREFIX}file"), format!("{SCRATCH_PREFIX}link"));
    std::fs::write(path.join(&file), "x").unwrap();
    std::os::unix::fs::symlink(dir.path(), path.join(&link)).unwrap();
    for name in [file, link] {
        let error = scratch.remove(&name).unwrap_err().to_string();
        assert!(error.contains(&name) && error.contains("is no directory"), "{error}");
        assert!(path.join(name).symlink_metadata().is_ok());
    }
}

#[test]
fn a_directory_is_one_drills_at_a_time_and_closed_to_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("drills");
    let first = ScratchDirectory::claim(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    let error = ScratchDirectory::claim(&path).unwrap_err().to_string();
    assert!(error.contains("another drill is at work here"), "{error}");
    drop(first);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o750)).unwrap();
    let error = ScratchDirectory::claim(&path).unwrap_err().to_string();
    assert!(error.contains("others may look into the directory"), "{error}");
}
