//! Restoring: an application that keeps the database open stays right, and nothing is lost.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use lifeboat_model::EntryKind;
use lifeboat_source::sqlite::{Expect, How, Live, LiveCheck, digest};
use lifeboat_source::{ContentCheck, Error};
use rusqlite::Connection;

use crate::child::Task;
use crate::support::{
    Fleet, Snapshot, assert_consistent, dump, extract, grow, make, names, read_all, restore, restore_and_verify,
};

fn rows(path: &std::path::Path) -> i64 {
    assert_consistent(path)
}

#[test]
fn an_absent_database_is_placed_with_its_metadata_and_no_leftovers() {
    for mode in ["wal", "delete"] {
        let fleet = Fleet::new();
        drop(make(&fleet.path(), mode, 300));
        std::fs::set_permissions(fleet.path(), std::fs::Permissions::from_mode(0o640)).unwrap();
        let snapshot = fleet.read().unwrap();
        let before = (std::fs::read(fleet.path()).unwrap(), fleet.path().metadata().unwrap());
        std::fs::remove_dir_all(fleet.path().parent().unwrap()).unwrap();

        let done = restore_and_verify(&fleet, &snapshot);
        assert_eq!((done.how, done.check), (How::Placed, LiveCheck::Equal), "{mode}");
        assert_eq!(done.warnings, Vec::<String>::new());
        let after = fleet.path().metadata().unwrap();
        assert_eq!(std::fs::read(fleet.path()).unwrap(), before.0);
        assert_eq!(
            (after.mode(), after.uid(), after.modified().unwrap()),
            (before.1.mode(), before.1.uid(), before.1.modified().unwrap())
        );
        assert_eq!(names(fleet.path().parent().unwrap()), ["notes.db"]);
        assert_eq!(fleet.path().parent().unwrap().metadata().unwrap().mode() & 0o777, 0o750);
    }
}

#[test]
fn a_log_of_a_former_life_is_not_played_into_the_restored_database() {
    let fleet = Fleet::new();
    let application = make(&fleet.path(), "wal", 100);
    application.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA wal_autocheckpoint = 0").unwrap();
    let snapshot = fleet.read().unwrap();
    grow(&application, 50);
    // A crash: the log stays, and the script that deletes databases forgets it.
    let wal = std::fs::read(fleet.path().with_extension("db-wal")).unwrap();
    drop(application);
    std::fs::remove_file(fleet.path()).unwrap();
    std::fs::write(fleet.path().with_extension("db-wal"), wal).unwrap();

    assert!(matches!(fleet.target().live().unwrap(), Live::Absent { leftovers } if leftovers.len() == 1));
    let done = restore_and_verify(&fleet, &snapshot);
    assert_eq!(done.warnings.len(), 1, "{:?}", done.warnings);
    assert_eq!(rows(&fleet.path()), 100);
}

// Explains invariant: in-place
#[test]
fn an_application_that_keeps_the_database_open_sees_the_restore_and_keeps_its_next_write() {
    for mode in ["wal", "delete"] {
        let fleet = Fleet::new();
        drop(make(&fleet.path(), mode, 1_000));
        let snapshot = fleet.read().unwrap();
        let mut application = Task::start("serve", &[&fleet.path().display().to_string()]);
        let own = Connection::open(fleet.path()).unwrap();
        grow(&own, 4_000);
        assert_eq!(application.ask("add"), "acknowledged");
        assert_eq!(application.ask("count"), "5001");

        let done = restore_and_verify(&fleet, &snapshot);
        assert_eq!((done.how, done.check), (How::CopiedInto, LiveCheck::Equal), "{mode}");
        assert_eq!(application.ask("count"), "1000", "{mode}");
        assert_eq!(own.query_row("SELECT count(*) FROM a", [], |row| row.get::<_, i64>(0)).unwrap(), 1_000);
        assert_eq!(application.ask("add"), "acknowledged", "{mode}");
        grow(&own, 1);
        // Killed, so that nothing but what was acknowledged can be there.
        application.kill();
        drop(own);
        assert_eq!(rows(&fleet.path()), 1_002, "{mode}");
        assert_eq!(names(fleet.path().parent().unwrap()), ["notes.db"], "{mode}");
        let now: String =
            Connection::open(fleet.path()).unwrap().query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        assert_eq!(now, mode, "the live database keeps its journal mode");
    }
}

