//! Reading: consistent under writers, and without a trace where nobody writes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lifeboat_model::{EntryKind, SourceKind};
use lifeboat_source::{Error, Source};
use rusqlite::Connection;

use crate::child::{Task, rest};
use crate::support::{
    Fleet, Snapshot, age, assert_consistent, cat, dump, extract, grow, make, names, page_size, picture, read_part, site,
};

// Explains invariant: no-trace
#[test]
fn a_quiet_database_is_read_without_a_trace() {
    for mode in ["wal", "delete", "truncate"] {
        let fleet = Fleet::new();
        drop(make(&fleet.path(), mode, 500));
        std::thread::sleep(Duration::from_millis(60));
        let before = picture(fleet.path().parent().unwrap());
        // `truncate` leaves its journal, empty.
        assert_eq!(before.1.len(), if mode == "truncate" { 2 } else { 1 }, "{mode}");
        let snapshot = fleet.read().unwrap();
        assert_eq!(snapshot.reads, 1);
        assert_eq!(picture(fleet.path().parent().unwrap()), before, "{mode}");
        assert_eq!(snapshot.bytes, std::fs::read(fleet.path()).unwrap(), "{mode}");
        assert_eq!(page_size(&snapshot.entry), 4096);
    }
}

#[test]
fn a_database_that_was_just_closed_is_read_without_a_trace_as_well() {
    let fleet = Fleet::new();
    drop(make(&fleet.path(), "wal", 10));
    fleet.read().unwrap();
    assert_eq!(names(fleet.path().parent().unwrap()), ["notes.db"]);
}

#[test]
fn a_snapshot_under_writers_is_one_consistent_state() {
    for mode in ["wal", "delete", "truncate", "persist"] {
        let fleet = Fleet::new();
        let first = make(&fleet.path(), mode, 3_000);
        first.execute_batch("PRAGMA synchronous = OFF").unwrap();
        let other = Task::start("write", &[&fleet.path().display().to_string(), mode]);
        let is_over = AtomicBool::new(false);
        let counts: Vec<i64> = std::thread::scope(|scope| {
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    grow(&first, 20);
                    rest();
                }
            });
            let counts = (0..6).map(|_| assert_consistent(&extract(&fleet, &fleet.read().unwrap()))).collect();
            is_over.store(true, Ordering::Relaxed);
            counts
        });
        assert!(counts.is_sorted() && counts[0] >= 3_000, "{mode}: {counts:?}");
        assert!(counts[5] > counts[0], "{mode}: nobody wrote: {counts:?}");
        drop(other);
    }
}

#[test]
fn a_slow_reader_stops_no_writer() {
    for mode in ["wal", "delete"] {
        let fleet = Fleet::new();
        let application = make(&fleet.path(), mode, 2_000);
        let mut reader = fleet.source.open(&site("acme")).unwrap().unwrap();
        let entry = reader.next_entry().unwrap().unwrap();
        // The first read is optimistic in rollback mode; only the second one takes a lock.
        for _ in 0..2 {
            let mut content = reader.open_content(&entry).unwrap();
            content.read(&mut [0; 4096]).unwrap();
            let start = Instant::now();
            grow(&application, 10);
            assert!(start.elapsed() < Duration::from_secs(5), "{mode}");
        }
    }
}

#[test]
fn a_cold_read_overtaken_by_a_writer_is_done_again() {
    let fleet = Fleet::new();
    let application = make(&fleet.path(), "delete", 2_000);
    std::thread::sleep(Duration::from_millis(60));
    let mut reader = fleet.source.open(&site("acme")).unwrap().unwrap();
    let entry = reader.next_entry().unwrap().unwrap();
    let mut content = reader.open_content(&entry).unwrap();
    content.read(&mut [0; 4096]).unwrap();
    grow(&application, 3_000);
    let check = crate::support::read_all(content.as_mut()).and_then(|_| content.check());
    assert_eq!(check.unwrap(), lifeboat_source::ContentCheck::Changed);
    let mut again = reader.open_content(&entry).unwrap();
    crate::support::read_all(again.as_mut()).unwrap();
    assert!(matches!(again.check().unwrap(), lifeboat_source::ContentCheck::Stable(_)));
}

#[test]
fn the_log_of_an_application_is_read_and_left_as_it_is() {
    let fleet = Fleet::new();
    let application = make(&fleet.path(), "wal", 10);
    application.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA wal_autocheckpoint = 0;").unwrap();
    grow(&application, 100);
    // By another process: closing the file here would drop the locks of `application`.
    let look = || ["notes.db", "notes.db-wal"].map(|name| cat(&fleet.path().with_file_name(name)));
    let before = look();
    assert!(!before[1].is_empty());
    let snapshot = fleet.read().unwrap();
    assert_eq!(look(), before);
    assert_eq!(assert_consistent(&extract(&fleet, &snapshot)), 110);
    assert_ne!(snapshot.bytes, before[0]);
    assert_eq!(names(fleet.path().parent().unwrap()), ["notes.db", "notes.db-shm", "notes.db-wal"]);
}

