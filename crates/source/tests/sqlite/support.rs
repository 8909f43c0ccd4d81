//! A small fleet of databases in a temporary directory, and the steps an engine takes with them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use lifeboat_model::{Entry, EntryKind, RestoreId, SiteId, SourceName};
use lifeboat_source::sqlite::{Expect, LiveCheck, SqliteSource, SqliteTarget, Switched, VerifiedDatabase};
use lifeboat_source::{Content, ContentCheck, Error, PartReader, PathTemplate, Read, Source};
use rusqlite::Connection;
use rusqlite::types::Value;

pub const RESTORE: RestoreId = RestoreId([7; 8]);

pub struct Fleet {
    pub dir: tempfile::TempDir,
    pub source: SqliteSource,
}

/// One entry and its content, as a repository would keep them.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub entry: Entry,
    pub bytes: Vec<u8>,
    /// How often the content was read until it was stable.
    pub reads: u32,
}

pub fn site(name: &str) -> SiteId {
    SiteId::new(name).unwrap()
}

impl Fleet {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let template = format!("{}/sites/{{site}}/notes.db", dir.path().display());
        std::fs::create_dir_all(dir.path().join("sites/acme")).unwrap();
        let source = SqliteSource::new(SourceName::new("notes").unwrap(), PathTemplate::parse(&template).unwrap());
        Self { dir, source }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("sites/acme/notes.db")
    }

    pub fn read(&self) -> Result<Snapshot, Error> {
        let reader = self.source.open(&site("acme"))?.expect("the database is there");
        read_part(reader)
    }

    pub fn target(&self) -> SqliteTarget {
        SqliteTarget::open(&self.source.place(&site("acme")).unwrap(), RESTORE).unwrap()
    }

    /// Restores the snapshot in place and reads it back.
    pub fn restore(&self, snapshot: &Snapshot) -> Result<Switched, Error> {
        restore(&self.target(), snapshot, false)
    }
}

pub fn read_part(mut reader: Box<dyn PartReader>) -> Result<Snapshot, Error> {
    let entry = reader.next_entry()?.expect("one entry");
    assert!(reader.next_entry()?.is_none());
    assert_eq!(reader.cutting(), lifeboat_source::Cutting::Fixed(65_536));
    for reads in 1..5 {
        let mut content = reader.open_content(&entry)?;
        let bytes = read_all(content.as_mut())?;
        if let ContentCheck::Stable(entry) = content.check()? {
            assert_eq!(entry.metadata.size, bytes.len() as u64);
            reader.finish()?;
            return Ok(Snapshot { entry: *entry, bytes, reads });
        }
    }
    panic!("never stable");
}

/// Reads with a buffer that no page size divides, so that every seam is crossed.
pub fn read_all(content: &mut dyn Content) -> Result<Vec<u8>, Error> {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 100_001]);
    loop {
        match content.read(&mut buffer)? {
            Read::Data(len) => bytes.extend_from_slice(&buffer[..len]),
            Read::Hole(len) => bytes.resize(bytes.len() + len as usize, 0),
            Read::End => return Ok(bytes),
        }
    }
}

pub fn restore(target: &SqliteTarget, snapshot: &Snapshot, is_undo: bool) -> Result<Switched, Error> {
    target.switch(stage(target, snapshot, is_undo)?, &snapshot.entry.metadata)
}

pub fn stage(target: &SqliteTarget, snapshot: &Snapshot, is_undo: bool) -> Result<VerifiedDatabase, Error> {
    let staging = target.begin()?;
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let staging = &staging;
            scope.spawn(move || {
                for (number, part) in snapshot.bytes.chunks(65_536).enumerate().filter(|(at, _)| at % 4 == thread) {
                    staging.write_at(number as u64 * 65_536, part).unwrap();
                }
            });
        }
    });
    let expect = Expect::for_entry(&snapshot.entry.kind, is_undo);
    staging.finish(snapshot.entry.metadata.size)?.verify(expect)
}

pub fn restore_and_verify(fleet: &Fleet, snapshot: &Snapshot) -> Switched2 {
    let switched = fleet.restore(snapshot).unwrap();
    let (how, warnings) = (switched.how(), switched.warnings().to_vec());
    Switched2 { how, warnings, check: switched.verify_live().unwrap() }
}