#[test]
fn a_snapshot_of_the_other_journal_mode_is_restored_into_the_live_mode() {
    for (taken, live) in [("wal", "delete"), ("delete", "wal")] {
        let fleet = Fleet::new();
        drop(make(&fleet.path(), taken, 500));
        let snapshot = fleet.read().unwrap();
        let application = Connection::open(fleet.path()).unwrap();
        crate::support::set_mode(&application, live);
        grow(&application, 5);
        let done = restore_and_verify(&fleet, &snapshot);
        assert_eq!(done.check, LiveCheck::Equal, "{taken} into {live}");
        grow(&application, 1);
        drop(application);
        assert_eq!(rows(&fleet.path()), 501, "{taken} into {live}");
    }
}

#[test]
fn another_page_size_is_restored_into_a_live_database_unless_its_log_forbids_it() {
    for (mode, is_open, want) in [("delete", true, true), ("wal", false, true), ("wal", true, false)] {
        for (old, new) in [(512, 8192), (8192, 512)] {
            let fleet = Fleet::new();
            let other = Fleet::new();
            let sized = |path: &std::path::Path, size: u32, mode: &str, count: u32| {
                let connection = Connection::open(path).unwrap();
                connection.execute_batch(&format!("PRAGMA page_size = {size}")).unwrap();
                drop(connection);
                let connection = Connection::open(path).unwrap();
                connection.execute_batch(&format!("PRAGMA page_size = {size}; PRAGMA journal_mode = {mode};")).unwrap();
                connection
                    .execute_batch(
                        "CREATE TABLE a(id INTEGER PRIMARY KEY, n INT, t TEXT); CREATE TABLE b(n INT, t TEXT);",
                    )
                    .unwrap();
                grow(&connection, count);
                connection
            };
            drop(sized(&other.path(), old, mode, 700));
            let snapshot = other.read().unwrap();
            let application = sized(&fleet.path(), new, mode, 300);
            let application = is_open.then_some(application);
            let what = format!("{mode}, open {is_open}, {old} into {new}");
            match fleet.restore(&snapshot) {
                Ok(switched) => {
                    assert!(want, "{what}");
                    assert_eq!(switched.verify_live().unwrap(), LiveCheck::Equal, "{what}");
                }
                Err(error) => {
                    assert!(!want && matches!(error, Error::Conflict { .. }), "{what}: {error}");
                    assert!(lifeboat_model::Faulty::hint(&error).unwrap().contains("freeze"));
                }
            }
            if let Some(application) = application {
                grow(&application, 1);
            }
            assert_eq!(rows(&fleet.path()), if want { 700 } else { 300 } + i64::from(is_open), "{what}");
        }
    }
}