#[test]
fn a_stamp_is_equal_exactly_when_nothing_was_written() {
    let fleet = Fleet::new();
    let stamp = || fleet.source.stamp(&site("acme")).unwrap().unwrap();
    let recorded = |snapshot: &Snapshot| match &snapshot.entry.kind {
        EntryKind::Database { stamp, .. } => stamp.clone(),
        _ => panic!(),
    };
    let application = make(&fleet.path(), "wal", 10);
    age();
    let old = fleet.read().unwrap();
    assert_eq!(recorded(&old), stamp());
    let listed = fleet.source.open(&site("acme")).unwrap().unwrap().next_entry().unwrap().unwrap();
    assert_eq!(listed.kind, old.entry.kind, "the engine compares what it lists with what it recorded");
    grow(&application, 1);
    assert_ne!(recorded(&old), stamp());
    assert_ne!(stamp(), stamp(), "a stamp taken too early must not be trusted");
    age();
    assert_ne!(recorded(&old), stamp());
}

/// Makes a database by `sql`, reads it, and compares the copy row by row.
fn check_copy(what: &str, sql: &str) {
    let fleet = Fleet::new();
    let connection = Connection::open(fleet.path()).unwrap();
    connection.execute_batch(sql).unwrap();
    drop(connection);
    let snapshot = fleet.read().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(snapshot.bytes, std::fs::read(fleet.path()).unwrap(), "{what}");
    assert_eq!(dump(&extract(&fleet, &snapshot)), dump(&fleet.path()), "{what}");
}

#[test]
fn every_kind_of_database_is_read_whole() {
    let fill = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 2000)
                INSERT INTO t SELECT n, hex(randomblob(n % 300)) FROM r;";
    let plain = format!("CREATE TABLE t(a INTEGER PRIMARY KEY, b); {fill}");
    for (what, sql) in [
        ("page size 512", format!("PRAGMA page_size = 512; {plain}")),
        ("page size 65536", format!("PRAGMA page_size = 65536; {plain}")),
        ("auto_vacuum", format!("PRAGMA auto_vacuum = FULL; {plain} DELETE FROM t WHERE a % 3 = 0;")),
        ("incremental vacuum", format!("PRAGMA auto_vacuum = INCREMENTAL; {plain} DELETE FROM t WHERE a > 9;")),
        ("without rowid", format!("CREATE TABLE t(a PRIMARY KEY, b) WITHOUT ROWID; CREATE INDEX i ON t(b); {fill}")),
        ("free pages", format!("{plain} DELETE FROM t WHERE a > 3;")),
        ("overflow pages", format!("{plain} INSERT INTO t VALUES(9999, zeroblob(300000));")),
        ("fts5", "CREATE VIRTUAL TABLE f USING fts5(x); INSERT INTO f VALUES('a b'), ('b c');".into()),
        ("fts4", "CREATE VIRTUAL TABLE f USING fts4(x); INSERT INTO f VALUES('a b'), ('b c');".into()),
        ("rtree", "CREATE VIRTUAL TABLE r USING rtree(id, a, b); INSERT INTO r VALUES(1, 0.5, 2);".into()),
        ("utf-16", format!("PRAGMA encoding = 'UTF-16le'; {plain}")),
        (
            "a schema that calls",
            format!(
                "{plain} CREATE VIEW v AS SELECT random(); CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END;"
            ),
        ),
    ] {
        check_copy(what, &sql);
    }
}

#[test]
fn bytes_reserved_at_the_end_of_each_page_are_kept() {
    let fleet = Fleet::new();
    let connection = Connection::open(fleet.path()).unwrap();
    connection.file_control::<&str>(None, rusqlite::FileControl::ReserveBytes(&mut 32)).unwrap();
    connection.execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES(hex(randomblob(9000)));").unwrap();
    assert_eq!(cat(&fleet.path())[20], 32);
    // In use (a running write) and quiet: spooled once, cold once.
    connection.execute_batch("PRAGMA journal_mode = PERSIST; UPDATE t SET a = a || 'x';").unwrap();
    for mode in ["spooled", "cold"] {
        let snapshot = fleet.read().unwrap();
        assert_eq!(snapshot.bytes, cat(&fleet.path()), "{mode}");
        connection.execute_batch("PRAGMA journal_mode = DELETE;").unwrap();
    }
}

#[test]
fn an_empty_file_is_an_empty_database() {
    let fleet = Fleet::new();
    std::fs::write(fleet.path(), b"").unwrap();
    let snapshot = fleet.read().unwrap();
    assert_eq!((snapshot.bytes.len(), snapshot.entry.metadata.size), (0, 0));
}

#[test]
fn a_journal_of_a_crashed_writer_is_rolled_back_and_not_mixed_in() {
    let fleet = Fleet::new();
    drop(make(&fleet.path(), "delete", 3_000));
    let sound = dump(&fleet.path());
    let mut writer = Task::start("crash", &[&fleet.path().display().to_string()]);
    assert_eq!(writer.answer(), "torn");
    writer.kill();
    assert_eq!(names(fleet.path().parent().unwrap()), ["notes.db", "notes.db-journal"]);
    let snapshot = fleet.read().unwrap();
    assert_eq!(dump(&extract(&fleet, &snapshot)), sound);
}