/// What is left of a switch after it was verified.
#[derive(Debug)]
pub struct Switched2 {
    pub how: lifeboat_source::sqlite::How,
    pub warnings: Vec<String>,
    pub check: LiveCheck,
}

pub fn page_size(entry: &Entry) -> u32 {
    match entry.kind {
        EntryKind::Database { page_size, .. } => page_size,
        _ => panic!("not a database"),
    }
}

/// A database with the given journal mode and `rows` rows of 200 bytes in two tables whose sums
/// must agree.
pub fn make(path: &Path, mode: &str, rows: u32) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
    set_mode(&connection, mode);
    connection
        .execute_batch("CREATE TABLE a(id INTEGER PRIMARY KEY, n INT, t TEXT); CREATE TABLE b(n INT, t TEXT);")
        .unwrap();
    grow(&connection, rows);
    connection
}

pub fn set_mode(connection: &Connection, mode: &str) {
    let got: String = connection.query_row(&format!("PRAGMA journal_mode = {mode}"), [], |row| row.get(0)).unwrap();
    assert_eq!(got, mode);
}

/// Adds rows in one transaction, the same number to both tables.
pub fn grow(connection: &Connection, rows: u32) {
    connection
        .execute_batch(&format!(
            "BEGIN IMMEDIATE;
             WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < {rows})
             INSERT INTO a(n, t) SELECT n, hex(randomblob(100)) FROM r;
             INSERT INTO b SELECT n, t FROM a WHERE id > (SELECT count(*) FROM b);
             COMMIT;"
        ))
        .unwrap();
}

/// Every schema line and every row, in a fixed order.
pub fn dump(path: &Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let mut lines = Vec::new();
    let mut schema =
        connection.prepare("SELECT name, coalesce(sql, ''), type FROM sqlite_schema ORDER BY name").unwrap();
    let objects: Vec<(String, String, String)> = schema
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    for (name, sql, kind) in objects {
        lines.push(format!("{kind} {name}: {sql}"));
        if kind != "table" {
            continue;
        }
        let mut rows = connection.prepare(&format!("SELECT * FROM \"{name}\"")).unwrap();
        let columns = rows.column_count();
        let mut found: Vec<String> = rows
            .query_map([], |row| (0..columns).map(|at| row.get::<_, Value>(at)).collect::<Result<Vec<_>, _>>())
            .unwrap()
            .map(|values| format!("{name} {:?}", values.unwrap()))
            .collect();
        found.sort();
        lines.extend(found);
    }
    lines
}

/// Asserts what every consistent copy of a [`make`] database keeps, and gives the number of rows.
pub fn assert_consistent(path: &Path) -> i64 {
    let connection = Connection::open(path).unwrap();
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let sums = |table: &str| -> (i64, i64) {
        let sql = format!("SELECT count(*), coalesce(sum(n), 0) FROM {table}");
        connection.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    };
    assert_eq!(sums("a"), sums("b"));
    sums("a").0
}

/// Writes the snapshot to a file of its own and gives its path.
pub fn extract(fleet: &Fleet, snapshot: &Snapshot) -> PathBuf {
    let path = fleet.dir.path().join("extracted.db");
    let _ = std::fs::remove_file(&path);
    std::fs::write(&path, &snapshot.bytes).unwrap();
    path
}

/// Names, content and times of everything in a directory, and of the directory itself.
pub fn picture(dir: &Path) -> (SystemTime, BTreeMap<PathBuf, (SystemTime, Vec<u8>)>) {
    let files = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let modified = path.metadata().unwrap().modified().unwrap();
            let bytes = std::fs::read(&path).unwrap();
            (path, (modified, bytes))
        })
        .collect();
    (dir.metadata().unwrap().modified().unwrap(), files)
}

pub fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Long enough for a stamp to be trusted.
pub fn age() {
    std::thread::sleep(std::time::Duration::from_millis(2_050));
}

/// A file's content, read by another process.
pub fn cat(path: &Path) -> Vec<u8> {
    std::process::Command::new("cat").arg(path).output().unwrap().stdout
}
