//! Key files as operators leave them.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn no_env(_: &str) -> Option<OsString> {
    None
}

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_key_that_others_can_reach_is_refused_with_the_command_that_mends_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lifeboat.key");
    let text = SecretKey::generate().unwrap().to_base64();
    for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false), (0o644, false)] {
        write(&path, &text, mode);
        let got = load(&KeyRef::File(path.clone()), &no_env);
        assert_eq!(got.is_ok(), good, "{mode:o}");
        if let Err(error) = got {
            assert_eq!(error.exit_code(), 10);
            assert!(error.message.contains(&format!("mode=`0{mode:o}`")), "{error:?}");
            assert!(error.hint.unwrap().contains(&format!("`chmod 600 {}`", path.display())));
        }
    }
}

#[test]
fn what_a_link_leads_to_is_what_counts() {
    let dir = tempfile::tempdir().unwrap();
    let (target, link) = (dir.path().join("real"), dir.path().join("lifeboat.key"));
    symlink(&target, &link).unwrap();
    assert!(load(&KeyRef::File(link.clone()), &no_env).unwrap_err().message.contains("cannot read the key file"));
    write(&target, &SecretKey::generate().unwrap().to_base64(), 0o644);
    assert!(load(&KeyRef::File(link.clone()), &no_env).unwrap_err().message.contains("others can read"));
    write(&target, &SecretKey::generate().unwrap().to_base64(), 0o600);
    assert!(load(&KeyRef::File(link), &no_env).is_ok());
}

#[test]
fn what_is_not_a_key_is_named_and_never_quoted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lifeboat.key");
    let long = "A".repeat(5000);
    for (text, want) in [
        ("", "not a master key"),
        ("hunter2hunter2", "44 characters of base64"),
        ("aHVudGVyMg==", "32 bytes"),
        (long.as_str(), "too long for a key file"),
    ] {
        write(&path, text, 0o600);
        let error = load(&KeyRef::File(path.clone()), &no_env).unwrap_err();
        assert_eq!(error.exit_code(), 10, "{error:?}");
        assert!(error.message.contains(want), "{error:?}");
        assert!(error.hint.is_some());
        assert!(text.is_empty() || !format!("{error:?}").contains(text), "the secret is told: {error:?}");
    }
    let error = load(&KeyRef::File(dir.path().to_owned()), &no_env).unwrap_err();
    assert!(error.message.contains("not a regular file"), "{error:?}");
}

#[test]
fn a_key_comes_from_the_environment_too() {
    let key = SecretKey::generate().unwrap();
    let text = key.to_base64();
    let env = |name: &str| (name == "K").then(|| OsString::from(text.as_str()));
    assert_eq!(load(&KeyRef::Env("K".into()), &env).unwrap().id(), key.id());
    let text = key.to_recovery_text();
    let env = |name: &str| (name == "K").then(|| OsString::from(text.as_str()));
    assert_eq!(load(&KeyRef::Env("K".into()), &env).unwrap().id(), key.id(), "the recovery key in its place");
    let error = load(&KeyRef::Env("L".into()), &env).unwrap_err();
    assert_eq!((error.exit_code(), error.message.contains("name=`L`")), (10, true), "{error:?}");
}

#[test]
fn a_new_key_file_is_private_and_never_overwrites() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new.key");
    let key = SecretKey::generate().unwrap();
    write_new_secret(&path, &key.to_base64()).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(load(&KeyRef::File(path.clone()), &no_env).unwrap().id(), key.id());
    let error = write_new_secret(&path, "other").unwrap_err();
    assert_eq!((error.exit_code(), error.message.contains("exists already")), (2, true), "{error:?}");
    assert_eq!(load(&KeyRef::File(path), &no_env).unwrap().id(), key.id());
    let error = write_new_secret(&dir.path().join("none/new.key"), "x").unwrap_err();
    assert_eq!(error.exit_code(), 10);
}