#[test]
fn a_live_file_that_is_no_database_is_replaced_only_when_nobody_has_it_open() {
    let fleet = Fleet::new();
    drop(make(&fleet.path(), "delete", 300));
    let snapshot = fleet.read().unwrap();
    std::fs::write(fleet.path(), b"not a database, but somebody's").unwrap();
    let target = fleet.target();
    assert!(matches!(target.live().unwrap(), Live::Unusable { bytes: 30, .. }));
    let mut raw = target.raw_live().unwrap();
    let bytes = read_all(raw.as_mut()).unwrap();
    let ContentCheck::Stable(entry) = raw.check().unwrap() else { panic!() };
    drop(raw);
    assert_eq!((bytes.as_slice(), &entry.kind), (b"not a database, but somebody's".as_slice(), &EntryKind::File));

    let open = std::fs::File::open(fleet.path()).unwrap();
    match fleet.restore(&snapshot) {
        Err(error @ Error::Conflict { .. }) => assert!(error.to_string().contains("open in"), "{error}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(std::fs::read(fleet.path()).unwrap(), bytes);
    drop(open);
    let done = restore_and_verify(&fleet, &snapshot);
    assert_eq!((done.how, done.check), (How::Replaced, LiveCheck::Equal));

    let kept = Snapshot { entry: *entry, bytes, reads: 1 };
    assert_eq!(Expect::for_entry(&kept.entry.kind, true), Expect::RawFile);
    assert_eq!(restore(&target, &kept, true).unwrap().verify_live().unwrap(), LiveCheck::Equal);
    assert_eq!(std::fs::read(fleet.path()).unwrap(), kept.bytes);
}

#[test]
fn a_process_that_still_has_the_removed_database_open_is_named() {
    let fleet = Fleet::new();
    drop(make(&fleet.path(), "delete", 10));
    let snapshot = fleet.read().unwrap();
    let mut application = Task::start("serve", &[&fleet.path().display().to_string()]);
    assert_eq!(application.ask("count"), "10");
    std::fs::remove_file(fleet.path()).unwrap();
    let done = restore_and_verify(&fleet, &snapshot);
    let pid = format!("pid {}", application.child.id());
    assert!(done.warnings.iter().any(|warning| warning.contains(&pid)), "{:?}", done.warnings);
}

#[test]
fn a_database_is_removed_only_when_nobody_has_it_open() {
    let fleet = Fleet::new();
    let application = make(&fleet.path(), "wal", 10);
    let target = fleet.target();
    assert!(matches!(target.remove_live(), Err(Error::Conflict { .. })));
    assert_eq!(application.query_row("SELECT count(*) FROM a", [], |row| row.get::<_, i64>(0)).unwrap(), 10);
    drop(application);
    target.remove_live().unwrap();
    target.remove_live().unwrap();
    assert_eq!(names(fleet.path().parent().unwrap()), Vec::<String>::new());
}

#[test]
fn an_empty_database_comes_back_empty() {
    let fleet = Fleet::new();
    std::fs::write(fleet.path(), b"").unwrap();
    let snapshot = fleet.read().unwrap();
    let application = make(&fleet.path(), "delete", 100);
    assert_eq!(restore_and_verify(&fleet, &snapshot).check, LiveCheck::Equal);
    let left: i64 = application.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
    drop(application);
    std::fs::remove_file(fleet.path()).unwrap();
    assert_eq!(restore_and_verify(&fleet, &snapshot).how, How::Placed);
    assert_eq!(std::fs::read(fleet.path()).unwrap(), b"");
}

#[test]
fn a_write_after_the_switch_is_told_from_a_bad_copy() {
    for mode in ["wal", "delete"] {
        let fleet = Fleet::new();
        let application = make(&fleet.path(), mode, 100);
        let snapshot = fleet.read().unwrap();
        let switched = fleet.restore(&snapshot).unwrap();
        grow(&application, 1);
        assert_eq!(switched.verify_live().unwrap(), LiveCheck::ChangedSince, "{mode}");
    }
}

#[test]
fn equal_databases_have_equal_digests_whatever_their_journal_mode() {
    let fleet = Fleet::new();
    drop(make(&fleet.path(), "delete", 200));
    let before = digest(&fleet.path()).unwrap();
    let snapshot = fleet.read().unwrap();
    let copy = extract(&fleet, &snapshot);
    crate::support::set_mode(&Connection::open(&copy).unwrap(), "wal");
    assert_eq!(digest(&copy).unwrap(), before);
    grow(&Connection::open(&copy).unwrap(), 1);
    assert_ne!(digest(&copy).unwrap(), before);
    assert_eq!(dump(&fleet.path()), dump(&extract(&fleet, &snapshot)));
}

#[test]
fn staging_starts_over_and_leaves_nothing() {
    let fleet = Fleet::new();
    drop(make(&fleet.path(), "delete", 100));
    let snapshot = fleet.read().unwrap();
    let target = fleet.target();
    let staging = target.begin().unwrap();
    staging.write_at(1 << 20, b"left by a killed run").unwrap();
    drop(staging);
    let beside = names(fleet.path().parent().unwrap());
    let [staged, _] = &beside[..] else { panic!("{beside:?}") };
    assert!(staged.starts_with(".lifeboat-0707070707070707-") && staged.ends_with("-notes.db"), "{staged}");
    let mode = fleet.path().with_file_name(staged).metadata().unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);
    restore_and_verify(&fleet, &snapshot);
    assert_eq!(names(fleet.path().parent().unwrap()), ["notes.db"]);
    drop(target.begin().unwrap());
    target.discard_staging().unwrap();
    assert_eq!(names(fleet.path().parent().unwrap()), ["notes.db"]);
}

#[test]
fn a_transaction_of_the_application_is_waited_for_and_never_broken() {
    for (mode, want) in [("delete", false), ("wal", true)] {
        let fleet = Fleet::new();
        let application = make(&fleet.path(), mode, 100);
        let snapshot = fleet.read().unwrap();
        grow(&application, 5);
        let count = || application.query_row("SELECT count(*) FROM a", [], |row| row.get::<_, i64>(0)).unwrap();
        application.execute_batch("BEGIN").unwrap();
        assert_eq!(count(), 105);
        let target = fleet.target().with_patience(std::time::Duration::from_millis(200));
        match restore(&target, &snapshot, false) {
            Ok(switched) => {
                assert!(want, "{mode}");
                assert_eq!(switched.verify_live().unwrap(), LiveCheck::Equal);
            }
            Err(error) => assert!(!want && matches!(error, Error::Busy { .. }), "{mode}: {error}"),
        }
        assert_eq!(count(), 105, "{mode}: a running transaction sees one state");
        application.execute_batch("COMMIT").unwrap();
        drop(restore(&target, &snapshot, false).unwrap());
        assert_eq!(count(), 100, "{mode}");
    }
}
