//! A site of every kind of entry, under write load, deleted and put back; a neighbour untouched.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_testkit::s3_server::{ACCESS_KEY, S3Server, SECRET_KEY};

use super::place::{Place, make_rich_tree};

fn files() -> usize {
    if std::env::var_os("LIFEBOAT_TEST_FULL").is_some() || std::env::var_os("CI").is_some() { 5000 } else { 800 }
}

/// The story of one site, wherever its repository is.
fn tell(place: &Place) {
    make_rich_tree(&place.path("srv/acme/files"), files());
    super::place::make_database(&place.path("srv/acme/notes.db"), "acme", 2000);
    place.make_site("beta");

    // An application goes on writing while the backup runs.
    let stop = Arc::new(AtomicBool::new(false));
    let database = place.path("srv/acme/notes.db");
    let (stopped, path) = (stop.clone(), database.clone());
    let load = std::thread::spawn(move || {
        let connection = rusqlite::Connection::open(path).unwrap();
        connection.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
        let mut written = 0;
        while !stopped.load(Ordering::Relaxed) {
            // Each transaction keeps the sum of the two rows at zero: a torn copy would show.
            written += 1;
            let sql = format!(
                "BEGIN IMMEDIATE; INSERT INTO note (body) VALUES ('up {written}'); \
                 INSERT INTO note (body) VALUES ('down {written}'); COMMIT;"
            );
            connection.execute_batch(&sql).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        written
    });
    place.ok(&["backup", "--all"]);
    stop.store(true, Ordering::Relaxed);
    assert!(load.join().unwrap() > 0);

    let (files, beta) = (place.picture("srv/acme/files"), place.picture("srv/beta"));
    std::fs::remove_dir_all(place.path("srv/acme")).unwrap();
    let said = place.ok(&["restore", "acme", "--yes", "--json"]);
    let done: serde_json::Value = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
    assert_eq!(done["event"], "done", "{said:?}");
    let restored = place.picture("srv/acme/files");
    for (path, then) in &files {
        assert_eq!(Some(then), restored.get(path), "{path:?}");
    }
    assert_eq!(restored.len(), files.len());
    assert_eq!(place.picture("srv/beta"), beta, "the neighbour is byte- and mtime-identical");
    let sparse = std::fs::metadata(place.path("srv/acme/files/sparse")).unwrap();
    assert!(std::os::unix::fs::MetadataExt::blocks(&sparse) < 1000, "holes stay holes");

    let connection = rusqlite::Connection::open(&database).unwrap();
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let pairs = |word: &str| -> i64 {
        connection.query_row("SELECT count(*) FROM note WHERE body LIKE ?1 || ' %'", [word], |row| row.get(0)).unwrap()
    };
    assert_eq!(pairs("up"), pairs("down"), "the copy is one moment of the database");
    drop(connection);

    // Damage, restore, undo: the state before the restore is back.
    std::fs::write(place.path("srv/acme/files/large"), b"overwritten").unwrap();
    std::fs::remove_dir_all(place.path("srv/acme/files/d05")).unwrap();
    std::fs::write(place.path("srv/acme/files/extra"), b"extra").unwrap();
    let damaged = place.picture("srv/acme/files");
    let said = place.ok(&["restore", "acme", "--yes", "--json"]);
    assert_eq!(place.picture("srv/acme/files"), files);
    let done: serde_json::Value = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
    place.ok(&["undo", done["undo_id"].as_str().unwrap(), "--yes"]);
    assert_eq!(place.picture("srv/acme/files"), damaged);
    assert_eq!(place.picture("srv/beta"), beta);

    place.ok(&["check", "--read-data"]);
    std::fs::remove_dir_all(place.path("lifeboat.catalog")).unwrap();
    let before = place.ok(&["points", "acme"]).out;
    place.ok(&["catalog", "rebuild"]);
    assert_eq!(place.ok(&["points", "acme"]).out.lines().count(), before.lines().count());
}

fn s3_credentials() -> Vec<(String, String)> {
    [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

#[test]
fn a_site_of_every_kind_comes_back_from_a_directory() {
    tell(&Place::new(None, Vec::new()));
}

#[test]
fn a_site_of_every_kind_comes_back_from_a_real_s3_server() {
    let Some(server) = S3Server::shared_or_skip("a_site_of_every_kind_comes_back_from_a_real_s3_server") else {
        return;
    };
    tell(&Place::new(Some(server.fresh_url().unwrap()), s3_credentials()));
}
