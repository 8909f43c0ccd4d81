//! Full disks, a dead server, wrong credentials, Ctrl-C: a clear end, nothing lost, run again.

use std::process::Stdio;
use std::time::{Duration, Instant};

use lifeboat_testkit::s3_server::{ACCESS_KEY, S3Server, SECRET_KEY};
use lifeboat_testkit::small_disk::SmallDisk;

use super::place::{Place, noise};

#[test]
fn a_full_repository_loses_nothing_and_the_same_backup_finishes_later() {
    let outer = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount_or_skip(&outer.path().join("disk"), 4) else { return };
    let place = Place::new(Some(format!("file://{}/repository", disk.path().display())), Vec::new());
    place.make_site("acme");
    place.ok(&["backup", "--all"]);
    let before = place.picture("srv/acme/files");
    std::fs::write(place.path("srv/acme/files/big"), noise(1, 8_000_000)).unwrap();
    let said = place.run(&["backup", "--all"]);
    assert_eq!(said.code, 10, "{said:?}");
    assert!(format!("{}{}", said.out, said.err).contains("space"), "{said:?}");
    std::fs::remove_dir_all(place.path("srv/acme/files")).unwrap();
    let said = place.run(&["restore", "acme", "--export", &place.path("out").display().to_string(), "--yes"]);
    assert_eq!(said.code, 0, "a full repository can still be read: {said:?}");
    assert_eq!(place.picture("out/files"), before);
    disk.grow(64);
    place.ok(&["restore", "acme", "--yes"]);
    std::fs::write(place.path("srv/acme/files/big"), noise(1, 8_000_000)).unwrap();
    place.ok(&["backup", "--all"]);
    place.ok(&["check", "--read-data"]);
}

#[test]
fn a_full_target_is_left_as_it_was_and_the_same_restore_finishes_later() {
    let place = Place::new(None, Vec::new());
    let Some(disk) = SmallDisk::mount_or_skip(&place.path("srv"), 32) else { return };
    place.make_site("acme");
    std::fs::write(place.path("srv/acme/files/big"), noise(1, 8_000_000)).unwrap();
    place.ok(&["backup", "--all"]);
    let good = place.picture("srv/acme/files");
    std::fs::write(place.path("srv/acme/files/big"), b"damaged").unwrap();
    std::fs::write(place.path("srv/filler"), noise(2, 26_000_000)).unwrap();
    let damaged = place.picture("srv/acme");
    let said = place.run(&["restore", "acme", "--yes"]);
    assert_eq!(said.code, 10, "{said:?}");
    assert_eq!(place.picture("srv/acme"), damaged);
    std::fs::remove_file(place.path("srv/filler")).unwrap();
    place.ok(&["restore", "acme", "--yes"]);
    assert_eq!(place.picture("srv/acme/files"), good);
    drop(disk);
}

#[test]
fn a_full_catalog_is_a_warning_and_no_more() {
    let outer = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount_or_skip(&outer.path().join("disk"), 1) else { return };
    let place = Place::new(None, Vec::new());
    place.make_site("acme");
    let config = place.path("lifeboat.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let catalog = format!("[repository]\ncatalog = \"{}/catalog\"", disk.path().display());
    std::fs::write(&config, text.replacen("[repository]", &catalog, 1)).unwrap();
    std::fs::write(disk.path().join("filler"), noise(3, 2 << 20)).unwrap_err();
    place.ok(&["backup", "--all"]);
    std::fs::remove_dir_all(place.path("srv/acme")).unwrap();
    place.ok(&["restore", "acme", "--yes"]);
}

#[test]
fn a_server_that_is_down_or_refuses_is_said_plainly() {
    let Some(server) = S3Server::shared_or_skip("a_server_that_is_down_or_refuses_is_said_plainly") else { return };
    let credentials = |secret: &str| {
        vec![
            ("AWS_ACCESS_KEY_ID".to_owned(), ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY".to_owned(), secret.to_owned()),
        ]
    };
    let url = server.fresh_url().unwrap();
    let mut place = Place::new(Some(url.clone()), credentials(SECRET_KEY));
    place.make_site("acme");
    place.ok(&["backup", "--all"]);
    place.envs = credentials("not the secret");
    let said = place.run(&["backup", "--all"]);
    assert_eq!(said.code, 10, "{said:?}");
    assert!(said.err.contains("hint:"), "{said:?}");
    place.envs = credentials(SECRET_KEY);
    let config = place.path("lifeboat.toml");
    let good = std::fs::read_to_string(&config).unwrap();
    let bucket = url.trim_start_matches("s3://").split('/').next().unwrap();
    std::fs::write(&config, good.replacen(bucket, "no-such-bucket", 1)).unwrap();
    let said = place.run(&["backup", "--all"]);
    assert_eq!(said.code, 10, "{said:?}");
    std::fs::write(&config, good.replacen(&server.endpoint(), "http://127.0.0.1:9", 1)).unwrap();
    let begun = Instant::now();
    let said = place.run(&["backup", "--all"]);
    assert_eq!(said.code, 11, "{said:?}");
    println!("a dead endpoint was given up after {:?}", begun.elapsed());
    std::fs::write(&config, good).unwrap();
    place.ok(&["backup", "--all"]);
}

#[test]
fn ctrl_c_ends_a_backup_and_a_restore_cleanly() {
    let place = Place::new(None, Vec::new());
    place.make_site("acme");
    place.ok(&["backup", "--all"]);
    std::fs::write(place.path("srv/acme/files/huge"), noise(5, 150_000_000)).unwrap();
    let interrupted = |args: &[&str], after: Duration| {
        let child = place.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(after);
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        child.wait_with_output().unwrap()
    };
    let output = interrupted(&["backup", "--all", "--json"], Duration::from_millis(400));
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let last: serde_json::Value =
        serde_json::from_slice(output.stdout.split(|b| *b == b'\n').rfind(|l| !l.is_empty()).unwrap()).unwrap();
    assert_eq!(last["exit_code"], 130, "{output:?}");
    place.ok(&["backup", "--all"]);
    let good = place.picture("srv/acme/files");
    std::fs::remove_dir_all(place.path("srv/acme/files")).unwrap();
    let output = interrupted(&["restore", "acme", "--yes"], Duration::from_millis(400));
    if output.status.code() != Some(0) {
        assert_eq!(output.status.code(), Some(130), "{output:?}");
        assert!(!place.path("srv/acme/files").exists(), "nothing is half there");
    }
    let left: Vec<_> = std::fs::read_dir(place.path("srv/acme")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".lifeboat")), "{left:?}");
    place.ok(&["restore", "acme", "--yes"]);
    assert_eq!(place.picture("srv/acme/files"), good);
}

#[test]
fn a_bucket_that_was_rolled_back_is_damage_to_a_backup_as_well() {
    let place = Place::new(None, Vec::new());
    place.make_site("acme");
    place.ok(&["backup", "--all"]);
    place.ok(&["backup", "--all"]);
    let runs = place.path("repository/runs");
    let newest = std::fs::read_dir(&runs).unwrap().map(|run| run.unwrap().path()).min().unwrap(); // numbers count down
    std::fs::remove_file(newest).unwrap();
    let said = place.run(&["backup", "--all"]);
    assert_eq!(said.code, 20, "{said:?}");
    assert!(said.err.contains("lost a run"), "{said:?}");
}