#[test]
fn tables_that_need_the_application_are_no_damage() {
    let fleet = Fleet::new();
    let connection = make(&fleet.path(), "delete", 100);
    connection
        .execute_batch(
            "CREATE INDEX i ON a(t);
             CREATE TABLE c(x CHECK (x > 0));
             PRAGMA ignore_check_constraints = ON; INSERT INTO c VALUES(-1);
             PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = 'CREATE INDEX i ON a(t COLLATE german)' WHERE name = 'i';
             INSERT INTO sqlite_schema(type, name, tbl_name, rootpage, sql)
             VALUES('table', 'v', 'v', 0, 'CREATE VIRTUAL TABLE v USING vector0(x)'),
                   ('table', 'w', 'w', 0, 'CREATE VIRTUAL TABLE w USING fts5(x, tokenize = ''german'')');",
        )
        .unwrap();
    drop(connection);
    let snapshot = fleet.read().unwrap();
    assert_eq!(snapshot.bytes, std::fs::read(fleet.path()).unwrap());
}

#[test]
fn sites_are_found_by_the_template_and_companions_are_not_sites() {
    let fleet = Fleet::new();
    let _open = make(&fleet.path(), "wal", 1);
    std::fs::create_dir(fleet.dir.path().join("sites/empty")).unwrap();
    assert_eq!(fleet.source.discover().unwrap().sites, [site("acme")]);
    assert_eq!(fleet.source.kind(), SourceKind::Sqlite);
    assert!(fleet.source.open(&site("empty")).unwrap().is_none());
    assert!(fleet.source.open(&site("nobody")).unwrap().is_none());
    assert_eq!(fleet.source.stamp(&site("nobody")).unwrap(), None);

    let template = format!("{}/sites/acme/{{site}}", fleet.dir.path().display());
    let flat = lifeboat_source::sqlite::SqliteSource::new(
        fleet.source.name().clone(),
        lifeboat_source::PathTemplate::parse(&template).unwrap(),
    );
    let found = flat.discover().unwrap();
    assert_eq!(found.sites, [site("notes.db")]);
    assert_eq!(found.left_out.len(), 2, "{found:?}");
}

#[test]
fn a_link_into_another_site_and_a_missing_root_are_errors() {
    let fleet = Fleet::new();
    drop(make(&fleet.path(), "delete", 1));
    let sites = fleet.dir.path().join("sites");
    std::os::unix::fs::symlink(sites.join("acme"), sites.join("mallory")).unwrap();
    assert!(matches!(fleet.source.open(&site("mallory")), Err(Error::Conflict { .. })));
    std::fs::create_dir(sites.join("eve")).unwrap();
    std::os::unix::fs::symlink(fleet.path(), sites.join("eve/notes.db")).unwrap();
    assert!(matches!(fleet.source.open(&site("eve")), Err(Error::Conflict { .. })));
    std::fs::rename(&sites, fleet.dir.path().join("gone")).unwrap();
    assert!(matches!(fleet.source.open(&site("acme")), Err(Error::SourceFailed { .. })));
    assert!(matches!(fleet.source.discover(), Err(Error::SourceFailed { .. })));
}

#[test]
fn a_name_of_any_bytes_is_opened() {
    use std::os::unix::ffi::OsStrExt;
    let fleet = Fleet::new();
    let name = std::ffi::OsStr::from_bytes(b"a b?mode=rw#%41\xff.db");
    let path = fleet.dir.path().join(name);
    drop(make(&fleet.path(), "delete", 5));
    std::fs::rename(fleet.path(), &path).unwrap();
    let place = lifeboat_source::Place::at(&path).unwrap();
    let target = lifeboat_source::sqlite::SqliteTarget::open(&place, crate::support::RESTORE).unwrap();
    let snapshot = read_part(target.read_live().unwrap().unwrap()).unwrap();
    assert_eq!(snapshot.bytes, std::fs::read(&path).unwrap());
}

#[test]
fn half_written_pages_without_a_journal_are_not_read() {
    let fleet = Fleet::new();
    let application = make(&fleet.path(), "delete", 3_000);
    crate::support::set_mode(&application, "memory");
    let sound = dump(&fleet.path());
    application
        .execute_batch("PRAGMA cache_size = 5; BEGIN IMMEDIATE; UPDATE a SET t = hex(randomblob(100));")
        .unwrap();
    // Long enough for the half-written file to look quiet.
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(names(fleet.path().parent().unwrap()), ["notes.db"]);
    let snapshot = std::thread::scope(|scope| {
        let reading = scope.spawn(|| fleet.read().unwrap());
        std::thread::sleep(Duration::from_millis(300));
        assert!(!reading.is_finished(), "it waits for the writer");
        application.execute_batch("ROLLBACK").unwrap();
        reading.join().unwrap()
    });
    assert_eq!(dump(&extract(&fleet, &snapshot)), sound);
}
